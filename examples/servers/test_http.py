"""What every server of docs/SERVERS.md makes of HTTP: targets of every form, lengths, codings, and what an HTTP library answers by itself."""
import json
import os
import socket
from contextlib import suppress

import pytest
from client import post, received

# Statuses that an HTTP library has of its own, in words that are no JSON or without any; 0 = it ends the connection (docs/SERVERS.md, HTTP).
BY_THE_LIBRARY = {
    "net/http": {"GET /%zz": 400, "two codings": 501, "no chunks": 501, "expectation": 417, "version": 505, "field": 400, "long head": 431},
    "hyper": {"GET /healthz#x": 200, "GET /healthz?a=b#x": 200, "no chunks": 400, "version": 400, "field": 400, "long target": 414, "long head": 431},
    "com.sun.net.httpserver": {
        "GET //healthz": 404, "GET mailto:a": 0, "OPTIONS *": 404, "CONNECT a:80": 0, "GET http://a": 404, "GET /%zz": 400, "trailers": 400,
        "two codings": 501, "no chunks": 501, "version": 200, "field": 400, "long head": 0},
}.get(os.environ.get("KVC_SERVER_LIBRARY", ""), {})
BODY = b'{"prompt": "a", "max_tokens": 1}'


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def is_json(answer: bytes) -> bool:
    """In the form of docs/SERVERS.md: an error unless its status is 200."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return b"\r\ncontent-type: application/json" in head.lower() and (b'"error"' in body) == (status_of(answer) != 200)


@pytest.mark.parametrize("method, path, expected_status", [
    ("GET", "/v1/completions", 405), ("POST", "/metrics", 405), ("POST", "/v1/models", 405), ("HEAD", "/v1/models", 405), ("DELETE", "/healthz", 405), ("GET", "/", 404), ("POST", "/v1/chat", 404)])
def test_wrong_addresses(server, method, path, expected_status):
    status, headers, data = server.request(method, path, b"{}" if method == "POST" else None)
    assert status == expected_status and (method == "HEAD" or json.loads(data)["error"]["message"])


@pytest.mark.parametrize("line, expected_status", [
    ("GET //healthz", 404), ("GET /x/../healthz", 404), ("GET /healthz/", 404), ("GET mailto:a", 404), ("OPTIONS *", 404), ("CONNECT a:80", 404),
    ("GET /healthz?a=b", 200), ("GET http://a/healthz?a=b", 200), ("GET http://a//healthz", 404), ("GET http://a", 404), ("POST http://a/healthz", 405),
    ("GET /%68ealthz", 404), ("POST /v1%2fcompletions", 404), ("GET /healthz%3fa=b", 404), ("GET http://a/%68ealthz", 404), ("GET /%zz", 404),
    ("GET /healthz#x", 404), ("GET /healthz?a=b#x", 404)])
def test_targets_of_every_form(server, line, expected_status):
    """None leads to another place, and what is nowhere is so in JSON."""
    answer = server.exchange(f"{line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    if line in BY_THE_LIBRARY:
        assert status_of(answer) == BY_THE_LIBRARY[line], answer
        return
    assert status_of(answer) == expected_status and is_json(answer), answer


def test_lengths_and_trailers(server):
    for length in (f"+{len(BODY)}", f"-{len(BODY)}", f"{len(BODY)}x", "0x20", ""):
        answer = server.exchange(post(BODY, f"Content-Length: {length}", "Connection: close"))
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 "), (length, answer)
    answer = server.exchange(post(b"%x;a=b\r\n%s\r\n0\r\nA: b\r\n\r\n" % (len(BODY), BODY), "Transfer-Encoding: chunked", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 %d " % BY_THE_LIBRARY.get("trailers", 200)), answer


@pytest.mark.parametrize("name, sent, expected_status", [
    ("two codings", post(b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY), "Transfer-Encoding: gzip, chunked", "Connection: close"), 501),
    ("no chunks", post(b"", "Transfer-Encoding: gzip", "Connection: close"), 501),
    ("expectation", post(BODY, "Expect: a", f"Content-Length: {len(BODY)}", "Connection: close"), 200),
    ("version", b"GET /healthz HTTP/2.0\r\nHost: a\r\nConnection: close\r\n\r\n", 505),
    ("field", b"GET /healthz HTTP/1.1\r\nHost: a\r\nB : c\r\nConnection: close\r\n\r\n", 400),
    ("long target", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 404),
    ("long head", b"GET /healthz HTTP/1.1\r\nHost: a\r\nB: " + b"c" * 1_200_000 + b"\r\nConnection: close\r\n\r\n", 431),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_a_library_answers_by_itself(server, name, sent, expected_status):
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        with suppress(OSError):  # the server may end the connection before it has read all of a long head
            raw.sendall(sent)
        answer = received(raw)
    if name == "long head" and answer == b"":
        return
    if name in BY_THE_LIBRARY:
        assert status_of(answer) == BY_THE_LIBRARY[name], answer
    else:
        assert status_of(answer) in (expected_status, 431 if name.startswith("long") else 0) and is_json(answer), answer


def test_a_body_that_cannot_be_read(server):
    answer = server.exchange(post(b"zz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"invalid_request_error"' in answer, answer
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall(post(BODY))
        raw.shutdown(socket.SHUT_WR)
        answer = received(raw)
    assert answer == b"" or b'"finish_reason"' in answer, "a client that closes its half has gone, or is answered"
