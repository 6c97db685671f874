"""The two sides of a comparison as processes that take turns (engine.h describes the protocol)."""

import subprocess
import time

SETTLE_SECONDS = 0.01  # worker threads of the other side stop spinning before the next measurement


class Side:
    def __init__(self, command, environment=None):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)

    def ask(self, request, expected):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        words = self.process.stdout.readline().split()
        if len(words) != 2 or words[0] != expected:
            raise RuntimeError(f"{self.process.args[-1]}: '{request}' was answered with '{' '.join(words)}'")
        return float(words[1])

    def prepare(self, request):
        return int(self.ask("prepare " + request, "ok"))

    def seconds(self, milliseconds):
        time.sleep(SETTLE_SECONDS)
        return self.ask(f"time {milliseconds}", "seconds")

    def error(self):
        return self.ask("check", "error")

    def bytes_per_second(self, threads):
        return self.ask(f"bandwidth {threads}", "bytes_per_second")

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Sides:
    """Starts a side when it is first wanted; as a context, ends all."""

    def __init__(self, root, environment):
        build = root / "build"
        self.environment = environment
        self.commands = {
            "kvc": [str(build / "release/bench/kvc_engine")],
            "llama.cpp": [str(build / "peers/llama/llama_engine")],
            "onnxruntime": [str(build / "peers/venv/bin/python"), str(root / "bench/peers/onnxruntime_engine.py")],
        }
        self.running = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for side in self.running.values():
            side.close()
        self.running = {}

    def __getitem__(self, name):
        if name not in self.running:
            self.running[name] = Side(self.commands[name], self.environment)
        return self.running[name]
