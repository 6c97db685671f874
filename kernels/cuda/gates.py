"""Counts what the machine code of the CUDA kernels costs, and refuses what is over budget.

    gates.py BUILD_FOLDER [--families]

One line a kernel: instructions that a warp issues for each element of its main loop (keys and values, a lane's share), registers,
spills, and the most shared memory of a block (static and dynamic, on any architecture of the list, in bytes). The count is of the path
through the loop that a page takes whose tokens are all seen; blocks that only masked pages enter are not on it.

What is missing is over budget, too: an object for each unit of this folder, machine code in it for each architecture of the build
(kernels/cuda/units.txt, which the build writes, has both), and every kernel that the library launches, in each of these architectures.
--families: likewise one kernel of each family for the other architectures (kvc_cuda_families).

How much dynamic shared memory a launch asks for is not written down here: the program kvc_cuda_launches of the build makes the library's
launches for every architecture and tells.
"""

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

LANES = 32
PAGE = 64

# docs/design/cuda.md says where these come from.
INSTRUCTIONS_MAX = {"int4": 1.80, "int2": 1.65, "int4_g64": 1.55, "int2_g64": 1.40,
                    "int4_g64m8": 1.55, "int2_g64m8": 1.45}  # an element, at head dim 128
PROMPT_INSTRUCTIONS_MAX = 4.10  # a product, of a page at head dim 128 with two tiles
# What may spill: words that are used once for 32 pages, outside the loop over pages, by prompt kernels with two tiles of rows a warp and, at
# head dim 256, by the general ones (docs/design/cuda.md, 4). Bytes with their stores and loads, by key and value dims and architecture. All
# others, decode kernels among them, nothing.
PROMPT_SPILLS_MAX = {
    (128, 128): {"sm_90a": 12},
    (192, 128): {"sm_80": 10, "sm_86": 10, "sm_89": 10, "sm_90a": 12},
    (112, 112): {"sm_80": 28, "sm_86": 28, "sm_89": 28, "sm_90a": 30, "sm_100": 12},
}
LOOP_SPILLS_MAX = {(112, 112): {"sm_100": 2}}  # of these, within the loop
GENERAL_SPILLS_MAX = {(256, 256): {"sm_80": 10, "sm_86": 10, "sm_89": 10}}
# Registers of a thread. Of 65,536, blocks of 128 threads share a multiprocessor: 255 leave room for two, 168 for three, 128 for four, 96
# for five, 64 for eight, 48 for ten. Every kernel has its cap; decode kernels tighter ones at the head dims that most models have.
REGISTERS_MAX = {
    "attend_decode": 255, "attend_prompt": 255, "mass_decode": 240, "mass_prompt": 168, "quantize_page": 168, "recode_pages": 168,
    "match_followers": 128, "match_kept": 128, "mean_rows": 96, "measure_keys": 96, "align_keys": 96, "measure_values": 96,
    "finish_rows": 64, "sum_runs": 64, "store_tokens": 48, "count_pages": 48, "turn_rows": 48,
}
DECODE_REGISTERS_MAX = {(64, 64): 200, (128, 128): 248}
# Kilobytes of shared memory that a block may have, static and dynamic together (CUDA C++ Programming Guide, compute capabilities).
SHARED_MAX = {"sm_80": 163, "sm_86": 99, "sm_89": 99, "sm_90": 227, "sm_100": 227, "sm_120": 99}
SHARED_OF_RUNTIME = 1024  # that cuobjdump counts in from sm_90 on, and the limits do not
# NOPs that ptxas puts behind products.
PROMPT_INSTRUCTIONS_MAX_OF = {"sm_120": 4.60}


@dataclass(frozen=True)
class Kind:
    """A kind of pages, as kernels/cuda/page_kind.h lists it."""
    name: str
    k_bits: int
    v_bits: int
    k_group: int   # tokens
    k_meta_bits: int
    v_group: int   # channels; 0: scales of tokens

    @property
    def coded(self):
        return self.k_bits < 16

    @property
    def tokens_of_turn(self):
        """Tokens that one turn of the main loop takes."""
        return PAGE if self.coded else 16

    def products_of_turn(self, k_dim, v_dim):
        """Tensor-core products that a turn must take: what a path with fewer leaves out, it does not compute."""
        if not self.coded:
            return (k_dim + v_dim) // 16 * (2 if self.name == "bf16_rows" else 1)
        # Of a fragment of keys four for the codes and one for the zero points; of values four, and four for the middle of the codes, or
        # for the zero points of each group of 32 channels.
        return k_dim // 16 * (4 + 1) + v_dim // 16 * 4 + 4 * (v_dim // self.v_group if self.v_group else 1)


def read_kinds():
    """The kinds in the order of their numbers."""
    header = (Path(__file__).parent / "page_kind.h").read_text(encoding="utf-8")
    found = re.findall(r"X\((\w+), (\d), (\d), (\d+), (\d+), (\d+)\)", header)
    kinds = [Kind(name, *(int(number) for number in numbers)) for name, *numbers in found]
    return kinds + [Kind("rows", 16, 16, 0, 0, 0), Kind("bf16_rows", 16, 16, 0, 0, 0)]


KINDS = read_kinds()


@dataclass(frozen=True)
class Instruction:
    address: int
    text: str

    @property
    def operation(self):
        return re.sub(r"^@!?U?P\w+\s+", "", self.text).split()[0]

    @property
    def conditional(self):
        """Whether it may not be carried out: by its predicate, by one among its operands, or a branch of lanes that have diverged."""
        return bool(self.text.startswith("@") or re.match(r"BRA\.(DIV|CONV)\b|BRA\S* !?U?P", self.text))

    @property
    def target(self):
        """Where a branch goes, or None."""
        if self.operation.split(".")[0] != "BRA":
            return None
        return int(re.findall(r"0x[0-9a-f]+", self.text)[-1], 16)

    @property
    def falls_through(self):
        return self.conditional or self.operation.split(".")[0] not in ("BRA", "EXIT", "RET", "BRX", "JMP")


def parse_functions(sass):
    """Mangled name -> instructions, in order of address."""
    for part in re.split(r"\n\s*Function : ", sass)[1:]:
        found = re.findall(r"/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;", part)
        yield part.split("\n")[0].strip(), [Instruction(int(address, 16), text) for address, text in found]


def is_product(instruction):
    return instruction.operation.startswith("HMMA")


def page_path(instructions, begin, end):
    """(products, instructions) of the path from begin to end that has most products and, of those, fewest instructions."""
    index = {instruction.address: i for i, instruction in enumerate(instructions)}
    first, last = index[begin], index[end]
    best = {first: (0, 0)}
    for i in range(first, last + 1):
        if i not in best:
            continue
        instruction = instructions[i]
        products, count = best[i]
        here = (products + is_product(instruction), count - 1)
        if i == last:
            return here[0], -here[1]
        following = [i + 1] if instruction.falls_through else []
        if instruction.target is not None and begin < instruction.target <= end:
            following.append(index[instruction.target])
        for j in following:
            if j > i and here > best.get(j, (-1, 0)):
                best[j] = here
    return 0, 0


def main_loop(instructions):
    """(products, instructions) of the loop with most products on one way through, and fewest instructions of such."""
    loops = [(0, 0)]
    for instruction in instructions:
        if instruction.target is not None and instruction.target < instruction.address:
            loops.append(page_path(instructions, instruction.target, instruction.address))
    return max(loops, key=lambda loop: (loop[0], -loop[1]))


def spills_of_loop(instructions):
    """Accesses to local memory in the loop that main_loop() counts, on any way through it."""
    products, _ = main_loop(instructions)
    loops = [(instruction.target, instruction.address) for instruction in instructions
             if instruction.target is not None and instruction.target < instruction.address
             and page_path(instructions, instruction.target, instruction.address)[0] == products]
    begin, end = min(loops, key=lambda loop: loop[1] - loop[0], default=(0, 0))
    return spills([instruction for instruction in instructions if begin <= instruction.address <= end])


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def resources(listing):
    """Mangled name -> (registers, bytes of local memory and stack)."""
    found = re.findall(r"Function (\S+?):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", listing)
    return {name: (int(registers), int(stack) + int(local)) for name, registers, stack, local in found}


def static_shared(listing, arch):
    """Mangled name -> bytes of static shared memory."""
    found = re.findall(r"Function (\S+?):\s+REG:\d+ STACK:\d+ SHARED:(\d+)", listing)
    reserved = SHARED_OF_RUNTIME if int(re.search(r"\d+", arch)[0]) >= 90 else 0
    return {name: max(int(shared) - reserved, 0) for name, shared in found}


def read_launches(text):
    """Mangled name -> architecture -> bytes of dynamic shared memory, of what kvc_cuda_launches prints."""
    launches = {}
    for line in text.splitlines():
        arch, name, shared = line.split()
        launches.setdefault(name, {})[arch] = int(shared)
    return launches


def check_shared(name, static, launches):
    """(the most of a block on any architecture, problems): shared memory, as the kernel's launches ask for it."""
    asked = launches.get(name, {})
    problems = [f"nothing launches it on {arch}" for arch in SHARED_MAX if arch not in asked]
    for arch, limit in SHARED_MAX.items():
        total = static + asked.get(arch, 0)
        if total > limit * 1024:
            problems.append(f"{total} bytes of shared memory on {arch}, where a block may have {limit * 1024}")
    return static + max(asked.values(), default=0), problems


def spills(instructions):
    return sum(instruction.operation.split(".")[0] in ("LDL", "STL") for instruction in instructions)


def stale_zeros(instructions):
    """Places where a register pair is zeroed, overwritten under a predicate, and tested at once.

    ptxas of CUDA 13.0.88 lets the test come five cycles behind the zero, and a GPU tested what the pair had held before (a pointer that was
    nullptr counted as one that is not; docs/design/cuda.md). Sources that make no such code are the way around.
    """
    found = []
    for i, instruction in enumerate(instructions):
        zeroed = re.match(r"CS2R R(\d+), SRZ", instruction.text)
        if not zeroed:
            continue
        pair = rf"\bR({zeroed[1]}|{int(zeroed[1]) + 1})\b"
        overwritten = False
        for later in instructions[i + 1:i + 5]:
            operands = later.text.split(None, 2 if later.conditional else 1)[-1]
            if overwritten and later.operation.startswith("ISETP") and re.search(pair, operands):
                found.append(instruction.address)
                break
            overwritten |= later.conditional and re.match(pair, operands) is not None
    return found


def plain_name(mangled):
    """_ZN3kvc4cuda12store_tokensI...E -> store_tokens."""
    length, rest = re.search(r"4cuda(\d+)(\w+)", mangled).groups()
    return rest[:int(length)]


def describe_attend(kind, k_dim, v_dim, instructions):
    """(description, problems) of an instantiation of the attend kernel."""
    products, count = main_loop(instructions)
    per_element = count / (kind.tokens_of_turn * (k_dim + v_dim) / LANES)
    problems = []
    if products != kind.products_of_turn(k_dim, v_dim):
        problems.append(f"{products} products in the main loop instead of {kind.products_of_turn(k_dim, v_dim)}")
    limit = INSTRUCTIONS_MAX.get(kind.name)
    if limit and (k_dim, v_dim) == (128, 128) and per_element > limit:
        problems.append(f"over {limit:.2f} instructions an element")
    return (f"kernel=attend_decode {{arch}} kind={kind.name} bits={kind.k_bits}/{kind.v_bits} page={PAGE} group={kind.k_group} "
            f"scale_bits={kind.k_meta_bits} "
            f"k_dim={k_dim} v_dim={v_dim} instr_per_elem={per_element:.2f}"), problems


def describe_prompt(match, instructions, arch):
    """(description, problems, spills allowed) of an instantiation of a prompt kernel; mass has no values."""
    kernel, dims, general = match[1], [int(number) for number in re.findall(r"Li(\d+)E", match[2])], match[3] == "1"
    k_dim, v_dim, tiles = dims if len(dims) == 3 else (dims[0], 0, dims[1])
    products, count = main_loop(instructions)
    expected = tiles * (k_dim + v_dim) // 16 * 8
    problems = []
    if products != expected:
        problems.append(f"{products} products for a page instead of {expected}")
    per_product = count / max(products, 1)
    limit = PROMPT_INSTRUCTIONS_MAX_OF.get(arch, PROMPT_INSTRUCTIONS_MAX)
    measured = (kernel, k_dim, v_dim, tiles) == ("attend_prompt", 128, 128, 2)
    if measured and per_product > limit:
        problems.append(f"over {limit:.2f} instructions a product")
    in_loop = spills_of_loop(instructions)
    if in_loop > LOOP_SPILLS_MAX.get((k_dim, v_dim), {}).get(arch, 0):
        problems.append(f"{in_loop} spills in the loop over pages")
    allowed = {} if kernel != "attend_prompt" else GENERAL_SPILLS_MAX if general else PROMPT_SPILLS_MAX if tiles == 2 else {}
    spills_max = allowed.get((k_dim, v_dim), {}).get(arch, 0)
    return (f"kernel={kernel}{'_general' if general else ''} {{arch}} k_dim={k_dim} v_dim={v_dim} rows={64 * tiles} "
            f"instr_per_product={per_product:.2f}"), problems, spills_max


def check_kernel(name, instructions, arch, registers, local):
    """(line, problems) of one kernel."""
    spilled = spills(instructions) + local
    problems = [f"tests a register pair that was zeroed just before, at {address:#x}" for address in stale_zeros(instructions)]
    spills_max, registers_max = 0, REGISTERS_MAX.get(plain_name(name), 0)
    attend = re.search(r"attend_decodeILi(\d+)ELi(\d+)ELNS0_8PageKindE(\d+)EE", name)
    text = f"kernel={plain_name(name)} {{arch}}"
    if attend:
        k_dim, v_dim, kind = int(attend[1]), int(attend[2]), KINDS[int(attend[3])]
        text, more = describe_attend(kind, k_dim, v_dim, instructions)
        problems += more
        registers_max = DECODE_REGISTERS_MAX.get((k_dim, v_dim), registers_max)
    prompt = re.search(r"(attend_prompt|mass_prompt)I((?:Li\d+E)+)Lb([01])EE", name)
    if prompt:
        text, more, spills_max = describe_prompt(prompt, instructions, arch)
        problems += more
    if spilled > spills_max:
        problems.append(f"{spilled} spills")
    if registers > registers_max:
        problems.append(f"{registers} registers, where it may have {registers_max}")
    return f"{text.format(arch=f'arch={arch}')} regs={registers} spills={spilled}", problems


def check_object(cuobjdump, path, launches):
    """Prints a line for each kernel in each architecture; returns what is over budget, and architecture -> names of kernels."""
    over, found = [], {}
    for arch in re.findall(r"\.(sm_\d+\w?)\.cubin", run([cuobjdump, "-lelf", path])):
        listing = run([cuobjdump, "-arch", arch, "-res-usage", path])
        usage, static = resources(listing), static_shared(listing, arch)
        found[arch] = set()
        for name, instructions in parse_functions(run([cuobjdump, "-arch", arch, "-sass", path])):
            found[arch].add(name)
            line, problems = check_kernel(name, instructions, arch, *usage[name])
            shared, more = check_shared(name, static[name], launches)
            problems += more
            line += f" shared={shared}"
            print(line)
            over += [f"{line}: {problem}" for problem in problems]
    return over, found


@dataclass(frozen=True)
class Target:
    """What a build has been asked for."""
    name: str
    archs: list  # of machine code, sm_90a, say
    units: list  # attend.cu, say
    folder: Path  # of its objects


def read_targets(build, with_families):
    """The targets whose kernels must be there, as the build lists them in units.txt: name, architectures, units."""
    listing = build / "kernels/cuda/units.txt"
    if not listing.exists():
        sys.exit(f"gates: {listing} is not there; build the kernels with: make cuda")
    targets = {}
    for line in listing.read_text(encoding="utf-8").splitlines():
        name, archs, units = line.split(" ", 2)
        codes = ["sm_" + arch.removesuffix("-real") for arch in archs.split(";") if not arch.endswith("-virtual")]
        targets[name] = Target(name, codes, units.split(";"), listing.parent / "CMakeFiles" / f"{name}.dir")
    wanted = ["kvc_cuda", *(["kvc_cuda_families"] if with_families else [])]
    for name in wanted:
        if name not in targets or not targets[name].archs:
            sys.exit(f"gates: {listing} asks for no machine code of {name}")
    # A unit that was added since the build was configured counts as well.
    sources = {path.name for path in Path(__file__).parent.glob("*.cu")}
    whole = targets["kvc_cuda"]
    targets["kvc_cuda"] = Target(whole.name, whole.archs, sorted(sources.union(whole.units)), whole.folder)
    return [targets[name] for name in wanted]


def check_target(cuobjdump, target, launches):
    """What is over budget or missing."""
    over, kernels = [], {arch: set() for arch in target.archs}
    for unit in target.units:
        path = target.folder / f"{unit}.o"
        if not path.exists():
            over.append(f"{target.name} has no object of {unit}")
            continue
        problems, found = check_object(cuobjdump, path, launches)
        over += problems
        over += [f"{unit} of {target.name} has no code for {arch}" for arch in target.archs if arch not in found]
        for arch in set(target.archs).intersection(found):  # a unit may have no kernels, but then for no architecture
            over += [f"{unit} of {target.name} has no kernel {name} for {arch}" for name in sorted(set().union(*found.values()) - found[arch])]
            kernels[arch] |= found[arch]
    if target.name == "kvc_cuda":
        over += [f"kernel={plain_name(name)} arch={arch}: is launched and has no machine code: {name}"
                 for arch in target.archs for name in sorted(set(launches) - kernels[arch])]
    return over


def find_cuobjdump():
    """The one of the set-up's packages, which calls nvdisasm beside it."""
    folders = sorted(Path(__file__).resolve().parents[2].glob(".venv/lib/python3*/site-packages/nvidia/cu13/bin"))
    for folder in folders:
        os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return "cuobjdump"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build", type=Path)
    parser.add_argument("--families", action="store_true", help="the kernels of kvc_cuda_families have to be there, too")
    arguments = parser.parse_args()
    targets = read_targets(arguments.build, arguments.families)
    cuobjdump = find_cuobjdump()
    launches = read_launches(run([arguments.build / "programs" / "kvc_cuda_launches"]))
    if not launches:
        sys.exit("gates: kvc_cuda_launches launches nothing")
    over = [problem for target in targets for problem in check_target(cuobjdump, target, launches)]
    for problem in over:
        print("gates: FAILED:", problem, file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
