"""bench/gpu's report and steps on made-up results: python3 tests/cuda/test_gpu_report.py"""

import fnmatch
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/gpu"))
import bitdecoding_decode  # noqa: E402
import programs  # noqa: E402
import report  # noqa: E402
import steps  # noqa: E402

MAIN = "batch16-32k-gqa4"
MACHINE = {"kind": "machine", "device": "NVIDIA H100 80GB HBM3", "driver": "13.0", "runtime": "13.0", "multiprocessors": 132,
           "timed": True, "library_split_tokens": 4096, "read_bytes_per_second": 3.0e12, "copy_bytes_per_second": 2.8e12}


def decode(codec, us, share=0.93, correct=True, case=MAIN):
    return {"kind": "decode", "case": case, "codec": codec, "us": us, "us_low": us - 1, "us_high": us + 1, "attend_us": us - 4, "mass_us": us / 2, "page_us": us * 1.04, "operations_per_second": 9e12,
            "split_tokens": 4096, "us_of_split": {"4096": us, "2048": us + 9}, "bytes_per_second": 2.8e12, "share_of_read": share, "bytes_per_element": 0.547, "out_error": 5e-4,
            "correct": correct}


def evict(by, us, waits=0):
    return {"kind": "evict", "case": "batch1-32k", "codec": "int4", "by": by, "layers": 8, "tokens": 64, "us": us, "us_low": us, "us_high": us,
            "host_us": us / 2, "halving_us": 9 * us, "waits": waits, "correct": True}


def peer(codec, us):
    return {"kind": "peer", "peer": "flashinfer 0.6.6", "case": MAIN, "codec": codec, "us": us, "us_low": us, "us_high": us,
            "bytes_per_second": 3e12, "variant": "fa2 HND page 64", "timing": "graph"}


def other(codec, us, name="llama.cpp, ggml 1"):
    failed = {"us": None, "variants": {"k-channel": "failed: RuntimeError"}}
    return {**peer(codec, 1.0), "peer": name, "out_error": 4e-3, **(failed if us is None else {"us": us, "us_low": us, "us_high": us})}


def verdicts(kvc, others, timed=True):
    return {row[0]: row[2:] for row in report.goal_rows(kvc, others, timed)}


class Goals(unittest.TestCase):
    def test_reached_and_missed(self):
        found = verdicts([decode("int4", 200.0), decode("fp16", 700.0)], [peer("fp16", 660.0), peer("fp8", 320.0)])
        self.assertEqual(found[f"decode int4, {MAIN}: time"], ("200.0 us", "reached"))
        self.assertEqual(found[f"decode int4, {MAIN}: times FlashInfer fp16"], ("3.30 x", "reached"))
        self.assertEqual(found[f"decode int4, {MAIN}: times FlashInfer fp8"], ("1.60 x", "MISSED"))
        self.assertEqual(found[f"decode int4, {MAIN}: share of read bandwidth"], ("93.0 %", "reached"))
        self.assertEqual(found[f"decode fp16, {MAIN}: times FlashInfer fp16"], ("0.94 x", "MISSED"))
        self.assertEqual(found[f"decode int2, {MAIN}: time"], ("unmeasured", "unmeasured"))

    def test_a_wrong_result_has_no_time(self):
        found = verdicts([decode("int4", 100.0, correct=False)], [peer("fp16", 660.0)])
        self.assertEqual({v for goal, v in found.items() if "int4" in goal}, {("unmeasured", "unmeasured")})

    def test_times_are_goals_of_one_card(self):
        found = verdicts([{**MACHINE, "device": "NVIDIA H200"}, decode("int4", 150.0)], [peer("fp16", 500.0)])
        self.assertEqual(found[f"decode int4, {MAIN}: time"], ("150.0 us", "a goal of the H100"))
        self.assertEqual(found[f"decode int4, {MAIN}: times FlashInfer fp16"], ("3.33 x", "reached"))

    def test_without_a_peer_there_is_no_ratio(self):
        found = verdicts([decode("int4", 200.0)], [])
        self.assertEqual(found[f"decode int4, {MAIN}: time"][1], "reached")
        self.assertEqual(found[f"decode int4, {MAIN}: times FlashInfer fp16"], ("unmeasured", "unmeasured"))

    def test_llama_cpp_is_compared_at_as_many_bits(self):
        goal = f"decode int4, {MAIN}: times llama.cpp q4_0"
        kvc = [decode("int4", 200.0)]
        self.assertEqual({row[0]: row[2:] for row in report.goal_rows(kvc, [], True, [other("q4_0", 700.0)])}[goal], ("3.50 x", "reached"))
        self.assertEqual({row[0]: row[2:] for row in report.goal_rows(kvc, [], True, [other("q8_0", 700.0)])}[goal], ("unmeasured", "unmeasured"))

    def test_prompts_are_compared_with_prompts(self):
        mine, other = decode("int4", 1000.0, case="prompt2k-32k"), peer("fp16", 900.0)
        found = verdicts([{**mine, "kind": "prompt"}], [{**other, "case": "prompt2k-32k"}])
        self.assertEqual(found["prompt int4, prompt2k-32k: times FlashInfer fp16"], ("0.90 x", "reached"))
        self.assertEqual(verdicts([{**mine, "kind": "prompt"}], [other])["prompt int4, prompt2k-32k: times FlashInfer fp16"][0], "unmeasured")

    def test_appending_is_a_share_of_the_step(self):
        append = {"kind": "append", "case": MAIN, "codec": "int4", "pages": 128, "quantize_us": 64.0, "store_us": 3.0, "step_us": 4.0}
        found = verdicts([decode("int4", 200.0), append], [])
        self.assertEqual(found[f"append int4, {MAIN}: of a decode step"], ("2.0 %", "reached"))

    def test_page_scores_are_a_share_of_the_step_that_has_none(self):
        found = verdicts([decode("int4", 200.0), decode("int2", 100.0)], [])
        self.assertEqual(found[f"page scores int4, {MAIN}: on top of a step"], ("4.0 %", "MISSED"))
        self.assertEqual(found[f"page scores int2, {MAIN}: on top of a step"], ("4.0 %", "reached"))

    def test_an_eviction_waits_for_nothing_and_takes_its_time(self):
        what, time = ("eviction int4, batch1-32k: waits for the device", "eviction int4, batch1-32k: time a layer")
        found = verdicts([evict("scores", 25.0)], [])
        self.assertEqual((found[what], found[time]), (("0", "reached"), ("25.0 us", "reached")))
        found = verdicts([evict("recent", 2.0), evict("scores", 31.0, waits=1)], [])
        self.assertEqual((found[what], found[time]), (("1", "MISSED"), ("31.0 us", "MISSED")))

    def test_all_goals_of_the_design_are_named_without_a_gpu_too(self):
        found = verdicts([], [], timed=False)
        for part in ("page scores int4", "page scores int2", "eviction int4", "append int4", "prompt int4", "times llama.cpp", "batch1-1m"):
            self.assertTrue(any(part in goal for goal in found), part)

    def test_times_of_the_emulator_count_for_nothing(self):
        found = verdicts([decode("int4", 1.0), evict("scores", 1.0)], [peer("fp16", 660.0)], timed=False)
        self.assertEqual(set(found.values()), {("unmeasured", "unmeasured")})


class Markdown(unittest.TestCase):
    outcomes = [{"name": "kernel tests", "state": "passed", "seconds": 9.0}]

    def test_of_a_gpu(self):
        skipped = {"kind": "skipped", "case": MAIN, "codec": "int2", "reason": "cuda: no kernels"}
        text = report.markdown(["kvc abc"], [MACHINE, decode("int4", 200.0), evict("scores", 25.0), skipped], [peer("fp16", 660.0)],
                               self.outcomes)
        for wanted in ("# The CUDA kernels on a GPU", "NVIDIA H100 80GB HBM3", "flashinfer 0.6.6", "| kernel tests | passed | 9 |",
                       "| 3.30 x |", "| int4 | 4096: 200.0 | 2048: 209.0 |", "| 100.0 | 208.0 |", "| batch1-32k | int4 | scores | 8 | 25.0 | 25.0-25.0 | 12.5 | 225.0 | 0 | yes |", "not measured: int2", "reads 3,000 GB/s"):
            self.assertIn(wanted, text)

    def test_of_other_peers(self):
        others = [other("q4_0", 700.0), other("f16", 500.0), other("int2", None, "BitDecoding 1.0")]
        text = report.markdown(["kvc abc"], [MACHINE, decode("int4", 200.0)], [], self.outcomes, others)
        for wanted in (f"| llama.cpp, ggml 1 | {MAIN} | q4_0 | 700.0 | 700.0-700.0 | 3,000 | 4.0e-03 | fa2 HND page 64, graph | 3.50 x |",
                       "500.0-500.0 | 3,000 | 4.0e-03 | fa2 HND page 64, graph | unmeasured |",
                       f"| BitDecoding 1.0 | {MAIN} | int2 | unmeasured |", "k-channel: failed: RuntimeError"):
            self.assertIn(wanted, text)
        missing = report.markdown([], [], [], [{"name": "llama.cpp", "state": "not there", "seconds": 0.0}])
        self.assertIn("- llama.cpp was not there", missing)
        self.assertNotIn("BitDecoding", missing)

    def test_of_a_dry_run(self):
        text = report.markdown(["kvc abc"], [{**MACHINE, "timed": False}, decode("int4", 200.0, correct=False)], [], self.outcomes)
        self.assertIn("no time of a GPU", text)
        self.assertIn("0 of 1 results were right", text)
        self.assertNotIn("200.0", text)

    def test_of_nothing(self):
        self.assertIn("Nothing was measured", report.markdown([], [], [], []))

    def test_is_named_after_the_card(self):
        self.assertEqual(report.file_stem(MACHINE), f"{report.date()}-h100-80gb-hbm3")


class Programs(unittest.TestCase):
    """Where bench/gpu/run takes its programs from, with tools that only note how they were called."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root, self.tools = Path(folder.name) / "kvc", Path(folder.name) / "tools"
        self.root.mkdir(), self.tools.mkdir()
        mine = {name: value for name, value in os.environ.items() if name not in ("CUDACXX", "CUDA_PATH", "KVC_CUDA_ARCHS")}
        for patch in (mock.patch.dict(os.environ, {**mine, "PATH": f"{self.tools}"}, clear=True),
                      mock.patch.object(programs, "TOOLKITS", [])):
            patch.start()
            self.addCleanup(patch.stop)

    def tool(self, name, script):
        (self.tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / name).chmod(0o755)

    def cmake(self):
        self.tool("nvcc", "exit 1")
        self.tool("cmake", f'echo "$*" >> {self.root}/calls')

    def calls(self):
        return (self.root / "calls").read_text().splitlines()

    def test_are_built_where_nvcc_is_for_the_card_that_is_there(self):
        self.cmake()
        self.tool("nvidia-smi", "echo 8.9")
        folder, outcome = programs.find_or_build(self.root, None)
        self.assertEqual((folder, outcome.state), (self.root / "build/cuda/programs", "passed"))
        configure, build = self.calls()
        self.assertEqual(configure, "--preset cuda -DKVC_CUDA_ARCHS=89-real")
        self.assertEqual(build.split(" --target ")[1].split(), list(programs.PROGRAMS))

    def test_are_built_for_what_is_asked_for(self):
        self.cmake()
        self.tool("nvidia-smi", "echo 9.0")
        with mock.patch.dict(os.environ, {"KVC_CUDA_ARCHS": "80-real;120"}):
            programs.find_or_build(self.root, None)
        self.assertEqual(self.calls()[0], "--preset cuda -DKVC_CUDA_ARCHS=80-real;120")

    def test_of_an_earlier_build_are_brought_up_to_date_as_they_are(self):
        self.cmake()
        self.tool("nvidia-smi", "echo 9.0")
        (self.root / "build/cuda").mkdir(parents=True)
        (self.root / "build/cuda/CMakeCache.txt").write_text("KVC_CUDA_ARCHS:STRING=80-real;90a-real\n")
        programs.find_or_build(self.root, None)
        self.assertEqual(self.calls()[0], "--preset cuda -DKVC_CUDA_ARCHS=80-real;90a-real")
        self.tool("nvidia-smi", "echo 12.0")
        programs.find_or_build(self.root, None)
        self.assertEqual(self.calls()[2], "--preset cuda -DKVC_CUDA_ARCHS=120-real")

    def test_that_do_not_build_end_the_run(self):
        self.cmake()
        self.tool("cmake", "echo no such thing; exit 3")
        with self.assertRaisesRegex(SystemExit, "no such thing"):
            programs.find_or_build(self.root, None)

    def test_that_came_along_are_taken_as_they_are(self):
        self.cmake()
        self.assertEqual(programs.find_or_build(self.root, Path("/packed")), (Path("/packed"), None))
        self.assertFalse((self.root / "calls").exists())

    def test_of_an_earlier_build_do_without_nvcc(self):
        with self.assertRaisesRegex(SystemExit, "neither nvcc.*bench/gpu/pack"):
            programs.find_or_build(self.root, None)
        (self.root / "build/cuda/programs").mkdir(parents=True)
        self.assertEqual(programs.find_or_build(self.root, None), (self.root / "build/cuda/programs", None))

    def test_go_along_to_another_machine_all_of_them(self):
        pack = (ROOT / "bench/gpu/pack").read_text()
        for name, wanted in (("programs", programs.PROGRAMS), ("emulated", programs.EMULATED)):
            self.assertEqual(re.search(rf"^{name}=\((.*?)\)", pack, re.MULTILINE)[1].split(), list(wanted))

    def test_of_a_dry_run_are_found_where_they_were_packed_and_missed_by_name(self):
        with self.assertRaisesRegex(SystemExit, "/packed/kvc_gpu_bench_emulated.* is not there: bench/gpu/pack"):
            programs.find_emulated(self.root, Path("/packed"))
        with self.assertRaisesRegex(SystemExit, "build/release/programs/kvc_gpu_bench_emulated.* is not there: make"):
            programs.find_emulated(self.root, None)
        for packed, folder in ((None, self.root / "build/release/programs"), (self.tools, self.tools)):
            folder.mkdir(parents=True, exist_ok=True)
            for name in programs.EMULATED:
                (folder / name).touch()
            self.assertEqual(programs.find_emulated(self.root, packed), {name: folder / name for name in programs.EMULATED})


class WholeRun(unittest.TestCase):
    def test_needs_neither_git_nor_anything_else_in_the_path(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in programs.EMULATED:
                (Path(folder) / name).touch()
            done = subprocess.run([sys.executable, ROOT / "bench/gpu/run", "--dry-run", "--only", "nothing", "--packed", folder, "--results",
                                   folder], env={"PATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}, capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn("kvc of an unknown revision", done.stdout)
        self.assertIn("page scores int4", done.stdout)


class BitDecoding(unittest.TestCase):
    def test_a_number_takes_its_bits_and_a_share_of_its_scale(self):
        numbers = 2 * 3 * 1024 * 8 * 128
        for bits in (4, 2):
            for mode in ("k-channel", "k-tensor"):
                self.assertEqual(bitdecoding_decode.bytes_of(3, 1024, bits, mode), numbers * (bits / 8 + 4 / 128))

    def test_takes_the_decode_cases_of_its_head_dim(self):
        self.assertEqual([fields[0] for fields in bitdecoding_decode.cases(quick=True)], [MAIN, "batch1-32k", "batch1-128k"])


class Steps(unittest.TestCase):
    def outcome(self, script, limit_s=60):
        with tempfile.TemporaryDirectory() as folder:
            return steps.run_step(steps.Step("a step", [sys.executable, "-c", script], limit_s), folder, limit_s)

    def test_each_end_has_its_name(self):
        self.assertEqual(self.outcome("print(7)").state, "passed")
        self.assertEqual(self.outcome("print(7)").tail, "7")
        self.assertEqual(self.outcome("raise SystemExit(3)").state, "failed (3)")
        self.assertEqual(self.outcome("raise SystemExit(77)").state, "not there")
        self.assertEqual(self.outcome("import time; time.sleep(60)", limit_s=1).state, "timed out after 1 s")

    def test_a_program_that_is_not_there_stops_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(steps.run_step(steps.Step("a step", ["/no/such/program"], 1), folder, 60).state, "not there")

    def test_only_peers_may_be_missing(self):
        for name in ("FlashInfer", "llama.cpp", "BitDecoding", steps.COMPILING):
            self.assertTrue(steps.is_fine({"name": name, "state": "not there"}))
            self.assertFalse(steps.is_fine({"name": name, "state": "failed (1)"}))
        self.assertFalse(steps.is_fine({"name": "kernel tests", "state": "not there"}))
        self.assertTrue(steps.is_fine({"name": "kernel tests", "state": "passed"}))

    def test_without_time_nothing_runs(self):
        self.assertEqual(self.outcome("print(7)", limit_s=0).state, "not run: no time was left")

    def test_a_run_tells_what_failed_from_what_lacked_time(self):
        def status(*states):
            return steps.exit_status([{"name": name, "state": state} for name, state in zip(("kvc", "FlashInfer", "memcheck"), states)])
        self.assertEqual(status("passed", "not there", "passed"), 0)
        self.assertEqual(status("passed", "timed out after 60 s", "not run: no time was left"), 3)
        self.assertEqual(status("passed", "timed out after 60 s", "failed (9)"), 1)
        self.assertEqual(status("not there", "passed", "timed out after 60 s"), 1)

    def test_tests_come_before_times_and_these_before_slow_tools(self):
        for quick, tools in ((True, 1), (False, 4)):
            names = [step.name for step in steps.gpu_steps(Path("/root"), Path("/programs"), Path("/scratch"), quick)]
            self.assertEqual(names[:7], [steps.COMPILING, "kernel tests", "device tests", "cache scripts", "cache laws", "kvc", "FlashInfer"])
            self.assertEqual(names[10:12], ["llama.cpp", "BitDecoding"])
            self.assertEqual(len(names), 9 + 3 * tools)
            self.assertEqual([name.split(",")[0] for name in names if "," in name], [tool for tool in steps.SANITIZER_TOOLS[:tools] for _ in range(3)])

    def test_the_whole_native_suite_runs_alone_and_but_for_caches_under_every_tool(self):
        todo = steps.gpu_steps(Path("/root"), Path("/programs"), Path("/scratch"), False)
        for program in programs.PROGRAMS:
            commands = [[str(part) for part in step.command] for step in todo if Path("/programs") / program in step.command]
            self.assertEqual(len([c for c in commands if c[0] == f"/programs/{program}"]), 1)
            tools = set() if program in ("kvc_cuda_native_scripts_tests", "kvc_cuda_native_laws_tests") else set(steps.SANITIZER_TOOLS)
            self.assertEqual({c[2] for c in commands if c[0] == "compute-sanitizer"}, tools)

    def test_a_step_has_its_own_environment_beside_the_run_s(self):
        with tempfile.TemporaryDirectory() as folder:
            step = steps.Step("a step", ["sh", "-c", "echo $KVC_LAWS_THINNED $KVC_OF_RUN"], 60, environment={"KVC_LAWS_THINNED": "1"})
            with mock.patch.dict(os.environ, {"KVC_OF_RUN": "2"}):
                self.assertEqual(steps.run_step(step, folder, 60).tail, "1 2")

    def test_cases_that_the_slow_tools_run_are_there(self):
        sources = (ROOT / "tests/cuda/native/device").glob("*.cpp")
        cases = [name for source in sources for name in re.findall(r'TEST_CASE\("(.*)"\)', source.read_text())]
        for pattern in steps.SHORT_DEVICE_CASES:
            self.assertEqual(len(fnmatch.filter(cases, pattern)), 1, pattern)

    def test_cases_of_a_dry_run_are_there(self):
        for folders, wanted in ((("cuda/scripts",), steps.DRY_SCRIPTS), (("laws",), steps.DRY_LAWS)):
            sources = [path for folder in folders for path in (ROOT / "tests" / folder).glob("*.cpp")]
            cases = [name for source in sources for name in re.findall(r'TEST_CASE\("(.*)"\)', source.read_text())]
            for pattern in wanted[0].removeprefix("-tc=").split(","):
                self.assertTrue(fnmatch.filter(cases, pattern), pattern)

    def test_a_step_of_a_gpu_machine_never_takes_the_whole_loan(self):
        self.assertLess(steps.BUDGET_S, 600)  # of 15 minutes that include starting, and trying once more
        self.assertLess(steps.QUICK_BUDGET_S, 240)

    def test_peers_are_tried_without_a_gpu_too_and_what_was_not_built_says_so(self):
        emulated = {name: Path("/programs") / name for name in programs.EMULATED}
        todo = {step.name: step for step in steps.dry_steps(Path("/root"), emulated, Path("/scratch"), Path("/no/such/peers"))}
        self.assertEqual(list(todo)[1:], ["cache scripts", "cache laws", *steps.PEERS])
        with tempfile.TemporaryDirectory() as folder:
            outcome = steps.run_step(todo["llama.cpp"], folder, 60)
        self.assertEqual((outcome.state, outcome.tail), ("not there", "llama.cpp was not built (bench/gpu/build_peers)"))


if __name__ == "__main__":
    unittest.main()
