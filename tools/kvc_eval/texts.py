"""The default texts: two novels by Jane Austen (public domain), from Debian's package r-cran-janeaustenr.

Persuasion is read; Northanger Abbey hides the needles. Nothing is committed and nothing is installed: the package is
downloaded with apt-get and unpacked inside the clone.
"""
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from .clone import download_folder
from .r_data import read_strings

PACKAGE, VERSION = "r-cran-janeaustenr", "1.0.0-1"
READ, HAYSTACK = "persuasion", "northangerabbey"
# Of the texts as joined below; different ones would give figures that compare with nothing.
SHA256 = {
    READ: "63b41ca409cb5cc007c0d4c191d7fa046db4b023986d59f533ad7cb4bad35ff2",
    HAYSTACK: "6bf8f85c9a12df3e92975cdee5ac10156b7c320001fee10b932385245735006a",
}


def novel(name: str) -> str:
    """A novel with each paragraph on one line and a blank line between paragraphs."""
    cached = download_folder() / f"{name}.txt"
    if not cached.exists():
        lines = read_strings(_unpacked_package() / "usr/lib/R/site-library/janeaustenr/data", name)
        text = join_paragraphs(lines)
        digest = hashlib.sha256(text.encode()).hexdigest()
        if digest != SHA256[name]:
            raise RuntimeError(f"{PACKAGE} holds another {name} than expected (SHA-256 {digest}); pass --text FILE")
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
    download = ["download", "-q", f"{PACKAGE}={VERSION}"]
    if os.environ.get("NO_INSTALL") == "1":
        command = f"(cd {folder} && apt-get {' '.join(download)})"
        raise RuntimeError(f"NO_INSTALL=1: nothing was downloaded. Run this, then start again:\n    {command}\n"
                           "or pass --text FILE (and --needles 0 with --token-ids).")
    print(f"the texts come from Debian's package {PACKAGE}, unpacked inside this clone, not installed", file=sys.stderr, flush=True)
    try:
        _apt(folder, download)
    except (OSError, subprocess.CalledProcessError):
        # The machine's package lists are missing or old: lists of our own, inside the clone.
        lists = folder / "apt"
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        own = ["-o", f"Dir::State::lists={lists}", "-o", f"Dir::Cache={lists}", "-o", "APT::Sandbox::User=root"]
        try:
            _apt(folder, ["update", "-q", *own])
            _apt(folder, [*download, *own])
            shutil.rmtree(lists)
        except (OSError, subprocess.CalledProcessError) as fault:
            detail = getattr(fault, "stderr", "") or str(fault)
            raise RuntimeError(f"Debian's package {PACKAGE} {VERSION} could not be downloaded: {detail.strip()}\n"
                               "kvc-eval takes --text FILE instead (and --needles 0 with --token-ids).") from fault
    partial = target.with_suffix(".partial")
    subprocess.run(["dpkg", "-x", str(next(folder.glob(f"{PACKAGE}_*.deb"))), str(partial)], check=True)
    partial.rename(target)
    return target


def _apt(folder: Path, arguments: list[str]) -> None:
    subprocess.run(["apt-get", *arguments, "-o", "Acquire::Retries=5"], cwd=folder, check=True, capture_output=True, text=True)
