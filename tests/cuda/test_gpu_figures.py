"""The published figures of a GPU are those of the library's own splits: python3 tests/cuda/test_gpu_figures.py [kvc_gpu_bench_emulated]"""

import json
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench/gpu"))
import report  # noqa: E402

RUN = ROOT / "bench/results/2026-11-27-nvidia-h200.json"
MAIN = "batch16-32k-gqa4"
PEER_EARLIER = {"fp8": 322.9}  # us; of another run, which the report's text names


def split_of_the_library():
    pages = re.search(r"split_pages = (\d+);", (ROOT / "core/attend/plan.h").read_text())
    return 64 * int(pages[1])


def result(split_tokens, us_of_split, **more):
    return {"kind": "decode", "case": MAIN, "codec": "int4", "context": 32768, "split_tokens": split_tokens, "us": us_of_split[str(split_tokens)],
            "us_of_split": us_of_split, "us_low": 1.0, "us_high": 2.0, "attend_us": 3.0, "mass_us": 4.0, "page_us": 5.0,
            "bytes_per_second": 4e12, "share_of_read": 0.8, "operations_per_second": 8e12, "bytes_per_element": 0.5, "out_error": 1e-4,
            "correct": True, **more}


def rows_of(text, width):
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()
            if line.startswith("|") and line.count("|") == width + 1]


class Library(unittest.TestCase):
    """Runs that timed several lengths and kept the fastest as their figure."""

    def test_the_length_of_runs_that_do_not_name_it_is_the_library_s(self):
        self.assertEqual(report.UNNAMED_SPLIT, split_of_the_library())

    def test_another_length_that_was_faster_is_not_the_figure(self):
        (mine,) = report.of_the_library([result(8192, {"4096": 200.0, "8192": 100.0})])
        self.assertEqual((mine["us"], mine["split_tokens"], mine["checked_split"]), (200.0, 4096, 8192))
        self.assertEqual((mine["share_of_read"], mine["bytes_per_second"], mine["operations_per_second"]), (0.4, 2e12, 4e12))
        for unmeasured in ("us_low", "us_high", "attend_us", "mass_us", "page_us"):
            self.assertIsNone(mine[unmeasured])
        verdicts = {row[0]: row[2:] for row in report.goal_rows([mine], [], True)}
        self.assertEqual(verdicts[f"decode int4, {MAIN}: time"], ("200.0 us", "reached"))
        self.assertEqual(verdicts[f"page scores int4, {MAIN}: on top of a step"], ("unmeasured", "unmeasured"))

    def test_where_the_library_s_was_the_fastest_all_figures_stay(self):
        was = result(4096, {"4096": 100.0, "8192": 200.0})
        self.assertEqual(report.of_the_library([was]), [was])

    def test_where_it_was_not_tried_there_is_no_figure(self):
        kvc = report.of_the_library([result(512, {"512": 100.0})])
        self.assertIsNone(report.find(kvc, "decode", MAIN, "int4"))
        self.assertIn("unmeasured", next(report.decode_rows(kvc, []))[2])

    def test_prompts_are_not_split(self):
        whole = result(1 << 20, {"16384": 110.0, str(1 << 20): 100.0}, kind="prompt")
        self.assertEqual(report.of_the_library([whole]), [whole])
        self.assertIsNone(report.of_the_library([result(16384, {"16384": 90.0}, kind="prompt")])[0]["us"])

    def test_runs_that_name_the_library_s_are_taken_at_their_word(self):
        kvc = [{"kind": "machine", "library_split_tokens": 2048}, result(2048, {"2048": 100.0, "4096": 90.0})]
        self.assertEqual(report.of_the_library(kvc), kvc)

    def test_other_lengths_are_named_as_an_aside(self):
        kvc = report.of_the_library([result(8192, {"4096": 200.0, "8192": 100.0, "512": 300.0})])
        self.assertEqual(list(report.split_rows(kvc)), [[MAIN, "int4", "4096: 200.0", "512: 300.0; 8192: 100.0"]])


class Published(unittest.TestCase):
    """What is written down of the run on a GPU is what its JSON says."""

    measured = json.loads(RUN.read_text())
    kvc = report.of_the_library(measured["kvc"])

    def test_tables_of_the_report(self):
        text = RUN.with_suffix(".md").read_text()
        steps = [r for r in self.kvc if r["kind"] == "decode"]
        wanted = list(report.decode_rows(steps, self.measured["peer"]))
        self.assertEqual([row for row in rows_of(text, 15) if row[0].startswith("batch")], wanted)
        self.assertEqual([row for row in rows_of(text, 4) if row[0].startswith("batch")], list(report.split_rows(steps)))

    def test_goals_of_the_report(self):
        goals = {row[0]: row for row in rows_of(RUN.with_suffix(".md").read_text(), 4) if row[0].startswith(("decode", "append"))}
        for what, _, value, verdict in report.goal_rows(self.kvc, self.measured["peer"], True):
            if value != "unmeasured" and not what.startswith("prompt"):
                row = goals.pop(what)
                self.assertEqual(row[2], value, what)
                self.assertEqual(row[3], {"reached": "reached", "MISSED": "**missed**"}.get(verdict, row[3]), what)
                if verdict == "a goal of the H100":
                    reached = float(value.split()[0]) <= float(row[1].split()[1])
                    self.assertEqual(row[3], "reached here" if reached else "**missed** here", what)
        for what, row in goals.items():  # of two runs
            codec, name = re.fullmatch(r"decode (\w+), .* FlashInfer (fp8), of an earlier run", what).groups()
            ratio = PEER_EARLIER[name] / report.find(self.kvc, "decode", MAIN, codec)["us"]
            self.assertEqual(row[2], f"{ratio:.2f} x")
            self.assertEqual(row[3], "reached" if ratio >= float(row[1].split()[1]) else "**missed**")

    def test_the_read_me(self):
        part = (ROOT / "README.md").read_text().split("Decode speed on an NVIDIA H200")[1].split("\n\n")
        rows = rows_of(part[1], 4)[2:]
        self.assertEqual([row[0] for row in rows], ["fp16", "int8", "int4", "int3", "k3v2", "int2"])
        peer = report.find(self.measured["peer"], "peer", MAIN, "fp16")["us"]
        for codec, *cells in rows:
            mine = report.find(self.kvc, "decode", MAIN, codec)
            self.assertEqual(cells, [f"{mine['us']:.0f}", f"{peer / mine['us']:.2f}x", f"{100 * mine['share_of_read']:.0f} %"], codec)
        one = {codec: report.find(self.kvc, "decode", "batch1-32k", codec)["us"] for codec in ("fp16", "int4")}
        self.assertIn(f"{one['fp16']:.0f} in fp16 and {one['int4']:.0f} in int4", part[2].replace("\n", " "))


class Benchmark(unittest.TestCase):
    program = None

    def test_measures_the_library_s_splits_and_others_beside(self):
        if not self.program:
            self.skipTest("no kvc_gpu_bench_emulated was named")
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out.json"
            subprocess.run([self.program, "--tiny", "--only", "tiny", "--codecs", "int4", "--json", out], check=True, capture_output=True)
            kvc = json.loads(out.read_text())
        self.assertEqual(kvc[0]["library_split_tokens"], split_of_the_library())
        decodes = [r for r in kvc if r["kind"] == "decode"]
        self.assertEqual(len(decodes), 2)
        for r in decodes:
            self.assertEqual(r["split_tokens"], split_of_the_library())
            self.assertEqual(r["us"], r["us_of_split"][str(r["split_tokens"])])
            self.assertEqual(set(r["us_of_split"]) - {str(r["split_tokens"])}, {"64", "128"})
            self.assertTrue(r["correct"])
            self.assertEqual(r["rows_checked"] % 3, 0)  # with each length
        (prompt,) = [r for r in kvc if r["kind"] == "prompt"]
        self.assertGreaterEqual(prompt["split_tokens"], prompt["context"])
        self.assertTrue(prompt["correct"])

    def test_refuses_lengths_that_are_no_whole_pages(self):
        if not self.program:
            self.skipTest("no kvc_gpu_bench_emulated was named")
        for tokens in ("100", "0", "many"):
            done = subprocess.run([self.program, "--tiny", "--splits", tokens], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2)
            self.assertIn("multiples of 64", done.stderr)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        Benchmark.program = sys.argv.pop(1)
    unittest.main()
