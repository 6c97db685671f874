"""Each rule of tidy.py catches the fault that it is for, and leaves sound code alone: seeded trees in a temporary folder."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import tidy  # noqa: E402
from tree import Tree  # noqa: E402

HEADER = "KVC_API int kvc_one(void);\nKVC_API const char*\n    kvc_two(int a,\n            int b);\n"
SOUND = {
    "kvc.h": HEADER,
    "CHANGELOG.md": "# Changelog\n\n## [Unreleased]\n",
    "capi/kvc.map": "KVC_1 {\n  global:\n    kvc_one;\n    kvc_two;\n  local: *;\n};\n",
    "capi/version.cpp": '#include "kvc.h"\n#include "core/cache/verb.h"\nint kvc_one(void) { return 1; }\n'
                        "const char* kvc_two(int a, int b) { return a ? kvc_text(b) : nullptr; }\n",
    "core/base/size.h": "struct Size {};\n",
    "core/store/arena.cpp": '#include "core/base/size.h"\n#include "arena.h"\n'
                            "void f() { const Size slab_bytes = Size(a) * b; auto* p = base + index * record_bytes; }\n",
    "core/store/arena.h": "#pragma once\n",
    "core/cache/verb.h": '#include "core/store/arena.h"\n',
    "kernels/cpu/avx2.cpp": '#include "core/base/size.h"\n#include "bodies.inc"\n',
    "kernels/cpu/bodies.inc": "inline void body() {}\n",
    "tests/kernels/parity.cpp": '#include "kernels/cpu/bodies.inc"\n',
    "bindings/kvc.i": '%include "../kvc.h"\n',
    "bindings/go/raw.go": "package raw\n// kvc_one _wrap_kvc_two\n",
}


def long_function(lines):
    return "int f(int a = 0) noexcept {\n" + "    a += 1;\n" * (lines - 2) + "}\n"


# rule name -> faults; a fault is {path: new content, or None to remove}.
FAULTS = {
    "includes follow the layers": [
        {"core/base/size.h": '#include "core/store/arena.h"\n'},
        {"core/store/arena.h": '#include "../cache/verb.h"\n'},
        {"core/store/arena.h": '#include "kvc.h"\n'},
        {"core/store/arena.h": "#include <core/cache/verb.h>\n"},
        {"core/store/arena.h": "#include <kvc.h>\n"},
        {"core/cache/verb.h": '#  include "kernels/cpu/bodies.inc"\n'},
        {"capi/version.cpp": '#include "kernels/cpu/bodies.inc"\n' + SOUND["capi/version.cpp"]},
        {"kernels/cpu/avx2.cpp": '#include "core/store/arena.h"\n'},
        {"kernels/cpu/avx2.cpp": '#include "kvc.h"\n'},
        {"examples/c/one.c": '#include "core/base/size.h"\n'},
        {"tools/plan.cpp": '#include "kernels/cpu/bodies.inc"\n'},
    ],
    "core has its seven folders": [{"core/extra/thing.h": "#pragma once\n"}],
    "core names no device platform": [
        {"core/base/size.h": "// as on CUDA\n"},
        {"core/backend/table.h": "int cudaStream;\n"},
    ],
    "files are short": [
        {"core/base/size.h": "\n" * 451},
        {"tests/python/test_long.py": "\n" * 451},
    ],
    "functions are short": [
        {"core/base/long.cpp": "namespace kvc {\nclass C {\n" + long_function(71) + "};\n}\n"},
        {"examples/c/long.c": "struct s { int a; };\n" + long_function(71)},
        {"tests/unit/long.cpp": 'TEST_CASE("a { brace in a string") {\n' + "    CHECK(1);\n" * 70 + "}\n"},
        {"kernels/cuda/long.cu": "template <class T>\n__global__ void k(T* p) {\n" + "p[0] = {};\n" * 70 + "}\n"},
        {"tools/long.py": "def f():\n" + "    pass\n" * 70},
    ],
    "no large files": [{"tests/golden/big.bin": "\0" + "x" * (1 << 20)}],
    "file names say what is inside": [
        {"core/base/utils.h": "#pragma once\n"},
        {"tests/common/x.cpp": "\n"},
        {"tools/page_helper.py": "\n"},
        {"core/store/arena_manager.cpp": "\n"},
    ],
    "no unfinished marks": [
        {"core/base/size.h": "// TO" "DO: finish\n"},
        {"docs/guide.md": "FIX" "ME later\n"},
        {"Makefile": "# X" "XX\n"},
        {"tools/x.py": "# HA" "CK(me)\n"},
    ],
    "no paths of one machine": [{"cmake/x.cmake": 'set(A "/ho' 'me/someone/cuda")\n'}, {"docs/x.md": "see /ro" "ot/kvc\n"}],
    "the top level is as documented": [{"notes.txt": "x\n"}, {"src/a.cpp": "\n"}],
    "the changelog has an Unreleased section": [{"CHANGELOG.md": "# Changelog\n"}, {"CHANGELOG.md": None}],
    "exported = declared": [
        {"capi/kvc.map": "KVC_1 { global: kvc_one; local: *; };\n"},
        {"capi/kvc.map": "KVC_1 { global: kvc_one; kvc_two; kvc_three; local: *; };\n"},
        {"capi/kvc.map": "KVC_1 { global: kvc_*; local: *; };\n"},
    ],
    "every declared function is defined": [{"capi/version.cpp": '#include "kvc.h"\nint kvc_one(void) { return kvc_two(1, 2); }\n'}],
    "kvc.i takes every function": [
        {"bindings/kvc.i": "int kvc_one(void);\n"},
        {"bindings/kvc.i": '%ignore kvc_one;\n%include "kvc.h"\n'},
    ],
    "every binding takes every function": [{"bindings/go/raw.go": "package raw // kvc_one\n"}],
    "sizes are computed by checked arithmetic": [
        {"core/store/arena.cpp": "int64_t f() { int64_t slab_bytes = tokens * width; return slab_bytes; }\n"},
        {"core/cache/plan.cpp": "void f() { out.code_bytes += pages\n    * record; }\n"},
        {"capi/plan.cpp": "void f() { need_bytes *= heads; }\n"},
    ],
}

# Sound code that a careless rule would report.
INNOCENT = {
    "core/base/near.cpp": "namespace kvc {\n" + long_function(70) * 6 + "}\n",
    "core/store/offsets.cpp": "void f() { const bool fits = need_bytes <= rows * width; int64_t need_bytes = a + b; const char* bytes = *p; need_bytes *= 2; }\n",
    "core/base/quote.cpp": "const char* a = \"x\\\"{\"; char b = '{'; int c = 1'000; // {\n/* { */ const char* r = R\"(}{)\";\n",
    "docs/text.md": "Common methods; a TO" "DOs list; a hacker; build/work/x; https://host/home/x\n",
    "tests/golden/small.bin": "\0FIX" "ME",
    "bindings/go/generated.go": "// automatically generated by a tool\n" + "// TO" "DO\n" * 500,
    "build/release/notes.cpp": "// TO" "DO\n",
}


class Seeded(unittest.TestCase):
    def violations(self, *layers_of_files):
        """Violations per rule in a tree of SOUND files with others laid over it."""
        with tempfile.TemporaryDirectory() as folder:
            for files in (SOUND, *layers_of_files):
                for path, content in files.items():
                    target = Path(folder, path)
                    if content is None:
                        target.unlink()
                        continue
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_text(content)
            tree = Tree(folder)
            return {name: [str(v) for v in rule(tree)] for name, rule in tidy.RULES.items()}

    def test_every_rule_has_seeded_faults(self):
        self.assertEqual(set(tidy.RULES), set(FAULTS))

    def test_sound_tree_passes_every_rule(self):
        for name, found in self.violations().items():
            self.assertEqual([], found, name)

    def test_innocent_files_pass_every_rule(self):
        for name, found in self.violations(INNOCENT).items():
            self.assertEqual([], found, name)

    def test_each_fault_is_caught_by_its_rule_and_where_it_was_put(self):
        for name, faults in FAULTS.items():
            for fault in faults:
                with self.subTest(rule=name, fault=list(fault)):
                    found = self.violations(fault)[name]
                    self.assertTrue(found, "not caught")
                    places = set(fault) | {path.split("/")[0] for path in fault} | {"kvc.h"}
                    self.assertTrue(all(v.split(":")[0] in places for v in found), found)

    def test_program_ends_with_1_on_a_fault_and_0_without(self):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "CHANGELOG.md").write_text("## [Unreleased]\n")
            program = [sys.executable, tidy.__file__, folder]
            self.assertEqual(0, subprocess.run(program, capture_output=True).returncode)
            Path(folder, "notes.txt").write_text("x\n")
            result = subprocess.run(program, capture_output=True, text=True)
            self.assertEqual(1, result.returncode)
            self.assertIn("1 failed", result.stdout)

    def test_untracked_files_count_and_ignored_ones_do_not(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["git", "init", "-q", folder], check=True)
            for name, content in {".gitignore": "/scratch/\n", "new.txt": "", "core/a.h": ""}.items():
                Path(folder, name).parent.mkdir(exist_ok=True)
                Path(folder, name).write_text(content)
            Path(folder, "scratch").mkdir()
            Path(folder, "scratch/a.h").write_text("")
            self.assertEqual([".gitignore", "core/a.h", "new.txt"], Tree(folder).paths)


if __name__ == "__main__":
    unittest.main()
