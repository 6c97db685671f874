"""kernels/cuda/gates.py on made-up machine code: python3 tests/cuda/test_gates.py"""

import contextlib
import io
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.path[:0] = [str(Path(__file__).resolve().parents[2] / "kernels" / "cuda"), str(Path(__file__).resolve().parent)]
import gates
import library

def attend(kind, dim=128):
    return f"_ZN3kvc4cuda13attend_decodeILi{dim}ELi{dim}ELNS0_8PageKindE{[k.name for k in gates.KINDS].index(kind)}EEEvNS0_10AttendArgsEl"


def code(*lines, kind="int4"):
    """One instruction of 16 bytes for each line, as cuobjdump prints them."""
    text = "".join(f"        /*{16 * i:04x}*/    {line} ;   /* 0x0 */\n" for i, line in enumerate(lines))
    return next(gates.parse_functions(f"\n\t\tFunction : {attend(kind)}\n{text}"))


def loop(products, others, kind="int4"):
    """A loop of that many instructions, with a cold block of ten that a branch goes around."""
    body = ["HMMA.16816.F32 R0, R4, R8, R0"] * products + ["FADD R0, R0, R1"] * (others - 2)
    after = 16 * (len(body) + 1 + 10)
    return code(*body, f"@!P0 BRA {after:#x}", *["FSEL R0, R0, R1, P2"] * 10, "@P1 BRA 0x0", "EXIT", kind=kind)


class Gates(unittest.TestCase):
    def test_counts_the_way_around_cold_blocks(self):
        _, instructions = loop(76, 500)
        self.assertEqual((76, 576), gates.main_loop(instructions))

    def test_branches_of_diverged_lanes_and_of_predicates_among_operands_fall_through(self):
        for branch in ("BRA.DIV ~URZ, 0x1000", "BRA.CONV ~URZ, 0x1000", "BRA P1, 0x1000", "BRA !P0, 0x1000"):
            _, instructions = code(branch, *["HMMA.16816.F32 R0, R4, R8, R0"] * 3, "BRA 0x0", "EXIT")
            self.assertEqual((3, 5), gates.main_loop(instructions))
        _, instructions = code("BRA 0x1000", *["HMMA.16816.F32 R0, R4, R8, R0"] * 3, "BRA 0x0", "EXIT")
        self.assertEqual(0, gates.main_loop(instructions)[0])

    def test_within_budget_has_no_problem(self):
        line, problems = gates.check_kernel(*loop(76, 700), "sm_90a", 160, 0)
        self.assertEqual([], problems)
        self.assertIn("kernel=attend_decode arch=sm_90a kind=int4 bits=4/4 page=64 group=32 scale_bits=8 k_dim=128 v_dim=128 "
                      "instr_per_elem=1.52 regs=160 spills=0",
                      line)

    def test_prompt_kernels_are_counted_by_the_page(self):
        name = "_ZN3kvc4cuda13attend_promptILi128ELi128ELi2ELb0EEEvNS0_10PromptArgsE"
        _, instructions = loop(256, 700)
        line, problems = gates.check_kernel(name, instructions, "sm_90a", 255, 12)
        self.assertEqual([], problems)
        self.assertIn("kernel=attend_prompt arch=sm_90a k_dim=128 v_dim=128 rows=128 instr_per_product=3.73 regs=255 spills=12", line)
        for dims in ["Li192ELi64E", "Li96ELi160E"]:  # none is promised any but those that are listed
            other = name.replace("Li128ELi128E", dims)
            self.assertEqual([], gates.check_kernel(other, instructions, "sm_80", 255, 0)[1])
            self.assertEqual(["1 spills"], gates.check_kernel(other, instructions, "sm_80", 255, 1)[1])
        for listed in [name.replace("attend_prompt", "mass_prompt"), name.replace("Lb0E", "Lb1E")]:
            self.assertIn("12 spills", gates.check_kernel(listed, instructions, "sm_90a", 255, 12)[1])
        _, problems = gates.check_kernel(name.replace("Li2E", "Li1E"), instructions, "sm_80", 255, 1)
        self.assertEqual(["256 products for a page instead of 128", "1 spills"], problems)

    def test_prompt_kernels_have_bounds_of_their_architecture_at_head_dim_128(self):
        name = "_ZN3kvc4cuda13attend_promptILi128ELi128ELi2ELb0EEEvNS0_10PromptArgsE"
        _, instructions = loop(256, 900)
        for arch in ("sm_80", "sm_86", "sm_89", "sm_100", "sm_120"):
            _, fewer = loop(256, 700)
            self.assertEqual([], gates.check_kernel(name, fewer, arch, 255, 0)[1])
            self.assertEqual(["1 spills"], gates.check_kernel(name, fewer, arch, 255, 1)[1])
        self.assertEqual([], gates.check_kernel(name, instructions, "sm_120", 255, 0)[1])
        self.assertEqual(["over 4.10 instructions a product", "13 spills"], gates.check_kernel(name, instructions, "sm_90a", 255, 13)[1])
        self.assertEqual(["over 4.60 instructions a product"], gates.check_kernel(name, loop(256, 1000)[1], "sm_120", 255, 0)[1])
        _, instructions = loop(128, 500)
        self.assertEqual(["1 spills"], gates.check_kernel(name.replace("Li2E", "Li1E"), instructions, "sm_120", 255, 1)[1])

    def test_what_spills_may_not_do_so_in_the_loop_over_pages(self):
        name = "_ZN3kvc4cuda13attend_promptILi128ELi128ELi2ELb0EEEvNS0_10PromptArgsE"
        products = ["HMMA.16816.F32 R0, R4, R8, R0"] * 256
        inside = ["STL [R1], R2", "NOP", "LDL R3, [R1]", *products, "@P0 BRA 0x20", "@P1 BRA 0x0", "EXIT"]
        self.assertEqual(["1 spills in the loop over pages"], gates.check_kernel(name, code(*inside)[1], "sm_90a", 255, 4)[1])
        wide = name.replace("Li128ELi128ELi2E", "Li256ELi256ELi1E")
        self.assertIn("1 spills in the loop over pages",
                      gates.check_kernel(wide, code("LDL R3, [R1]", *products, "@P1 BRA 0x0", "EXIT")[1], "sm_80", 255, 0)[1])
        outside = ["STL [R1], R2", "LDL R3, [R1]", "NOP", *products, "@P0 BRA 0x20", "@P1 BRA 0x0", "EXIT"]
        self.assertEqual([], gates.check_kernel(name, code(*outside)[1], "sm_90a", 255, 4)[1])

    def test_two_words_may_spill_in_the_loop_of_one_kernel(self):
        name = "_ZN3kvc4cuda13attend_promptILi112ELi112ELi2ELb0EEEvNS0_10PromptArgsE"
        products = ["HMMA.16816.F32 R0, R4, R8, R0"] * 224
        for loads, arch, problems in ((2, "sm_100", []), (3, "sm_100", ["3 spills in the loop over pages"]),
                                      (2, "sm_90a", ["2 spills in the loop over pages"])):
            inside = ["STL [R1], R2", *["LDL R3, [R1]"] * loads, *products, "@P0 BRA 0x10", "@P1 BRA 0x0", "EXIT"]
            self.assertEqual(problems, [p for p in gates.check_kernel(name, code(*inside)[1], arch, 255, 4)[1] if "loop" in p])

    def test_too_many_instructions(self):
        _, problems = gates.check_kernel(*loop(76, 900), "sm_90a", 160, 0)
        self.assertEqual(["over 1.80 instructions an element"], problems)

    def test_each_kind_has_its_own_budget(self):
        _, problems = gates.check_kernel(*loop(76, 800, kind="int2"), "sm_90a", 160, 0)
        self.assertEqual(["over 1.65 instructions an element"], problems)
        for kind, limit in (("int4_g64", "1.55"), ("int4_g64m8", "1.55"), ("int2_g64", "1.40"), ("int2_g64m8", "1.45")):
            most = int(float(limit) * 512) - 76
            self.assertEqual([], gates.check_kernel(*loop(76, most, kind=kind), "sm_90a", 160, 0)[1])
            _, problems = gates.check_kernel(*loop(76, most + 8, kind=kind), "sm_90a", 160, 0)
            self.assertEqual([f"over {limit} instructions an element"], problems)
        _, problems = gates.check_kernel(*loop(76, 1800, kind="int8"), "sm_90a", 240, 0)
        self.assertEqual([], problems)

    def test_products_of_groups_and_of_rows(self):
        for kind, products in (("int3", 76), ("kivi4", 88), ("rows", 16), ("bf16_rows", 32)):
            line, problems = gates.check_kernel(*loop(products, 500, kind=kind), "sm_90a", 160, 0)
            self.assertEqual([], problems)
            self.assertIn(f"kind={kind} ", line)
            _, problems = gates.check_kernel(*loop(products - 1, 500, kind=kind), "sm_90a", 160, 0)
            self.assertEqual([f"{products - 1} products in the main loop instead of {products}"], problems)

    def test_kinds_are_those_of_the_kernels(self):
        self.assertEqual(["int8", "int4", "int3", "k3v2", "int2", "k8v4", "k4v2", "kivi4", "kivi2", "int4_g64m8", "int2_g64m8",
                          "int4_g64", "int2_g64", "rows", "bf16_rows"],
                         [kind.name for kind in gates.KINDS])

    def test_too_few_products_are_a_loop_that_does_not_do_its_work(self):
        _, problems = gates.check_kernel(*loop(75, 700), "sm_90a", 160, 0)
        self.assertEqual(["75 products in the main loop instead of 76"], problems)

    def test_a_pair_that_is_zeroed_and_tested_at_once_is_found(self):
        zero, move, test = "CS2R R58, SRZ", "@P0 IMAD.WIDE R58, R126, 0x8, R44", "ISETP.NE.U32.AND P3, PT, R58, RZ, PT"
        self.assertEqual([16], gates.stale_zeros(code("EXIT", zero, move, test)[1]))
        self.assertEqual([0], gates.stale_zeros(code(zero, move, "FADD R0, R0, R1", test.replace("R58", "R59"))[1]))
        self.assertEqual([], gates.stale_zeros(code(zero, move.replace("R58", "R60"), test)[1]))
        self.assertEqual([], gates.stale_zeros(code(zero, test, move)[1]))
        self.assertEqual([], gates.stale_zeros(code(zero, move, *["FADD R0, R0, R1"] * 4, test)[1]))
        _, problems = gates.check_kernel("_ZN3kvc4cuda12store_tokensE", code(zero, move, test)[1], "sm_90a", 10, 0)
        self.assertEqual(["tests a register pair that was zeroed just before, at 0x0"], problems)

    def test_time_of_compilation_is_that_of_all_kernels(self):
        with tempfile.TemporaryDirectory() as folder:
            objects = Path(folder) / "kernels" / "kvc_cuda.dir"
            objects.mkdir(parents=True)
            self.assertIsNone(library.compile_minutes(folder))
            for name, seconds in (("attend_int4.cu.o", 90), ("turn.cu.o", 30)):
                (objects / name).touch()
                self.assertIsNone(library.compile_minutes(folder))
                (objects / f"{name}.seconds").write_text(f"{seconds}.0\n")
            self.assertEqual(2.0, library.compile_minutes(folder))
            (objects / "turn.cu.o.seconds").write_text(f"{library.COMPILE_MINUTES_PER_ARCHITECTURE * 60 * 3 + 1}\n")
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(1, len(list(library.slow_compilation(folder, ["80-real", "120"]))))
                self.assertEqual(0, len(list(library.slow_compilation(folder, ["80-real", "86-real", "120"]))))
        self.assertEqual(3, library.codes_for(["80-real", "120"]))
        self.assertEqual(2, library.codes_for(["80-real", "120-virtual"]))
        self.assertEqual(["sm_80", "sm_90a", "sm_120", "compute_120"],
                         [library.name_of(arch) for arch in ("80-real", "90a-real", "120", "120-virtual")])

    def test_what_times_a_compiler_passes_its_status_on(self):
        timed = Path(__file__).resolve().parents[2] / "kernels" / "cuda" / "timed.py"
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "a.o"
            self.assertEqual(0, subprocess.run([sys.executable, timed, "sh", "-c", "exit 0", "-o", made], check=False).returncode)
            self.assertGreaterEqual(float(Path(f"{made}.seconds").read_text()), 0)
            self.assertEqual(3, subprocess.run([sys.executable, timed, "sh", "-c", "exit 3", "-o", f"{made}2"], check=False).returncode)
            self.assertFalse(Path(f"{made}2.seconds").exists())

    def test_local_memory(self):
        _, problems = gates.check_kernel(*loop(76, 700), "sm_80", 240, 8)
        self.assertEqual(["8 spills"], problems)

    def test_every_kernel_has_a_cap_of_registers(self):
        def problems_of(name, registers):
            return gates.check_kernel(name, loop(76, 700)[1], "sm_90a", registers, 0)[1]
        for name, most in ((attend("int4"), 248), ("_ZN3kvc4cuda12store_tokensE", 48), ("_ZN3kvc4cuda13quantize_pageE", 168)):
            self.assertEqual([], problems_of(name, most))
            self.assertEqual([f"{most + 1} registers, where it may have {most}"], problems_of(name, most + 1))
        self.assertEqual(["20 registers, where it may have 0"], problems_of("_ZN3kvc4cuda10new_kernelE", 20))
        self.assertIn("201 registers, where it may have 200", problems_of(attend("int4", 64), 201))
        self.assertNotIn("registers", " ".join(problems_of(attend("int4", 96), 255)))

    def test_decode_kernels_may_not_spill(self):
        for kind, products in (("int8", 148), ("kivi4", 176)):
            _, instructions = loop(products, 1000)
            for arch in ("sm_80", "sm_86", "sm_90a"):
                self.assertEqual([], gates.check_kernel(attend(kind, 256), instructions, arch, 255, 0)[1])
                self.assertEqual(["1 spills"], gates.check_kernel(attend(kind, 256), instructions, arch, 255, 1)[1])

    def test_general_prompt_kernels_may_spill_at_head_dim_256_alone(self):
        name = "_ZN3kvc4cuda13attend_promptILi256ELi256ELi1ELb1EEEvNS0_10PromptArgsE"
        _, instructions = loop(256, 900)
        self.assertEqual([], gates.check_kernel(name, instructions, "sm_86", 255, 10)[1])
        self.assertEqual(["11 spills"], gates.check_kernel(name, instructions, "sm_86", 255, 11)[1])
        self.assertEqual(["1 spills"], gates.check_kernel(name, instructions, "sm_90a", 255, 1)[1])
        self.assertIn("1 spills", gates.check_kernel(name.replace("Li256ELi256E", "Li128ELi128E"), instructions, "sm_86", 255, 1)[1])
        self.assertEqual(["1 spills"], gates.check_kernel(name.replace("Lb1E", "Lb0E"), instructions, "sm_86", 255, 1)[1])

    def test_shared_memory_is_that_of_the_launches_and_of_the_machine_code(self):
        name = attend("int8", 256)
        text = "".join(f"{arch} {name} {bytes}\n" for arch, bytes in (
            ("sm_80", 33024), ("sm_86", 33024), ("sm_89", 101376), ("sm_90", 139392), ("sm_100", 232448), ("sm_120", 101376)))
        launches = gates.read_launches(text)
        self.assertEqual((232448, []), gates.check_shared(name, 0, launches))
        self.assertEqual((232456, ["101384 bytes of shared memory on sm_89, where a block may have 101376",
                                   "232456 bytes of shared memory on sm_100, where a block may have 232448",
                                   "101384 bytes of shared memory on sm_120, where a block may have 101376"]),
                         gates.check_shared(name, 8, launches))
        # The launch of a ring that does not fit, as int8 at head dim 256 once asked for it.
        launches[name]["sm_120"] = 139392
        self.assertEqual(["139392 bytes of shared memory on sm_120, where a block may have 101376"],
                         gates.check_shared(name, 0, launches)[1])

    def test_a_kernel_that_nothing_launches_has_no_known_shared_memory(self):
        launches = gates.read_launches("".join(f"{arch} kernel 0\n" for arch in gates.SHARED_MAX if arch != "sm_120"))
        self.assertEqual((48, ["nothing launches it on sm_120"]), gates.check_shared("kernel", 48, launches))
        self.assertEqual(len(gates.SHARED_MAX), len(gates.check_shared("another", 48, launches)[1]))

    def test_static_shared_memory_leaves_out_what_the_runtime_takes(self):
        listing = " Function kernel:\n  REG:255 STACK:16 SHARED:5120 LOCAL:0 CONSTANT[0]:1024\n"
        self.assertEqual({"kernel": 4096}, gates.static_shared(listing, "sm_90a"))
        self.assertEqual({"kernel": 5120}, gates.static_shared(listing, "sm_89"))

    def test_spill_instructions_count(self):
        _, instructions = code("STL [R1], R0", "LDL R0, [R1]", "EXIT")
        _, problems = gates.check_kernel("_ZN3kvc4cuda12store_tokensE", instructions, "sm_80", 10, 0)
        self.assertEqual(["2 spills"], problems)


class Expectation(unittest.TestCase):
    """What has to be there, on a build folder of made-up objects: a file that says which architectures it has kernels for."""

    units = sorted(path.name for path in Path(gates.__file__).parent.glob("*.cu"))

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.build = Path(folder.name)
        self.launched = [self.kernel_of(unit) for unit in self.units]
        self.without_kernels = []  # (folder, object, architecture)
        for patch in (mock.patch.object(gates, "run", self.run_tool), mock.patch.object(gates, "find_cuobjdump", lambda: "cuobjdump")):
            patch.start()
            self.addCleanup(patch.stop)
        self.list_units("kvc_cuda 80-real;120;121-virtual " + ";".join(self.units), "kvc_cuda_families 86-real turn.cu")
        for unit in self.units:
            self.make_object("kvc_cuda", unit, "sm_80", "sm_120")

    def list_units(self, *lines):
        (self.build / "kernels/cuda").mkdir(parents=True, exist_ok=True)
        (self.build / "kernels/cuda/units.txt").write_text("".join(line + "\n" for line in lines))

    def object_of(self, target, unit):
        return self.build / f"kernels/cuda/CMakeFiles/{target}.dir/{unit}.o"

    def make_object(self, target, unit, *archs):
        self.object_of(target, unit).parent.mkdir(parents=True, exist_ok=True)
        self.object_of(target, unit).write_text(" ".join(archs))

    @staticmethod
    def kernel_of(unit):
        return f"_ZN3kvc4cuda12store_tokensI{unit.removesuffix('.cu')}E"

    def run_tool(self, command):
        if Path(command[0]).name == "kvc_cuda_launches":
            return "".join(f"{arch} {name} 0\n" for arch in gates.SHARED_MAX for name in self.launched)
        archs, name = command[-1].read_text().split(), self.kernel_of(command[-1].name.removesuffix(".o"))
        if command[1] == "-lelf":
            return "".join(f"ELF file {i}: a.{i}.{arch}.cubin\n" for i, arch in enumerate(archs))
        if (command[-1].parent.name, command[-1].name, command[2]) in self.without_kernels:
            return ""
        if "-res-usage" in command:
            return f" Function {name}:\n  REG:20 STACK:0 SHARED:1024 LOCAL:0 CONSTANT[0]:0\n"
        return f"\n\t\tFunction : {name}\n        /*0000*/    EXIT ;   /* 0x0 */\n"

    def failures(self, *options):
        with mock.patch.object(sys, "argv", ["gates.py", str(self.build), *options]), contextlib.redirect_stdout(io.StringIO()), \
                contextlib.redirect_stderr(io.StringIO()) as said:
            status = gates.main()
        found = [line.removeprefix("gates: FAILED: ") for line in said.getvalue().splitlines()]
        self.assertEqual(status, 1 if found else 0)
        return found

    def test_all_units_in_all_architectures_are_enough(self):
        self.assertEqual([], self.failures())

    def test_a_unit_without_an_object_is_missing(self):
        self.launched = [self.kernel_of("turn.cu")]
        for unit in self.units:
            if unit != "turn.cu":
                self.object_of("kvc_cuda", unit).unlink()
        self.assertEqual([f"kvc_cuda has no object of {unit}" for unit in self.units if unit != "turn.cu"], self.failures())

    def test_a_unit_that_the_build_does_not_list_is_missing_too(self):
        self.list_units("kvc_cuda 80-real;120 turn.cu", "kvc_cuda_families 86-real turn.cu")
        self.object_of("kvc_cuda", "mass.cu").unlink()
        self.assertIn("kvc_cuda has no object of mass.cu", self.failures())

    def test_an_architecture_that_was_asked_for_is_missing(self):
        self.make_object("kvc_cuda", "mass.cu", "sm_80")
        name = self.kernel_of("mass.cu")
        self.assertEqual(["mass.cu of kvc_cuda has no code for sm_120",
                          f"kernel=store_tokens arch=sm_120: is launched and has no machine code: {name}"], self.failures())

    def test_a_kernel_that_is_launched_and_not_there_is_missing(self):
        another = attend("int4", 64)
        self.launched.append(another)
        self.assertEqual([f"kernel=attend_decode arch={arch}: is launched and has no machine code: {another}" for arch in ("sm_80", "sm_120")],
                         self.failures())

    def test_a_unit_without_kernels_is_none_that_lacks_them_for_one_architecture(self):
        self.list_units("kvc_cuda 80-real;120 " + ";".join(self.units), "kvc_cuda_families 80-real;86-real turn.cu")
        self.make_object("kvc_cuda_families", "turn.cu", "sm_80", "sm_86")
        self.without_kernels = [("kvc_cuda_families.dir", "turn.cu.o", "sm_86")]
        self.assertEqual([f"turn.cu of kvc_cuda_families has no kernel {self.kernel_of('turn.cu')} for sm_86"], self.failures("--families"))
        self.without_kernels.append(("kvc_cuda_families.dir", "turn.cu.o", "sm_80"))
        self.assertEqual([], self.failures("--families"))

    def test_a_library_that_launches_nothing_is_refused(self):
        self.launched = []
        with self.assertRaisesRegex(SystemExit, "kvc_cuda_launches launches nothing"):
            self.failures()

    def test_families_are_missing_where_they_are_asked_for(self):
        self.assertEqual(["kvc_cuda_families has no object of turn.cu"], self.failures("--families"))
        self.make_object("kvc_cuda_families", "turn.cu", "sm_86")
        self.assertEqual([], self.failures("--families"))

    def test_a_folder_that_says_nothing_is_refused(self):
        for lines in ([], ["kvc_cuda 121-virtual turn.cu"]):
            self.list_units(*lines)
            with self.assertRaisesRegex(SystemExit, "asks for no machine code of kvc_cuda"):
                self.failures()
        (self.build / "kernels/cuda/units.txt").unlink()
        with self.assertRaisesRegex(SystemExit, "is not there"):
            self.failures()


if __name__ == "__main__":
    unittest.main()
