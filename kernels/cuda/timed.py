#!/usr/bin/env python3
"""Runs a compiler, and writes beside the object that it makes what processor time that took: OBJECT.seconds.

    timed.py COMPILER ... -o OBJECT ...
"""

import resource
import subprocess
import sys


def main():
    command = sys.argv[1:]
    status = subprocess.run(command).returncode
    if status == 0 and "-o" in command:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        with open(command[command.index("-o") + 1] + ".seconds", "w", encoding="utf-8") as out:
            out.write(f"{used.ru_utime + used.ru_stime:.1f}\n")
    return status


if __name__ == "__main__":
    sys.exit(main())
