"""The binary interface of libkvc.so against its golden files, symbols.txt and layout.txt.

    check.py --library build/release/libkvc.so --header kvc.h --cc cc [--update]

Exports are exactly the functions of symbols.txt, all called kvc_*. The names of presets and policies are those that kvc.h lists. kvc_abi_describe says what layout.txt says, and a C
compiler that reads kvc.h agrees with every line. --update writes both files; only appending is compatible.
"""

import argparse
import ctypes
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
GLIBC_FLOOR = (2, 36)  # Debian 12
# What every Linux process has anyway: no C++ library, nothing of a device toolkit.
LIBRARIES_ALLOWED = re.compile(r"^(libc|libm|libpthread|libdl|librt|ld-linux[-\w]*)\.so\.\d+$")


def output_of(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def exported_symbols(library):
    lines = output_of("nm", "-D", "--defined-only", library).splitlines()
    return sorted(line.split()[-1] for line in lines if line.split()[-2] != "A")


def described_layout(library):
    describe = ctypes.CDLL(library).kvc_abi_describe
    describe.restype = ctypes.c_int64
    describe.argtypes = [ctypes.c_char_p, ctypes.c_int64]
    needed = describe(None, 0)
    text = ctypes.create_string_buffer(needed)
    if describe(text, needed) != needed:
        sys.exit("abi: kvc_abi_describe asks for a different size the second time")
    return text.value.decode()


def differences(golden_path, actual_lines):
    golden = golden_path.read_text().splitlines() if golden_path.exists() else []
    for line in golden:
        if line not in actual_lines:
            yield f"{golden_path.name}: lost: {line}"
    for line in actual_lines:
        if line not in golden:
            yield f"{golden_path.name}: new: {line}"
    if sorted(golden) == sorted(actual_lines) and golden != actual_lines:
        yield f"{golden_path.name}: the order of lines changed"


def symbol_faults(symbols):
    for symbol in symbols:
        if not re.fullmatch(r"kvc_[a-z0-9_]+(@@\w+)?", symbol):
            yield f"exported, but no function of kvc: {symbol}"


def dependency_faults(library, abi_version):
    dynamic = output_of("readelf", "-d", library)
    soname = re.search(r"SONAME.*\[(.*)\]", dynamic)
    if not soname or soname.group(1) != f"libkvc.so.{abi_version}":
        yield f"SONAME is {soname and soname.group(1)}; KVC_ABI_VERSION is {abi_version}"
    for name in re.findall(r"NEEDED.*\[(.*)\]", dynamic):
        if not LIBRARIES_ALLOWED.match(name):
            yield f"needs {name}"
    versions = {tuple(map(int, v.split("."))) for v in re.findall(r"GLIBC_(\d+\.\d+)", output_of("objdump", "-T", library))}
    if versions and max(versions) > GLIBC_FLOOR:
        yield f"needs glibc {max(versions)}; the floor is {GLIBC_FLOOR}"
    if re.search(r"GNU_STACK\s+(\S+\s+){5}RWE", output_of("readelf", "-lW", library)):
        yield "asks for an executable stack"


def statements(layout):
    """"struct s 8 ; field a 0 4 u32 ; field b 4 4 i32" -> three statements."""
    return [part.strip() for line in layout for part in line.split(";") if part.strip()]


def assertions(layout):
    """C code that does not compile unless kvc.h agrees with the layout lines."""
    struct = None
    for line in statements(layout):
        words = line.split()
        if words[0] == "struct":
            struct = words[1]
            yield f'_Static_assert(sizeof({struct}) == {words[2]}, "{line}");'
        elif words[0] == "field":
            name, offset, size = words[1:4]
            yield f'_Static_assert(offsetof({struct}, {name}) == {offset}, "{line}");'
            yield f'_Static_assert(sizeof((({struct}*)0)->{name}) == {size}, "{line}");'
        elif words[0] == "enum":
            yield f'_Static_assert({words[2]} == {words[3]}, "{line}");'
        else:
            raise ValueError(f"layout line of no known kind: {line}")


def header_structs(header):
    """name -> number of declared members, and the enumerators, as read from the text of kvc.h."""
    text = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    structs = {}
    for body, name in re.findall(r"typedef struct \w+ \{(.*?)\}\s*(\w+);", text, re.DOTALL):
        members = [m for m in body.split(";") if m.strip()]
        structs[name] = sum(1 if "(" in m else m.count(",") + 1 for m in members)
    enumerators = []
    for body in re.findall(r"typedef enum \w+ \{(.*?)\}", text, re.DOTALL):
        enumerators += re.findall(r"\b([A-Z]\w+)\s*=", body)
    return structs, enumerators


def header_faults(layout, header, compiler):
    structs, enumerators = header_structs(header)
    described, current = {}, None
    for words in (statement.split() for statement in statements(layout)):
        if words[0] == "struct":
            current = described.setdefault(words[1], [])
        elif words[0] == "field":
            current.append(words[1])
    for name, members in structs.items():
        if len(described.get(name, [])) != members:
            yield f"{name}: {members} members in kvc.h, {len(described.get(name, []))} described"
    missing = set(enumerators) - {line.split()[2] for line in layout if line.startswith("enum ")}
    for name in sorted(m for m in missing if not m.endswith("_MAX_")):
        yield f"{name} is not described"
    with tempfile.NamedTemporaryFile("w", suffix=".c") as source:
        source.write(f'#include <stddef.h>\n#include "{header.resolve()}"\n' + "\n".join(assertions(layout)) + "\n")
        source.flush()
        result = subprocess.run([compiler, "-std=c11", "-fsyntax-only", source.name], capture_output=True, text=True)
    yield from re.findall(r"static assertion failed: .*|error: .*", result.stderr)


def name_faults(library, header):
    """The lists of names in kvc.h's comments against those that the library gives."""
    loaded = ctypes.CDLL(library)
    for title, noun in (("Presets", "preset"), ("Policies", "policy")):
        listed = re.search(rf"/\* {title}: ([\w ]+)\.", header.read_text())
        if not listed:
            continue
        name_of = getattr(loaded, f"kvc_{noun}_name")
        name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.c_int64]
        names = []
        while name := name_of(len(names)):
            names.append(name.decode())
        if names != listed.group(1).split():
            yield f"kvc.h lists the {title.lower()} {listed.group(1)}; the library has {' '.join(names)}"


def check(arguments):
    header = Path(arguments.header)
    library = str(Path(arguments.library).resolve())
    abi_version = re.search(r"#define KVC_ABI_VERSION (\d+)", header.read_text()).group(1)
    symbols = exported_symbols(library)
    layout = [line.strip() for line in described_layout(library).splitlines() if line.strip()]
    if arguments.update:
        (HERE / "symbols.txt").write_text("\n".join(symbols) + "\n")
        (HERE / "layout.txt").write_text("\n".join(layout) + "\n")
    faults = [
        *symbol_faults(symbols),
        *differences(HERE / "symbols.txt", symbols),
        *differences(HERE / "layout.txt", layout),
        *dependency_faults(library, abi_version),
        *header_faults(layout, header, arguments.cc),
        *name_faults(library, header),
    ]
    for fault in faults:
        print(f"abi: {fault}")
    print(f"abi: {len(symbols)} symbols, {len(layout)} layout lines, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--library", required=True)
    parser.add_argument("--header", required=True)
    parser.add_argument("--cc", default="cc")
    parser.add_argument("--update", action="store_true")
    sys.exit(check(parser.parse_args()))
