"""Counts what the machine code of the attention kernels costs, and refuses what is over budget.

    gates.py --cuobjdump PATH CUBIN...

One line a kernel: instructions that a warp issues for each element of a page of its main loop (keys and values, a lane's share),
registers, spills. The count is of the path through the loop that a page takes whose tokens are all seen; blocks that only masked
pages enter are not on it.
"""

import argparse
import re
import subprocess
import sys
from dataclasses import dataclass

LANES = 32
PAGE = 64

# Budgets of the int4 preset's main loop: docs/design/cuda.md.
INSTRUCTIONS_MAX = 1.80
REGISTERS_MAX = 168  # three blocks of 128 threads on a multiprocessor


@dataclass(frozen=True)
class Instruction:
    address: int
    text: str

    @property
    def operation(self):
        return re.sub(r"^@!?U?P\w+\s+", "", self.text).split()[0]

    @property
    def conditional(self):
        return self.text.startswith("@")

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


def tokens_of_turn(kind):
    """Tokens that one turn of the main loop takes."""
    return PAGE if kind == "int4" else 16


def products_of_turn(kind, k_dim, v_dim):
    """Tensor-core products that a turn must take: what a path with fewer leaves out, it does not compute."""
    if kind == "int4":
        return k_dim // 16 * (4 + 1) + v_dim // 16 * 4 + 4
    return (k_dim + v_dim) // 16


def run(command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def resources(listing):
    """Mangled name -> (registers, bytes of local memory and stack)."""
    found = re.findall(r"Function (\S+?):\s+REG:(\d+) STACK:(\d+) SHARED:\d+ LOCAL:(\d+)", listing)
    return {name: (int(registers), int(stack) + int(local)) for name, registers, stack, local in found}


def spills(instructions):
    return sum(instruction.operation.split(".")[0] in ("LDL", "STL") for instruction in instructions)


def plain_name(mangled):
    """_ZN3kvc4cuda12store_tokensI...E -> store_tokens."""
    length, rest = re.search(r"4cuda(\d+)(\w+)", mangled).groups()
    return rest[:int(length)]


def check_cubin(cuobjdump, path):
    arch = re.search(r"sm_\d+a?", path).group()
    usage = resources(run([cuobjdump, "-res-usage", path]))
    over = []
    for name, instructions in parse_functions(run([cuobjdump, "-sass", path])):
        registers, local = usage[name]
        spilled = spills(instructions) + local
        line = f"arch={arch} regs={registers} spills={spilled}"
        attend = re.search(r"attend_decodeILi(\d+)ELi(\d+)ELNS\d?_?\d+PageKindE(\d)ELb([01])E", name)
        problems = [f"{spilled} spills"] if spilled else []
        if attend:
            k_dim, v_dim, kind = int(attend[1]), int(attend[2]), ("int4", "rows")[int(attend[3])]
            products, count = main_loop(instructions)
            if products != products_of_turn(kind, k_dim, v_dim):
                problems.append(f"{products} products in the main loop instead of {products_of_turn(kind, k_dim, v_dim)}")
            per_element = count / (tokens_of_turn(kind) * (k_dim + v_dim) / LANES)
            if kind == "int4" and k_dim == 128 and per_element > INSTRUCTIONS_MAX:
                problems.append(f"over {INSTRUCTIONS_MAX} instructions an element")
            if k_dim <= 128 and registers > REGISTERS_MAX:
                problems.append(f"over {REGISTERS_MAX} registers")
            capped = "_capped" if attend[4] == "1" else ""
            line = (f"kernel=attend_decode_{kind}{capped} arch={arch} bits={4 if kind == 'int4' else 16} head_dim={k_dim} page={PAGE}"
                    f" group=32 instr_per_elem={per_element:.2f} regs={registers} spills={spilled}")
        else:
            line = f"kernel={plain_name(name)} {line}"
        print(line)
        over += [f"{line}: {problem}" for problem in problems]
    return over


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--cuobjdump", required=True)
    parser.add_argument("cubins", nargs="+")
    arguments = parser.parse_args()
    over = [problem for path in arguments.cubins for problem in check_cubin(arguments.cuobjdump, path)]
    for problem in over:
        print("gates: FAILED:", problem, file=sys.stderr)
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
