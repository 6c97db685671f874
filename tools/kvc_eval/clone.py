"""Where the clone lies, and the folder inside it that keeps what set-up downloads."""
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOWNLOADS = ROOT / ".cache" / "kvc-eval"


def download_folder() -> Path:
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    return DOWNLOADS
