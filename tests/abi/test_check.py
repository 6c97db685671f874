"""check.py finds seeded faults: small libraries are compiled against a small header, each with one fault."""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import check  # noqa: E402

HEADER = """
#include <stdint.h>
#define KVC_ABI_VERSION 1
typedef enum kvc_status { KVC_OK = 0, KVC_E_BUSY = 5, KVC_STATUS_MAX_ = 0x7fffffff } kvc_status;
typedef struct kvc_error { uint32_t struct_size; int32_t status; char message[240]; } kvc_error;
int64_t kvc_abi_describe(char* out, int64_t out_bytes);
"""
LAYOUT = ["struct kvc_error 248 ; field struct_size 0 4 u32 ; field status 4 4 i32 ; field message 8 240 char",
          "enum kvc_status KVC_OK 0", "enum kvc_status KVC_E_BUSY 5"]
COMPILER = "cc"


def source(layout, extra=""):
    text = "\\n".join(layout) + "\\n"
    return f"""#include <string.h>
#include <stdint.h>
int64_t kvc_abi_describe(char* out, int64_t n) {{
    if (out && n) strncpy(out, "{text}", (size_t)n);
    return sizeof "{text}";
}}
{extra}
"""


class Seeded(unittest.TestCase):
    def run_check(self, layout=LAYOUT, extra="", header=HEADER, golden=LAYOUT, flags=("-Wl,-soname,libkvc.so.1",)):
        """Exit status and output of check for a library built from the given parts."""
        with tempfile.TemporaryDirectory() as folder:
            here = Path(folder)
            (here / "kvc.h").write_text(header)
            (here / "kvc.c").write_text(source(layout, extra))
            (here / "symbols.txt").write_text("kvc_abi_describe\n")
            (here / "layout.txt").write_text("\n".join(golden) + "\n")
            library = here / "libkvc.so"
            subprocess.run([COMPILER, "-w", "-shared", "-fPIC", *flags, "-o", library, here / "kvc.c"], check=True)
            check.HERE = here
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                status = check.check(argparse.Namespace(library=library, header=here / "kvc.h", cc=COMPILER, update=False))
            return status, printed.getvalue()

    def caught(self, words, **parts):
        status, printed = self.run_check(**parts)
        self.assertEqual(1, status, printed)
        self.assertIn(words, printed)

    def test_sound_library_passes(self):
        status, printed = self.run_check()
        self.assertEqual(0, status, printed)

    def test_foreign_export(self):
        self.caught("no function of kvc: leaked", extra="int leaked(void) { return 0; }")

    def test_new_export_without_golden(self):
        self.caught("symbols.txt: new: kvc_more", extra="int kvc_more(void) { return 0; }")

    def test_changed_layout(self):
        self.caught("layout.txt: lost: struct kvc_error 248", layout=[line.replace("4 4 i32", "4 8 i64") for line in LAYOUT])

    def test_swapped_lines(self):
        self.caught("the order of lines changed", layout=[LAYOUT[0], LAYOUT[2], LAYOUT[1]])

    def test_description_that_the_header_contradicts(self):
        wrong = [line.replace("message 8", "message 16") for line in LAYOUT]
        self.caught("static assertion failed", layout=wrong, golden=wrong)

    def test_enumerator_of_another_value(self):
        wrong = [line.replace("BUSY 5", "BUSY 6") for line in LAYOUT]
        self.caught("static assertion failed", layout=wrong, golden=wrong)

    def test_member_and_enumerator_left_out(self):
        short = [LAYOUT[0].replace("field struct_size 0 4 u32 ; ", ""), LAYOUT[1]]
        self.caught("3 members in kvc.h, 2 described", layout=short, golden=short)
        self.caught("KVC_E_BUSY is not described", layout=short, golden=short)

    def test_wrong_soname(self):
        self.caught("SONAME is libkvc.so.2", flags=("-Wl,-soname,libkvc.so.2",))

    def test_foreign_library_needed(self):
        self.caught("needs libgcc_s", flags=("-Wl,-soname,libkvc.so.1", "-Wl,--no-as-needed", "-lgcc_s"))

    def test_preset_that_the_header_does_not_list(self):
        names = "const char* kvc_preset_name(int64_t i) { return i == 0 ? \"fp16\" : i == 1 ? \"int5\" : 0; }"
        self.caught("the library has fp16 int5", extra=names, header=HEADER + "/* Presets: fp16. More. */")

    def test_executable_stack(self):
        self.caught("executable stack", flags=("-Wl,-soname,libkvc.so.1", "-Wl,-z,execstack"))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        COMPILER = sys.argv.pop(1)
    unittest.main()
