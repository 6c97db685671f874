"""What the black-box tests of servers share."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from client import COMMAND, END_SECONDS, MODE, Server  # noqa: E402


@pytest.fixture(scope="module")
def server():
    """One for all tests of a file that need no other."""
    started = Server(COMMAND, "--mode", MODE, "--threads", "2")
    yield started
    status, seconds = started.stop()
    assert (status, started.errors) == (0, []), "nothing may be left at the end"
    assert seconds < END_SECONDS


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
