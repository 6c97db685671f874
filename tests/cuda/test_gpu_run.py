"""How bench/gpu/run shares its time and what it compiles for peers: python3 tests/cuda/test_gpu_run.py"""

import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/gpu"))
import steps  # noqa: E402


class Budget(unittest.TestCase):
    """Seconds of steps that all take as long as they may."""

    def limits(self, todo, seconds, usual, took=None):
        budget, given = steps.Budget(todo, seconds, usual), []
        for step in todo:
            given.append(budget.limit_of(step))
            budget.took(step, given[-1] if took is None else took)
        return given

    def test_what_steps_must_have_fits_the_usual_budget(self):
        for quick, usual in ((False, steps.BUDGET_S), (True, steps.QUICK_BUDGET_S)):
            todo = steps.gpu_steps(Path("/root"), Path("/programs"), Path("/scratch"), quick)
            given = self.limits(todo, usual, usual)
            counted = [limit for step, limit in zip(todo, given) if step.least_s]
            self.assertLessEqual(sum(counted), usual + 1e-6)
            self.assertGreater(min(counted), 5)  # none is left without time
            self.assertLessEqual(sum(step.least_s for step in todo), steps.BUDGET_S)

    def test_what_a_step_leaves_goes_to_the_next_up_to_their_limits(self):
        todo = [steps.Step("a", [], 60, 30), steps.Step("b", [], 120, 50), steps.Step("c", [], 45, 20)]
        self.assertEqual(self.limits(todo, 100, 100), [30, 50, 20])
        self.assertEqual(self.limits(todo, 100, 100, took=5), [30, 75, 45])
        self.assertEqual(self.limits(todo, 200, 200, took=0), [60, 120, 45])

    def test_a_larger_one_stretches_limits_and_a_smaller_one_shares_what_there_is(self):
        todo = [steps.Step("a", [], 60, 30), steps.Step("FlashInfer", [], 120, 50)]
        self.assertEqual(self.limits(todo, 400, 100, took=0), [200, 400])
        self.assertEqual(self.limits(todo, 40, 100), [15, 25])

    def test_compiling_is_apart(self):
        todo = [steps.Step("compiling", [], 3600), steps.Step("a", [], 60, 30)]
        self.assertEqual(self.limits(todo, 30, 30), [3600, 30])


class FlashInfer(unittest.TestCase):
    """What is compiled before the run, with packages that only note it."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "nvcc").write_text("#!/bin/sh\n")
        (self.folder / "nvcc").chmod(0o755)

    def packages(self, spec):
        (self.folder / "flashinfer/jit/attention").mkdir(parents=True)
        for package in ("flashinfer", "flashinfer/jit", "flashinfer/jit/attention"):
            (self.folder / package / "__init__.py").touch()
        (self.folder / "torch.py").write_text("float16 = float8_e4m3fn = int32 = None\nclass cuda:\n    is_available = staticmethod(lambda: True)\n")
        make = f"""from pathlib import Path
class Spec:
    def __init__(self, name): self.jit_library_path = Path({str(self.folder)!r}) / f"{{name}}.so"
    def build(self, verbose):
        {spec}
"""
        (self.folder / "flashinfer/jit/attention/modules.py").write_text(
            make + "gen_batch_decode_module = lambda *_: Spec('decode')\ngen_batch_prefill_module = lambda kind, *_: Spec(kind)\n")
        (self.folder / "flashinfer/jit/xqa.py").write_text(make + "gen_xqa_module = lambda *_: Spec('xqa')\n")

    def compile(self, **environment):
        mine = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "FLASHINFER"))}
        return subprocess.run([sys.executable, ROOT / "bench/gpu/prebuild_flashinfer.py", "--here"], capture_output=True, text=True,
                              env={**mine, "CUDACXX": str(self.folder / "nvcc"), "PYTHONPATH": str(self.folder), **environment})

    def test_is_compiled_once(self):
        self.packages("self.jit_library_path.touch(); print('compiles', self.jit_library_path.stem)")
        first, again = self.compile(), self.compile()
        self.assertEqual((first.returncode, again.returncode), (0, 0), first.stderr)
        self.assertEqual([line for line in first.stdout.splitlines() if line.startswith("compiles")],
                         ["compiles decode", "compiles fa2", "compiles fa3", "compiles xqa"])
        self.assertNotIn("compiles", again.stdout)

    def test_a_module_that_does_not_compile_is_named_and_the_others_go_on(self):
        self.packages("assert self.jit_library_path.stem != 'fa3', 'not for this GPU'; self.jit_library_path.touch()")
        done = self.compile()
        self.assertEqual(done.returncode, 0)
        self.assertIn("does not compile: fa3-fp16-128: AssertionError: not for this GPU", done.stdout)
        self.assertIn("has xqa-fp16-128", done.stdout)

    def test_where_none_compiles_the_step_fails(self):
        self.packages("raise OSError('no ninja')")
        self.assertEqual(self.compile().returncode, 1)

    def test_of_a_wheel_is_not_compiled(self):
        self.packages("raise SystemExit('compiles')")
        done = self.compile(FLASHINFER_DISABLE_JIT="1")
        self.assertEqual((done.returncode, done.stdout), (0, "a wheel came along: nothing to compile\n"))

    def test_that_is_not_there_says_so(self):
        (self.folder / "torch.py").write_text("raise ImportError('no torch')\n")
        done = self.compile()
        self.assertEqual((done.returncode, done.stderr), (steps.NO_DEVICE, "no FlashInfer: no torch\n"))

    def test_keeps_what_it_compiles_from_one_run_to_the_next(self):
        with mock.patch.dict(os.environ, clear=True):
            steps.set_environment(None, ROOT / "build/flashinfer")
            self.assertEqual(os.environ["FLASHINFER_WORKSPACE_BASE"], str(ROOT / "build/flashinfer"))
        self.assertRegex((ROOT / "bench/gpu/run").read_text(), r'set_environment\(.*, ROOT / "build/flashinfer"\)')


class BuildPeers(unittest.TestCase):
    def test_find_the_nvcc_of_set_up(self):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            (root / "bench/gpu").mkdir(parents=True)
            shutil.copy(ROOT / "bench/gpu/build_peers", root / "bench/gpu")
            nvcc = root / ".venv/lib/python3.11/site-packages/nvidia/cu13/bin/nvcc"
            for path in (nvcc, root / "tools/cmake"):
                path.parent.mkdir(parents=True)
                path.write_text(f"#!/bin/sh\necho \"$* $LIBRARY_PATH\" >> {root}/calls\nexit 1\n")
                path.chmod(0o755)
            (root / "llama/ggml").mkdir(parents=True)
            (root / "llama/ggml/CMakeLists.txt").touch()
            mine = {name: value for name, value in os.environ.items() if name not in ("CUDACXX", "CUDA_PATH", "LIBRARY_PATH")}
            path = os.pathsep.join([str(root / "tools"), *(p for p in os.environ["PATH"].split(os.pathsep) if not (Path(p) / "nvcc").exists())])
            if Path("/usr/local/cuda/bin/nvcc").exists():
                self.skipTest("a toolkit is installed, which comes first")
            done = subprocess.run([root / "bench/gpu/build_peers", "--llama", root / "llama"], env={**mine, "PATH": path}, capture_output=True, text=True)
            self.assertIn("llama.cpp is skipped: it did not build", done.stdout)
            configure = (root / "calls").read_text()
        self.assertIn(f"-DCMAKE_CUDA_COMPILER={nvcc}", configure)
        self.assertIn(f" {nvcc.parent}/../lib", configure)


if __name__ == "__main__":
    unittest.main()
