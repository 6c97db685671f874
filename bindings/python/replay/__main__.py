"""replay_python [target=T] [threads=N] FILE...: prints the digest of each script, as sha256sum prints those of files."""
import sys

from .replayer import Replayer
from .script import ScriptError, parse


def replay(path: str, target: str, threads: int) -> str:
    replayer = Replayer(target, threads)
    try:
        with open(path, encoding="utf-8") as file:
            operations = parse(file.read())
        for line in operations:
            try:
                replayer.run(line)
            except (ScriptError, KeyError, ValueError) as fault:
                raise ScriptError(f"line {line.line}: {fault}") from fault
        return replayer.digest()
    finally:
        replayer.close()


def main(arguments: list[str]) -> int:
    target, threads, failed, files = "", 0, False, []
    for argument in arguments:
        if argument.startswith("target="):
            target = argument.removeprefix("target=")
        elif argument.startswith("threads="):
            threads = int(argument.removeprefix("threads="))
        else:
            files.append(argument)
    if not files:
        print(__doc__, file=sys.stderr)
        return 2
    for path in files:
        try:
            print(f"{replay(path, target, threads)}  {path}", flush=True)
        except (ScriptError, OSError, UnicodeDecodeError) as fault:
            print(f"{path}: {fault}", file=sys.stderr, flush=True)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
