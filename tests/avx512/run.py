#!/usr/bin/env python3
"""run.py PROGRAM [DOCTEST OPTION...]: runs kvc_avx512_tests on an emulated processor with AVX-512.

No machine needs to have AVX-512: Bochs (Debian: bochs) executes it instruction by instruction, as a Skylake-X. It boots Debian's own
kernel with the program as the only file and first process, twice: without the registers of AVX saved by the system, where no target
of AVX may be offered, and then with them, for all tests. What the program writes comes through the serial port.
"""
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

KERNEL = Path(".tools/linux/vmlinuz")
FOLDER = Path("build/avx512")
BOOT_LIMIT_S = 600
TESTS_LIMIT_S = 3600

# pku: Bochs 2.7 reports sizes of its state that the kernel does not believe, and would then leave AVX unused.
BOOT = ("console=ttyS0 quiet panic=-1 nokaslr mitigations=off nosmp acpi=off pci=off audit=0 lsm= "
        "tsc=reliable lpj=1000000 clearcpuid=pku,xsavec,xsaves")

BOCHSRC = """\
config_interface: textconfig
display_library: term
cpu: model=corei7_skylake_x, count=1, ips=50000000, reset_on_triple_fault=0
memory: guest=1024, host=1024
romimage: file=/usr/share/bochs/BIOS-bochs-latest
vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest
boot: cdrom
ata0: enabled=1
ata0-master: type=cdrom, path=boot.iso, status=inserted
com1: enabled=1, mode=file, dev=serial.txt
log: bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
clock: sync=none
speaker: enabled=0, mode=none
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
"""


def cpio(name, content, mode):
    """One file of an archive in the "newc" format, which is what the kernel unpacks."""
    path = name.encode() + b"\0"
    fields = [0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(path), 0]
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + path
    return head + bytes(-len(head) % 4) + content + bytes(-len(content) % 4)


def write_disc(program, folder, arguments):
    """A bootable disc: kernel, the program as /init, and the kernel's command line."""
    tree = folder / "disc"
    shutil.rmtree(folder, ignore_errors=True)
    tree.mkdir(parents=True)
    shutil.copy("/usr/lib/ISOLINUX/isolinux.bin", tree)
    shutil.copy("/usr/lib/syslinux/modules/bios/ldlinux.c32", tree)
    shutil.copy(KERNEL, tree / "vmlinuz")
    (tree / "initrd").write_bytes(cpio("init", program.read_bytes(), 0o100755) + cpio("TRAILER!!!", b"", 0))
    (tree / "isolinux.cfg").write_text(f"DEFAULT kvc\nLABEL kvc\n KERNEL /vmlinuz\n APPEND initrd=/initrd {BOOT} {arguments}\n")
    subprocess.run(["genisoimage", "-quiet", "-o", folder / "boot.iso", "-b", "isolinux.bin", "-c", "boot.cat", "-no-emul-boot",
                    "-boot-load-size", "4", "-boot-info-table", tree], check=True)
    (folder / "bochsrc").write_text(BOCHSRC)
    (folder / "commands").write_text("c\nquit\n")  # Debian's Bochs starts in its debugger


def emulate(folder, limit_s):
    """Runs Bochs until it ends by itself or the time is up; returns what the serial port said."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(folder)
        os.environ["TERM"] = "vt100"
        os.nice(10)
        os.execvp("bochs", ["bochs", "-q", "-f", "bochsrc", "-rc", "commands"])
    try:
        return follow(terminal, folder / "serial.txt", time.monotonic() + limit_s)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def follow(terminal, serial, end):
    """Prints what comes through the serial port until the emulator closes its terminal or the time is up."""
    shown, text, ended = 0, "", False
    while not ended and time.monotonic() < end:
        if select.select([terminal], [], [], 1)[0]:
            try:
                os.read(terminal, 65536)  # the emulated screen: nobody looks at it, but it has to go somewhere
            except OSError:
                ended = True
        text = serial.read_text(errors="replace") if serial.exists() else ""
        complete = text.rfind("\n") + 1
        sys.stdout.write(text[shown:complete].replace("\r", ""))
        sys.stdout.flush()
        shown = complete
    return text


def boot(program, name, arguments, limit_s):
    """Whether the program ran to its end in the emulated machine with all its tests passed, and what was said."""
    began = time.monotonic()
    write_disc(program, FOLDER / name, arguments)
    text = emulate(FOLDER / name, limit_s)
    seconds = time.monotonic() - began
    status = re.search(r"kvc_avx512_tests: exit status (\d+)", text)
    if not status:
        print(f"avx512: {name}: no result after {seconds:.0f} s; {FOLDER / name}/serial.txt and bochs.log have what was said")
        return False, text
    print(f"avx512: {name}: exit status {status[1]} in {seconds:.0f} s")
    return status[1] == "0", text


def main():
    program, options = Path(sys.argv[1]), sys.argv[2:] or ["-nc", "-d"]
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # so that the emulator does not outlive this program
    passed, text = boot(program, "unsaved", "noxsave -- -nc --test-case=dispatch*", BOOT_LIMIT_S)
    if not passed or "AVX-512: processor true, system false" not in text:
        print("avx512: FAILED where the system saves no registers of AVX")
        return 1
    passed, text = boot(program, "skylake_x", "-- " + " ".join(options), TESTS_LIMIT_S)
    if not passed:
        print("avx512: FAILED")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
