"""What every server of docs/SERVERS.md makes of HTTP: targets of every form, lengths, codings, and what an HTTP library answers by itself."""
import json
import os
import socket
import time
from contextlib import suppress

import pytest
from client import post, received

# Statuses that an HTTP library has of its own, in words that are no JSON or without any; 0 = it ends the connection (docs/SERVERS.md, HTTP).
BY_THE_LIBRARY = {
    "net/http": {
        "GET /%zz": 400, "two codings": 501, "no chunks": 501, "chunks twice": 501, "chunks in two fields": 501, "coding of a GET": 501,
        "chunks and a length": 200, "length twice": 200, "expectation": 417, "version": 505, "field": 400, "bare CR": 400, "CR before a field": 400,
        "NUL": 400, "no host": 400, "two hosts": 400, "long head": 431},
    "hyper": {
        "GET /healthz#x": 200, "GET /healthz?a=b#x": 200, "no chunks": 400, "chunks and a length": 200, "length twice": 200, "version": 400,
        "field": 400, "bare CR": 400, "CR before a field": 400, "NUL": 400, "long target": 414, "long head": 431},
    "com.sun.net.httpserver": {
        "GET //healthz": 404, "GET mailto:a": 0, "OPTIONS *": 404, "CONNECT a:80": 0, "GET http://a": 404, "GET /%zz": 400, "trailers": 400,
        "two codings": 501, "no chunks": 501, "chunks twice": 501, "chunks in two fields": 501, "coding of a GET": 501, "chunks and a length": 400,
        "length twice": 400, "version": 200, "field": 400, "bare CR": 400, "CR before a field": 200, "long head": 0, "100 first": 100},
}.get(os.environ.get("KVC_SERVER_LIBRARY", ""), {})
BODY = b'{"prompt": "a", "max_tokens": 1}'
IN_CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


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
    ("two codings", post(IN_CHUNKS, "Transfer-Encoding: gzip, chunked", "Connection: close"), 501),
    ("chunks twice", post(IN_CHUNKS, "Transfer-Encoding: chunked, chunked", "Connection: close"), 501),
    ("chunks in two fields", post(IN_CHUNKS, "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", "Connection: close"), 501),
    ("chunks and a length", post(IN_CHUNKS, "Transfer-Encoding: chunked", "Content-Length: 5", "Connection: close"), 400),
    ("length twice", post(BODY, f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY)}", "Connection: close"), 400),
    ("coding of a GET", b"GET /healthz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\nConnection: close\r\n\r\n0\r\n\r\n", 501),
    ("CR before a field", b"GET /healthz HTTP/1.1\r\nHost: a\r\nB: c\rD: e\r\nConnection: close\r\n\r\n", 400),
    ("bare CR", b"GET /healthz HTTP/1.1\r\nHost: a\r\nB: c\rd\r\nConnection: close\r\n\r\n", 400),
    ("NUL", b"GET /healthz HTTP/1.1\r\nHost: a\r\nB: c\0d\r\nConnection: close\r\n\r\n", 400),
    ("no host", b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    ("two hosts", b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", 400),
    ("no host in 1.0", b"GET /healthz HTTP/1.0\r\nConnection: close\r\n\r\n", 200),
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


@pytest.mark.parametrize("fields, sent", [
    (["Content-Length: 1048577"], b""), ([f"Content-Length: {10**12}"], b""), (["Content-Length: 1048577", "Expect: 100-continue"], b""),
    (["Transfer-Encoding: chunked"], b"200000\r\n" + b" " * 0x100001)], ids=["one byte", "huge", "asked", "chunk"])
def test_a_body_that_is_too_large_is_refused_at_once(server, fields, sent):
    """Nobody waits for the rest of it, and nobody is told to send it."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:  # a body is waited for twice as long
        raw.sendall(post(sent, *fields))
        answer = raw.recv(1 << 16)
        if "Expect: 100-continue" in fields and "100 first" in BY_THE_LIBRARY:
            first, _, answer = answer.partition(b"\r\n\r\n")
            assert first.startswith(b"HTTP/1.1 100 ")
        while b"}}" not in answer and (part := raw.recv(1 << 16)):
            answer += part
    assert status_of(answer) == 413 and is_json(answer), answer


@pytest.mark.parametrize("fields, sent", [
    (["Content-Length: 2097151"], b" " * 2097151), (["Transfer-Encoding: chunked"], b"1fffff\r\n" + b" " * 0x1fffff + b"\r\n0\r\n\r\n")],
    ids=["length", "chunk"])
def test_who_has_sent_too_much_reads_why_it_is_refused(server, fields, sent):
    """And is not cut off while it sends, which would take the answer from it. net/http lets half a second pass before it does."""
    sent = post(sent, *fields)
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        for at in range(0, len(sent), len(sent) // 10 + 1):
            raw.sendall(sent[at:at + len(sent) // 10 + 1])
            time.sleep(0.07)
        answer = raw.recv(1 << 16)
    assert status_of(answer) == 413, answer


def test_the_largest_body_is_read(server):
    body = BODY + b" " * ((1 << 20) - len(BODY))
    assert status_of(server.exchange(post(body, f"Content-Length: {len(body)}", "Connection: close"))) == 200


def test_a_body_that_cannot_be_read(server):
    answer = server.exchange(post(b"zz\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Connection: close"))
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"invalid_request_error"' in answer, answer
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
        raw.sendall(post(BODY))
        raw.shutdown(socket.SHUT_WR)
        answer = received(raw)
    assert answer == b"" or b'"finish_reason"' in answer, "a client that closes its half has gone, or is answered"
