"""A server of docs/SERVERS.md as tests and the load test drive it: its process, requests to it, its metrics. Loopback alone."""
import http.client
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

COMMAND = os.environ.get("KVC_SERVER", "build/servers/server_go")
ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "build" / "servers" / "model"
GENERATE = ROOT / "build" / "servers" / "generate"
MODE = "int4"
REQUEST_SECONDS = 300  # longest wait for an answer
END_SECONDS = 10  # docs/SERVERS.md says 5, of a machine that does not do other things beside


class Server:
    """Starts it on a free port and waits until it is healthy. `command` is a command line."""

    def __init__(self, command: str, *options: str, seconds: float = 60):
        words = [*shlex.split(command), "--port", "0", "--model", str(MODEL), *options]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT, text=True)
        self.patience = REQUEST_SECONDS
        self.errors: list[str] = []
        self._reader = threading.Thread(target=lambda: self.errors.extend(self.process.stderr), daemon=True)
        self._reader.start()
        self.port, limit = 0, threading.Timer(seconds, self.process.kill)
        limit.start()
        for line in self.process.stdout:
            if found := re.match(r"listening on 127\.0\.0\.1:(\d+)$", line.strip()):
                self.port = int(found.group(1))
                break
        limit.cancel()
        if not self.port:
            self.process.wait()
            self._reader.join(5)
            raise RuntimeError(f"{shlex.join(words)} ended with {self.process.returncode}: {''.join(self.errors)}")
        deadline = time.monotonic() + seconds
        while self.get("/healthz")[0] != 200:
            if time.monotonic() > deadline:
                raise RuntimeError("the server does not become healthy")
            time.sleep(0.05)

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.patience)

    def request(self, method: str, path: str, body: bytes | None = None) -> tuple[int, dict, bytes]:
        connection = self.connection()
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def exchange(self, sent: bytes) -> bytes:
        """All that comes back until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as raw:
            raw.sendall(sent)
            return received(raw)

    def get(self, path: str) -> tuple[int, dict, bytes]:
        return self.request("GET", path)

    def complete(self, prompt: str, max_tokens: int, **more) -> tuple[int, dict, dict]:
        """Status, headers and the parsed answer, of a request without stream."""
        body = json.dumps({"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more}).encode()
        status, headers, data = self.request("POST", "/v1/completions", body)
        return status, headers, json.loads(data)

    def open_stream(self, prompt: str, max_tokens: int) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self.connection()
        body = json.dumps({"prompt": prompt, "max_tokens": max_tokens, "temperature": 0, "stream": True}).encode()
        connection.request("POST", "/v1/completions", body, {"Content-Type": "application/json"})
        return connection, connection.getresponse()

    def stream(self, prompt: str, max_tokens: int) -> tuple[int, list]:
        """Status and the events of a stream, the last of which is "[DONE]" unless it was cut."""
        connection, answer = self.open_stream(prompt, max_tokens)
        try:
            return answer.status, list(events(answer))
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """By name and labels, without the prefix: {"num_requests_running": 0.0, 'kv_cache_bytes{kind="arena"}': ...}"""
        status, _, text = self.get("/metrics")
        assert status == 200
        lines = [line for line in text.decode().splitlines() if line and not line.startswith("#")]
        assert all(re.match(r'kvc:[a-z_]+(\{[a-z_]+="[a-z_]+"\})? [-+.e0-9]+$', line) for line in lines), lines
        return {name.removeprefix("kvc:"): float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}

    def wait_for(self, condition, seconds: float = 120) -> dict[str, float]:
        """The first metrics that meet a condition."""
        deadline = time.monotonic() + seconds
        while not condition(found := self.metrics()):
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def stop(self) -> tuple[int, float]:
        """Asks it to end: exit status and seconds."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._reader.join(5)
        return self.process.returncode, time.monotonic() - began


def chat(question: str, system: str = "") -> str:
    return f"{system}<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"


def nothing_left(found: dict[str, float]) -> bool:
    """Of metrics: no sequences, and no records beyond the prefix index."""
    return (found["kv_cache_sequences"] == found["num_requests_running"] == found["num_requests_waiting"] == 0
            and found['kv_cache_bytes{kind="reserved"}'] == 0
            and found['kv_cache_bytes{kind="record"}'] == found['kv_cache_bytes{kind="prefix"}'])


def post(body: bytes, *fields: str, length: int | None = None) -> bytes:
    """A completion request as it goes over the wire; length: what it says of its body."""
    lines = ["POST /v1/completions HTTP/1.1", "Host: a", *(fields or [f"Content-Length: {len(body) if length is None else length}"])]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def received(raw: socket.socket) -> bytes:
    """All that comes until the server closes."""
    data = b""
    try:
        while part := raw.recv(1 << 16):
            data += part
    except ConnectionResetError:
        pass
    return data


def events(answer: http.client.HTTPResponse):
    """Parsed data lines of a server-sent event stream, "[DONE]" as it is."""
    for line in answer:
        line = line.strip()
        if line.startswith(b"data: "):
            data = line.removeprefix(b"data: ")
            yield data.decode() if data == b"[DONE]" else json.loads(data)


def cut_connection(connection: http.client.HTTPConnection, answer: http.client.HTTPResponse | None = None) -> None:
    """As a client that dies: with a reset instead of a farewell. The answer holds the socket, too."""
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.sock.close()
    if answer:
        answer.close()


def reference(prompt: str, max_tokens: int, mode: str, policy: str = "") -> tuple[str, str]:
    """Text and finish reason that generate.c gives."""
    command = [str(GENERATE), "--model", str(MODEL), "--mode", mode, "--policy", policy, "--max-tokens", str(max_tokens), "--threads", "2"]
    done = subprocess.run(command, input=prompt.encode(), capture_output=True, check=True, timeout=REQUEST_SECONDS)
    return done.stdout.decode(), done.stderr.decode().split()[-1]
