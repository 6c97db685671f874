"""Compiles and runs the C programs in README.md and in the introduction of kvc.h, exactly as printed."""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path


def programs(root):
    """(where, text) of every C block with a main function."""
    for page in [root / "README.md", *sorted((root / "docs").rglob("*.md"))]:
        for number, block in enumerate(re.findall(r"^```c\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE), 1):
            if "int main(" in block:
                yield f"{page.relative_to(root)} #{number}", block
    comment = re.match(r"/\*(.*?)\*/", (root / "kvc.h").read_text(), re.DOTALL).group(1)
    # The program is the one run of lines indented by four, from its first #include to the closing brace.
    code = re.search(r"^ \*     #include.*?^ \*     \}$", comment, re.DOTALL | re.MULTILINE).group(0)
    yield "kvc.h, introduction", re.sub(r"^ \* ?", "", code, flags=re.MULTILINE) + "\n"


def run(name, text, arguments):
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "snippet.c"), Path(folder, "snippet")
        source.write_text(text)
        library = Path(arguments.library)
        compiled = subprocess.run([arguments.cc, "-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", f"-I{arguments.include}", source, "-o", program, library,
                                   f"-Wl,-rpath,{library.parent}"], capture_output=True, text=True)
        if compiled.returncode:
            return f"{name}: does not compile:\n{compiled.stderr}"
        result = subprocess.run([program], capture_output=True, text=True, timeout=60)
        return f"{name}: exit status {result.returncode}: {result.stderr}" if result.returncode else None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for option in ("--root", "--include", "--library", "--cc"):
        parser.add_argument(option, required=True)
    arguments = parser.parse_args()
    found = list(programs(Path(arguments.root)))
    faults = [fault for name, text in found if (fault := run(name, text, arguments))]
    for fault in faults:
        print(fault)
    print(f"snippets: {len(found) - len(faults)} passed, {len(faults)} failed")
    return 1 if faults or len(found) < 2 else 0


if __name__ == "__main__":
    sys.exit(main())
