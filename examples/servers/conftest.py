"""What the black-box tests of servers share."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from client import COMMAND, Server  # noqa: E402


@pytest.fixture
def start():
    """Servers of one test."""
    begun = []

    def run(*options: str) -> Server:
        begun.append(Server(COMMAND, "--threads", "2", *options))
        return begun[-1]

    yield run
    for one in begun:
        assert one.stop()[0] == 0, one.errors
