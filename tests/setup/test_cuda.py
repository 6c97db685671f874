"""What configure makes of KVC_CUDA, KVC_CUDA_ARCHS and toolkits that it cannot use: python3 tests/setup/test_cuda.py"""

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Archs(unittest.TestCase):
    """cmake/cuda_toolkit.cmake by itself."""

    def ask(self, function, archs):
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "ask.cmake")
            script.write_text(f'include("{ROOT}/cmake/cuda_toolkit.cmake")\n{function}("{archs}" answer)\nmessage("${{answer}}")\n')
            return subprocess.run(["cmake", "-P", script], capture_output=True, text=True, check=True).stderr.rstrip("\n")

    def test_lists_that_kernels_can_be_compiled_for(self):
        default = "80-real;86-real;89-real;90a-real;100-real;120"
        for archs in ("80", "90a", "90a-real", "120-virtual", default):
            self.assertEqual("", self.ask("kvc_fault_of_archs", archs), archs)

    def test_entries_that_are_none_or_too_old_are_named(self):
        for archs, bad in (("all", "all"), ("80;native", "native"), ("80-real;sm_90;120", "sm_90"), ("90-rael", "90-rael"), ("90 120", "90 120"),
                           ("90a-real,120", "90a-real,120")):
            self.assertEqual(f'"{bad}" names no architecture', self.ask("kvc_fault_of_archs", archs))
        for archs, bad in (("75-real", "75-real"), ("90a-real;70", "70")):
            self.assertEqual(f'"{bad}" is below 80, which the kernels need', self.ask("kvc_fault_of_archs", archs))
        self.assertEqual("the list is empty", self.ask("kvc_fault_of_archs", ""))

    def test_build_info_tells_machine_code_from_ptx(self):
        self.assertEqual("sm_80 sm_90a compute_100 sm_120+ptx", self.ask("kvc_text_of_archs", "80-real;90a-real;100-virtual;120"))

    def test_toolkit_must_know_what_the_list_names(self):
        for archs, version in (("80-real;90a-real", "12.0"), ("90a;100-real", "12.8"), ("120-virtual", "12.8")):
            self.assertEqual(version, self.ask("kvc_least_toolkit", archs))


class Configure(unittest.TestCase):
    """The whole project, without its tests."""

    def configure(self, *options, nvcc=None):
        """What it says, on one line, with that body of a script for an nvcc, or with /bin/false."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.build, compiler = Path(folder.name, "build"), Path("/bin/false")
        if nvcc:
            compiler = Path(folder.name, "nvcc")
            compiler.write_text(f"#!/bin/sh\n{nvcc}\n")
            compiler.chmod(0o755)
        command = ["cmake", "-S", ROOT, "-B", self.build, "-G", "Ninja", "-DKVC_TESTS=OFF", *options]
        result = subprocess.run(command, env={**os.environ, "CUDACXX": str(compiler)}, capture_output=True, text=True)
        self.code = result.returncode
        return " ".join((result.stdout + result.stderr).split())

    def assert_no_backend(self):
        self.assertEqual(0, self.code)
        rules = (self.build / "build.ninja").read_text()
        self.assertIn("kernels/none/device.cpp", rules)
        self.assertNotIn("kernels/cuda/open.cpp", rules)

    def test_bad_list_ends_configure_and_names_the_entry(self):
        for option in ("-DKVC_CUDA=AUTO", "-DKVC_CUDA=ON"):
            said = self.configure(option, "-DKVC_CUDA_ARCHS=90a-real;75-real")
            self.assertNotEqual(0, self.code)
            self.assertIn('"75-real" is below 80, which the kernels need; expected numbers from 80 on', said)

    def test_what_is_no_nvcc_leaves_the_backend_out_and_fails_where_it_is_demanded(self):
        fault = "/bin/false --version does not answer as nvcc does"
        said = self.configure()
        self.assertIn("kvc is built without its CUDA backend", said)
        self.assertIn(fault, said)
        self.assert_no_backend()
        self.assertIn("KVC_CUDA=ON: " + fault, self.configure("-DKVC_CUDA=ON"))
        self.assertNotEqual(0, self.code)

    def test_toolkit_that_is_too_old_for_the_list(self):
        old = 'echo "Cuda compilation tools, release 12.4, V12.4.131"; [ "$1" = --version ]'
        fault = "is of CUDA 12.4.131, and 80-real;86-real;89-real;90a-real;100-real;120 (KVC_CUDA_ARCHS) need 12.8 or later"
        self.assertIn(fault, self.configure(nvcc=old))
        self.assert_no_backend()
        self.assertIn(fault, self.configure("-DKVC_CUDA=ON", nvcc=old))
        self.assertNotEqual(0, self.code)

    def test_toolkit_that_cannot_compile(self):
        broken = '[ "$1" = --version ] && echo "release 13.0, V13.0.88" && exit; echo "nvcc: no host compiler"; exit 1'
        said = self.configure("-DKVC_CUDA_ARCHS=90a-real", nvcc=broken)
        self.assertIn("(CUDA 13.0.88) cannot build a program for 90a-real (KVC_CUDA_ARCHS): nvcc: no host compiler", said)
        self.assert_no_backend()


if __name__ == "__main__":
    unittest.main()
