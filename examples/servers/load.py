"""The load test: one byte budget, one server after the other with fp16, int8, int4, k3v2 and int2, as many long streams as each admits.

More clients than fit ask at once with a queue of none: those that are not refused were admitted. Each stream reads a passage of its own and
writes on. Tokens per second are counted while all of them write. "of fp16" compares streams; "bytes" compares what a token of the full
streams takes, window, sinks and unfinished pages included, with its 16-bit numbers: streams come in whole numbers, bytes do not.
"""
import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2] / "tools")]

from client import Server, events  # noqa: E402
from kvc_eval.gguf_file import GgufFile  # noqa: E402
from kvc_eval.known_models import gguf_path  # noqa: E402
from kvc_eval.texts import HAYSTACK, READ, novel  # noqa: E402
from kvc_eval.tokens import TextTokenizer  # noqa: E402

MODES = ("fp16", "int8", "int4", "k3v2", "int2")
BARS = {"int4": 3.4, "int2": 6.0}  # streams over those of fp16


@dataclass
class Run:
    mode: str
    streams: int = 0
    refused: int = 0
    failed: list[str] = field(default_factory=list)
    ratio: float = 0.0      # fp16 bytes over record bytes while all streams write
    decode: float = 0.0     # tokens a second, all streams together, while all write
    seconds: float = 0.0    # of the whole run
    tokens: int = 0         # read and written


def make_prompts(count: int, tokens: int) -> list[str]:
    """Passages of exactly so many tokens (of the two novels, one after the other, again from an odd place where they end)."""
    tokenizer = TextTokenizer(GgufFile(gguf_path("smollm2")))
    ids = tokenizer.encode(novel(READ) + "\n\n" + novel(HAYSTACK))
    starts = [(i * tokens + i * tokens // len(ids) * 997) % (len(ids) - tokens) for i in range(count)]
    return [tokenizer.decode(ids[start:start + tokens]) for start in starts]


def run_mode(options: argparse.Namespace, mode: str, prompts: list[str]) -> Run:
    run, times, lock = Run(mode), [], threading.Lock()
    server = Server(options.server, "--mode", mode, "--arena-bytes", str(options.arena_mebibytes << 20), "--max-queue", "0", "--threads", str(options.threads))
    server.patience = 7200  # the last stream waits until all other prompts are read

    def ask(prompt: str) -> None:
        connection, answer = server.open_stream(prompt, options.max_tokens)
        if answer.status == 429:
            run.refused += 1
            connection.close()
            return
        stamps, last = [], None
        for last in events(answer):
            stamps.append(time.monotonic())
        connection.close()
        with lock:
            times.append(stamps)
            if last != "[DONE]":
                run.failed.append(str(last))

    began = time.monotonic()
    try:
        with ThreadPoolExecutor(len(prompts)) as pool:
            asked = [pool.submit(ask, prompt) for prompt in prompts]
            while not all(one.done() for one in asked):
                time.sleep(0.5)
                found = server.metrics()
                run.streams = max(run.streams, int(found["num_requests_running"]))
                run.ratio = max(run.ratio, found["kv_cache_compression_ratio"])
            for one in asked:
                one.result()
        run.seconds = time.monotonic() - began
        found = server.metrics()
        run.tokens = int(found["prompt_tokens_total"] + found["generation_tokens_total"])
        if found["num_preemptions_total"]:
            run.failed.append(f"{found['num_preemptions_total']:.0f} preemptions")
    finally:
        if server.stop()[0] != 0:
            run.failed.append(f"the server ended badly: {server.errors}")
    if len(times) != run.streams:
        run.failed.append(f"{len(times)} streams were answered, {run.streams} ran side by side")
    begin, end = max(stamps[0] for stamps in times), min(stamps[-1] for stamps in times)
    if end > begin:
        run.decode = sum(begin < stamp <= end for stamps in times for stamp in stamps) / (end - begin)
    return run


def show(runs: list[Run], options: argparse.Namespace) -> None:
    print(f"\n{options.arena_mebibytes} MiB of cache, {options.prompt_tokens} + {options.max_tokens} tokens a stream, {options.threads} threads:\n")
    print("| mode | streams | of fp16 | bytes | tokens/s, all streams writing | tokens/s, reading included |\n|---|---|---|---|---|---|")
    for run in runs:
        print(f"| {run.mode} | {run.streams} | {run.streams / runs[0].streams:.2f}x | {run.ratio:.2f}x | {run.decode:.1f} | {run.tokens / run.seconds:.1f} |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", default="build/servers/server_go", help="command line of the server")
    parser.add_argument("--modes", default=",".join(MODES), help="the first one is what the others are compared with; ';' separates codec strings")
    parser.add_argument("--arena-mebibytes", type=int, default=256)
    parser.add_argument("--prompt-tokens", type=int, default=4096)
    parser.add_argument("--max-tokens", type=int, default=256, help="as many as steps that the other prompts need: 16 a stream of 4,096")
    parser.add_argument("--clients", type=int, default=20, help="more than any mode admits")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    prompts = make_prompts(options.clients, options.prompt_tokens)
    runs = []
    for mode in options.modes.split(";" if ";" in options.modes else ","):
        runs.append(run_mode(options, mode, prompts))
        print(f"{mode}: {runs[-1].streams} streams in {runs[-1].seconds:.0f} s {'; '.join(runs[-1].failed)}", file=sys.stderr, flush=True)
    show(runs, options)
    missed = [f"{run.mode}: {run.streams / runs[0].streams:.2f}x the streams of {runs[0].mode}, at least {BARS[run.mode]} are promised"
              for run in runs if run.mode in BARS and run.streams < BARS[run.mode] * runs[0].streams and options.prompt_tokens >= 4096]
    missed += [f"{run.mode}: no client was refused: --clients is too small" for run in runs if not run.refused]
    for line in missed + [failure for run in runs for failure in run.failed]:
        print("load:", line, file=sys.stderr)
    return 1 if missed or any(run.failed for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
