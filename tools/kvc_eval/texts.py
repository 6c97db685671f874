"""The default text: Jane Austen's Persuasion (public domain), from Debian's package r-cran-janeaustenr.

Nothing is committed and nothing is installed: the package is downloaded with apt-get and unpacked inside the clone.
"""
import hashlib
import subprocess
from pathlib import Path

from .clone import download_folder
from .r_data import read_strings

PACKAGE, VERSION = "r-cran-janeaustenr", "1.0.0-1"
# Of the text as joined below; a different one would give figures that compare with nothing.
PERSUASION_SHA256 = "63b41ca409cb5cc007c0d4c191d7fa046db4b023986d59f533ad7cb4bad35ff2"


def default_text() -> str:
    """Persuasion with each paragraph on one line and a blank line between paragraphs."""
    cached = download_folder() / "persuasion.txt"
    if not cached.exists():
        lines = read_strings(_unpacked_package() / "usr/lib/R/site-library/janeaustenr/data", "persuasion")
        text = join_paragraphs(lines)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest != PERSUASION_SHA256:
            raise RuntimeError(f"{PACKAGE} holds another Persuasion than expected (SHA-256 {digest}); pass --text FILE")
        cached.write_text(text, encoding="utf-8")
    return cached.read_text(encoding="utf-8")


def join_paragraphs(lines: list[str]) -> str:
    paragraphs, current = [], []
    for line in [*lines, ""]:
        if line.strip():
            current.append(line.strip())
        elif current:
            paragraphs.append(" ".join(current))
            current = []
    return "\n\n".join(paragraphs)


def _unpacked_package() -> Path:
    folder = download_folder()
    target = folder / f"{PACKAGE}_{VERSION}"
    if target.exists():
        return target
    command = ["apt-get", "download", "-q", f"{PACKAGE}={VERSION}"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as fault:
        detail = getattr(fault, "stderr", "") or str(fault)
        raise RuntimeError(
            f"the default text comes from Debian's package {PACKAGE}, and '{' '.join(command)}' failed: {detail.strip()}\n"
            "Run 'apt-get update' first, or pass --text FILE with a text of your own.") from fault
    partial = target.with_suffix(".partial")
    subprocess.run(["dpkg", "-x", str(next(folder.glob(f"{PACKAGE}_*.deb"))), str(partial)], check=True)
    partial.rename(target)
    return target
