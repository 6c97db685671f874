"""What every server of docs/SERVERS.md must do, seen from outside: KVC_SERVER="COMMAND LINE" pytest examples/servers/test_*.py"""
import json
import random
import resource
import shlex
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2] / "tools")]

from client import (COMMAND, END_SECONDS, MODE, MODEL, ROOT, chat, cut_connection, events, nothing_left, post, received,  # noqa: E402
                    reference)
from kvc_eval.texts import HAYSTACK, READ, novel  # noqa: E402

CLIENTS = 16
SYSTEM = ("<|im_start|>system\nYou are the librarian of a small town. You know every book on the shelves by heart, and every reader by name. "
          "You answer in a few plain sentences, you never invent a title, and where you do not know something you say so at once. "
          "Readers come to you with questions about novels, about rivers and mountains, about the history of their own town.<|im_end|>\n")
QUESTIONS = ["Name three rivers of Europe.", "Who wrote Emma?", "What is 2 + 2?", "Say something na\u00efve \u2014 in French.", "What is a fjord?",
             "Write a line of Python.", "How high is Mont Blanc?", "\u4f60\u597d\uff01", "Why is the sky blue?", "Tell me of the town's mill."]


@lru_cache(maxsize=None)
def expected(prompt: str, max_tokens: int, mode: str = MODE, policy: str = "") -> tuple[str, str]:
    return reference(prompt, max_tokens, mode, policy)


def passage(number: int, characters: int, text: str = READ) -> str:
    start = 20_000 + number * 10_000
    return novel(text)[start:start + characters]


def text_of(stream: list) -> tuple[str, str]:
    assert stream[-1] == "[DONE]", stream[-1]
    assert all(event["choices"][0]["finish_reason"] is None for event in stream[:-2])
    assert len({event["id"] for event in stream[:-1]}) == 1
    return "".join(event["choices"][0]["text"] for event in stream[:-1]), stream[-2]["choices"][0]["finish_reason"]


def test_health(server):
    status, headers, body = server.get("/healthz")
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert headers["content-type"].startswith("application/json")


def test_models(server):
    """What OpenAI's clients ask first."""
    status, headers, body = server.get("/v1/models")
    assert status == 200 and headers["content-type"].startswith("application/json")
    listed = json.loads(body)
    (model,) = listed.pop("data")
    assert listed == {"object": "list"}
    assert abs(model.pop("created") - time.time()) < 24 * 3600
    assert model == {"id": server.complete(chat(QUESTIONS[0]), 1)[2]["model"], "object": "model", "owned_by": "kvc"}


@pytest.mark.parametrize("question", [QUESTIONS[1], QUESTIONS[3], QUESTIONS[7]])
def test_one_request_gives_the_text_of_the_reference(server, question):
    prompt, before = chat(question), server.metrics()
    text, finish = expected(prompt, 20)
    status, _, answer = server.complete(prompt, 20)
    assert status == 200
    assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == (text, finish)
    assert (answer["object"], answer["choices"][0]["index"]) == ("text_completion", 0)
    usage, after = answer["usage"], server.metrics()
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] and 0 < usage["completion_tokens"] <= 20
    assert after["prompt_tokens_total"] - before["prompt_tokens_total"] == usage["prompt_tokens"]
    assert after["generation_tokens_total"] - before["generation_tokens_total"] == usage["completion_tokens"]
    status, stream = server.stream(prompt, 20)
    assert status == 200 and text_of(stream) == (text, finish)
    assert len(stream) > 4


def test_text_that_ends_by_itself(server):
    prompt = chat("Answer with one word: what is the capital of France?")
    text, finish = expected(prompt, 100)
    assert finish == "stop"
    answer = server.complete(prompt, 100)[2]
    assert (answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]) == (text, "stop")


def test_a_long_prompt_beside_a_stream(server):
    """Its prompt is read in chunks while another stream goes on, which must not wait for the end of it."""
    long, short = "Tell the story on.\n" + passage(0, 4000), chat(QUESTIONS[0])
    both = expected(long, 8), expected(short, 60)
    order = []
    with ThreadPoolExecutor(2) as pool:
        connection, answer = server.open_stream(short, 60)
        stream = [next(events(answer))]

        def whole():
            result = server.complete(long, 8)[2]["choices"][0]["text"]
            order.append(len(stream))
            return result

        waiting = pool.submit(whole)
        for event in events(answer):
            stream.append(event)
        connection.close()
        assert (waiting.result(), text_of(stream)) == (both[0][0], both[1])
    assert order[0] > 3, "the stream stood still while the prompt was read"


def test_tokens_come_as_they_are_written(server):
    name = "generation_tokens_total"
    before = server.metrics()[name]
    connection, answer = server.open_stream(chat(QUESTIONS[0]), 60)
    next(events(answer))
    assert server.metrics()[name] - before < 20, "the first token was held back"
    assert len(list(events(answer))) > 50
    connection.close()


def test_sixteen_clients_at_once(server):
    prompts = [chat(QUESTIONS[i % len(QUESTIONS)], SYSTEM) for i in range(CLIENTS)]
    texts = [expected(prompt, 24) for prompt in prompts]
    server.complete(prompts[0], 1)  # publishes the system prompt
    before, seen, done = server.metrics(), [], threading.Event()

    def watch():
        while not done.wait(0.05):
            seen.append(server.metrics())

    def ask(i: int) -> tuple[str, str]:
        if i % 2:
            status, stream = server.stream(prompts[i], 24)
            assert status == 200
            return text_of(stream)
        status, _, answer = server.complete(prompts[i], 24)
        assert status == 200, answer
        return answer["choices"][0]["text"], answer["choices"][0]["finish_reason"]

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            assert list(pool.map(ask, range(CLIENTS))) == texts
    finally:
        done.set()
        watcher.join()
    after = server.wait_for(nothing_left)
    assert max(found["num_requests_running"] for found in seen) >= CLIENTS // 2
    assert max(found["kv_cache_usage_perc"] for found in seen) > after["kv_cache_usage_perc"]
    assert max(found["kv_cache_compression_ratio"] for found in seen) > 0.5
    assert after["prefix_cache_hits_total"] - before["prefix_cache_hits_total"] >= CLIENTS * 64
    assert after["num_preemptions_total"] == 0
    assert after['kv_cache_bytes{kind="prefix"}'] > 0


def test_clients_that_go_away(server):
    before = server.metrics()
    waiting = []
    for i in range(8):
        connection, answer = server.open_stream(chat(QUESTIONS[i]) + "A list: 1, 2, 3,", 2000)
        waiting.append((connection, answer, i))
    for connection, answer, i in waiting:
        for _ in zip(range(1 + i % 3), events(answer)):
            pass
        cut_connection(connection, answer)
    silent = server.connection()  # goes before the answer has begun
    silent.request("POST", "/v1/completions", json.dumps({"prompt": chat("Count to a thousand: 1, 2,"), "max_tokens": 2000}).encode())
    server.wait_for(lambda found: found["num_requests_running"] > 0)
    cut_connection(silent)
    name = 'request_success_total{finished_reason="abort"}'
    after = server.wait_for(lambda found: nothing_left(found) and found[name] - before[name] >= 8)
    assert after["generation_tokens_total"] - before["generation_tokens_total"] < 8 * 2000
    prompt = chat(QUESTIONS[1])
    assert server.complete(prompt, 20)[2]["choices"][0]["text"] == expected(prompt, 20)[0]


@pytest.mark.parametrize("how", ["farewell", "reset", "half"])
def test_clients_that_go_away_behind_more_bytes(server, how):
    """What follows a request, with it or later, hides no end of the connection: nobody computes for who has gone."""
    before, name, clients = server.metrics(), 'request_success_total{finished_reason="abort"}', []
    for stream in (False, True):
        sent = post(json.dumps({"prompt": "Count to a thousand: 1, 2, 3, 4,", "max_tokens": 3000, "stream": stream}).encode())
        for more, later in ((b"\r\n", b""), (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b""), (b"", b"\r\n"), (b"\r\n", b"\r\n" * 5000)):
            clients.append((socket.create_connection(("127.0.0.1", server.port), timeout=60), later))
            clients[-1][0].sendall(sent + more)
    server.wait_for(lambda found: found["num_requests_running"] == len(clients))
    for client, later in clients:
        client.sendall(later)
    time.sleep(0.3)
    for client, _ in clients:
        if how == "half":
            client.shutdown(socket.SHUT_WR)
            continue
        if how == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
    try:
        server.wait_for(lambda found: nothing_left(found) and found[name] - before[name] == len(clients), 15)
    finally:
        for client, _ in clients:
            client.close()


@pytest.mark.parametrize("body", [
    b"", b"{", b"null", b"[]", b'"text"', b"{}", b'{"prompt": ""}', b'{"prompt": null}', b'{"prompt": 5}', b'{"prompt": ["a"]}', b'{"prompt": "a\xff"}',
    b'{"prompt": "a", "max_tokens": 0}', b'{"prompt": "a", "max_tokens": -1}', b'{"prompt": "a", "max_tokens": 1.5}', b'{"prompt": "a", "max_tokens": "9"}',
    b'{"prompt": "a", "max_tokens": 8192}', b'{"prompt": "a", "max_tokens": 1e300}', b'{"prompt": "a", "max_tokens": true}',
    b'{"prompt": "a", "temperature": 0.7}', b'{"prompt": "a", "temperature": "0"}', b'{"prompt": "a", "stream": "yes"}', b'{"prompt": "a", "stream": 1}',
    b'{"prompt": "a", "n": 2}', b'{"prompt": "a", "stop": ["\\n"]}', b'{"prompt": "a", "logprobs": 1}', b'{"prompt": "a", "echo": true}',
    b'{"prompt": "a", "best_of": 3}', b'{"prompt": "a", "suffix": "b"}', b'{"prompt": "a"} {"prompt": "b"}',
    b'{"prompt": "\\u0004\\u0006"}', b'{"prompt": "\\u0006\\u001d", "stream": true}',  # text that no token is for
    b'{"prompt": "a\\ud800"}', b'{"prompt": "a\\udc00b"}', b'{"prompt": "a", "user": "\\ud83d\\u0041"}',  # no Unicode
    b'{"prompt": "a", "more": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    b'{"prompt": "' + b"a" * 1_000_000 + b'"}', b'{"prompt": "' + b"\\u0004" * 150_000 + b'"}',
], ids=lambda body: repr(body[:40]))
def test_malformed_requests(server, body):
    status, headers, data = server.request("POST", "/v1/completions", body)
    assert status == 400, data
    assert headers["content-type"].startswith("application/json")
    error = json.loads(data)["error"]
    assert error["type"] == "invalid_request_error" and error["message"] and set(error) == {"message", "type", "param", "code"}


def test_a_prompt_without_tokens_beside_a_stream(server):
    """It has no row of its own to choose a token from, and must not be given those of another client."""
    prompt = chat(QUESTIONS[0])
    connection, answer = server.open_stream(prompt, 60)
    stream = [next(events(answer))]
    for _ in range(4):
        status, _, body = server.complete("\x04", 1)
        assert status == 400 and body["error"]["type"] == "invalid_request_error", body
    stream += events(answer)
    connection.close()
    assert text_of(stream) == expected(prompt, 60)


def test_fields_that_change_nothing(server):
    nested: list = []
    for _ in range(98):
        nested = [nested]
    more = {"temperature": None, "n": 1, "stop": None, "echo": False, "best_of": 1, "user": "someone", "model": "any", "stream": None, "top_p": 1,
            "nested": nested}
    prompt = chat(QUESTIONS[1])
    status, _, answer = server.complete(prompt, 20, **more)
    assert status == 200 and answer["choices"][0]["text"] == expected(prompt, 20)[0]
    status, _, data = server.request("POST", "/v1/completions", json.dumps({"prompt": prompt}).encode())
    assert status == 200 and json.loads(data)["choices"][0]["text"] == expected(prompt, 16)[0]


def test_bodies_that_are_too_large_or_cut_off(server):
    status, _, data = server.request("POST", "/v1/completions", json.dumps({"prompt": "a " * (1 << 19) + "a"}).encode())
    assert status == 413 and json.loads(data)["error"]["type"] == "invalid_request_error"
    for sent in (b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{\"prompt\"", b"\x16\x03\x01garbage\r\n\r\n", b"POST"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
            raw.sendall(sent)
    assert nothing_left(server.wait_for(nothing_left))
    assert server.get("/healthz")[0] == 200


def test_requests_that_do_not_come_whole(server):
    """Heads have 10 seconds, however their bytes come, and so have bodies."""
    def dripping(raw: socket.socket) -> None:
        with suppress(OSError):  # the server, and then this test, closes it
            for _ in range(60):
                time.sleep(0.7)
                raw.sendall(b"x")

    def answer_to(sent: bytes, drips: bool) -> tuple[bytes, float]:
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as raw:
            raw.sendall(sent)
            if drips:
                threading.Thread(target=dripping, args=(raw,), daemon=True).start()
            return received(raw), time.monotonic() - began

    head, body = b"POST /v1/completions HTTP/1.1\r\nHost: ", post(b'{"prompt": "', length=100)
    with ThreadPoolExecutor(4) as pool:
        for answer, seconds in pool.map(answer_to, (head, head, body, body), (False, True, False, True)):
            assert 5 < seconds < 40
            assert answer == b"" or answer.startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 ")), answer


def test_connections_that_say_nothing(start):
    """More than any server has threads for: they must not keep out who has a question."""
    least, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, most) if most > 0 else 4096, most))
    silent: list[socket.socket] = []
    try:
        server = start("--mode", MODE)
        silent += (socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(1100))
        began = time.monotonic()
        assert server.get("/healthz")[0] == 200
        assert time.monotonic() - began < 5
    finally:
        for one in silent:
            one.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, most))


def test_back_pressure(start):
    """Room for a few requests and a queue of two: of twelve at once some are answered and some told to come again."""
    server = start("--mode", "fp16", "--arena-bytes", str(24 << 20), "--max-queue", "2")
    prompt = chat(QUESTIONS[0])
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: server.complete(prompt, 200), range(12)))
    refused = [(headers, body) for status, headers, body in answers if status == 429]
    served = [body["choices"][0]["text"] for status, _, body in answers if status == 200]
    assert len(refused) + len(served) == 12 and refused and len(served) >= 3
    for headers, body in refused:
        assert int(headers["retry-after"]) >= 1 and body["error"]["type"] == "rate_limit_error"
    assert set(served) == {expected(prompt, 200, "fp16")[0]}
    found = server.wait_for(nothing_left)
    assert found["request_rejected_total"] == len(refused) and found["num_preemptions_total"] == 0
    status, _, body = server.complete(prompt, 4000)  # more than the arena can ever hold
    assert status == 400 and body["error"]["type"] == "invalid_request_error"
    assert server.complete(prompt, 16)[0] == 200


@pytest.mark.parametrize("mode, policy, mebibytes, action", [("int8,window=0/int4", "step-down", 32, "step_down"),
                                                             ("int4,window=0", "evict:128", 20, "evict")])
def test_memory_that_is_full(start, mode, policy, mebibytes, action):
    """Four streams, of which two would fit without giving something up: all of them end well."""
    server = start("--mode", mode, "--policy", policy, "--arena-bytes", str(mebibytes << 20), "--max-queue", "8")
    prompts = [passage(i, 4000, HAYSTACK) for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda prompt: server.complete(prompt, 40), prompts))
    assert [status for status, _, _ in answers] == [200] * 4
    assert all(body["usage"]["prompt_tokens"] > 600 and body["choices"][0]["text"] for _, _, body in answers)
    found = server.wait_for(nothing_left)
    assert found[f'pressure_total{{action="{action}"}}'] > 0
    assert found["tokens_requantized_total" if action == "step_down" else "tokens_evicted_total"] > 0


def test_a_policy_of_the_library(start):
    server = start("--mode", "int4", "--policy", "h2o:256", "--arena-bytes", str(24 << 20))
    prompt = passage(9, 2000)
    with ThreadPoolExecutor(3) as pool:
        texts = list(pool.map(lambda _: server.complete(prompt, 24)[2]["choices"][0]["text"], range(3)))
    assert set(texts) == {expected(prompt, 24, "int4", "h2o:256")[0]}
    assert texts[0] != expected(prompt, 24, "int4")[0]
    assert server.wait_for(nothing_left)["tokens_evicted_total"] > 0


def test_an_end_in_the_middle_of_work(start):
    server = start("--mode", MODE)
    connection, answer = server.open_stream(chat("Count to a thousand: 1, 2, 3,") + "1, 2, 3, 4,", 4000)
    stream = events(answer)
    next(stream)
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(server.stop)
        rest = list(stream)
        status, seconds = ending.result()
    connection.close()
    assert (status, server.errors) == (0, []) and seconds < END_SECONDS
    assert rest[-1] != "[DONE]" and rest[-1]["error"]["type"] == "server_error"


def test_an_end_while_long_prompts_become_tokens(start):
    """Words of 600 kB, about the longest that are looked at: the end waits for none of them, and frees nothing under them."""
    server = start("--mode", MODE)
    word = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz", k=600_000))
    message = post(json.dumps({"prompt": word}).encode())
    clients = [socket.create_connection(("127.0.0.1", server.port), timeout=60) for _ in range(16)]
    for client in clients:
        client.sendall(message[:-1])
    for client in clients:
        client.sendall(message[-1:])
    time.sleep(0.2)
    status, seconds = server.stop()
    for client in clients:
        client.close()
    assert (status, server.errors) == (0, []) and seconds < END_SECONDS


def test_an_end_before_it_listens():
    with subprocess.Popen([*shlex.split(COMMAND), "--port", "0", "--model", str(MODEL)], cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and "weights.bin" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.001)
        process.terminate()
        assert process.wait(60) == 0
