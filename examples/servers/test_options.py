"""The options of docs/SERVERS.md, seen from outside, where test_servers.py does not use them."""
import fcntl
import json
import re
import shlex
import socket
import struct
import subprocess
import termios
import time

import pytest
from client import COMMAND, ROOT, Server, chat, events, nothing_left, post

DOCUMENT = (ROOT / "docs" / "SERVERS.md").read_text()


def test_help():
    options = re.findall(r"^\| `(--[a-z-]+)", DOCUMENT, re.MULTILINE)
    assert {"--port", "--write-timeout", "--help"} <= set(options)
    done = subprocess.run([*shlex.split(COMMAND), "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    for option in set(options) - {"--help"}:
        assert len(re.findall(rf"^ *-?{option}\b|^ *{option[1:]}\b", done.stdout, re.MULTILINE)) == 1, (option, done.stdout)
    assert "1 to 257" in done.stdout


@pytest.mark.parametrize("options", [
    ["--mode", "int5"], ["--arena-bytes", "4096"], ["--nonsense", "1"], ["--threads", "0"], ["--policy", "step-down"], ["--policy", "h2o"],
    ["--policy", "evict:"], ["--policy", "evict:0"], ["--policy", "evict:+5"], ["--policy", "evict:-5"], ["--policy", "evict: 5"],
    ["--policy", "evict:2147483648"], ["--policy", "evict:99999999999"], ["--model", "/nowhere"], ["--max-queue", "-1"],
    ["--threads", "258"], ["--threads", "-1"], ["--threads", "many"], ["--threads", "99999999999999999999"],
    ["--write-timeout", "0"], ["--write-timeout", "86401"], ["--write-timeout", "soon"]], ids=" ".join)
def test_what_cannot_be_served_ends_at_once(options):
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"ended with 1: [^\n]*\S\n$") as refused:  # one line
        Server(COMMAND, *options).stop()
    assert time.monotonic() - began < 30
    if options[0] == "--threads":
        said = str(refused.value).partition("ended with 1: ")[2]
        assert all(word in said for word in (options[0].lstrip("-"), options[1], "257")), said


def test_as_many_threads_as_there_may_be(start):
    assert start("--threads", "257").get("/healthz")[0] == 200


def unread(client: socket.socket) -> int:
    """Bytes that have arrived."""
    return struct.unpack("i", fcntl.ioctl(client, termios.FIONREAD, b"0000"))[0]


def test_a_client_that_does_not_read(start):
    """Its stream ends long before its text would, and what it held is free; who reads goes on meanwhile, for longer than the limit."""
    server = start("--mode", "int4", "--write-timeout", "2")
    prompt, most = chat("Count to a thousand: 1, 2, 3,") + "1, 2, 3, 4,", 8000
    before = server.metrics()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # little of the stream fits into it
        client.connect(("127.0.0.1", server.port))
        client.sendall(post(json.dumps({"prompt": prompt, "max_tokens": most, "stream": True}).encode()))
        server.wait_for(lambda found: found["num_requests_running"] == 1)
        connection, answer = server.open_stream(prompt, most)
        began, arrived, name = time.monotonic(), 0, 'request_success_total{finished_reason="abort"}'
        for event in events(answer):
            assert event["choices"][0]["finish_reason"] is None, "it reads, and is not cut"
            if server.metrics()[name] > before[name]:
                break
            if (bytes_now := unread(client)) != arrived:
                began, arrived = time.monotonic(), bytes_now
        assert arrived > 0 and 1 < time.monotonic() - began < 20, "2 seconds after the last bytes that the client had room for"
        server.wait_for(lambda found: found["num_requests_running"] == found["kv_cache_sequences"] == 1)
        next(events(answer))
        connection.close()
        answer.close()
        after = server.wait_for(nothing_left)
        assert after["generation_tokens_total"] - before["generation_tokens_total"] < most
