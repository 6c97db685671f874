"""bench/gpu's report and steps on made-up results: python3 tests/cuda/test_gpu_report.py"""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench/gpu"))
import bitdecoding_decode  # noqa: E402
import report  # noqa: E402
import steps  # noqa: E402

MAIN = "batch16-32k-gqa4"
MACHINE = {"kind": "machine", "device": "NVIDIA H100 80GB HBM3", "driver": "13.0", "runtime": "13.0", "multiprocessors": 132,
           "timed": True, "read_bytes_per_second": 3.0e12, "copy_bytes_per_second": 2.8e12}


def decode(codec, us, share=0.93, correct=True, case=MAIN):
    return {"kind": "decode", "case": case, "codec": codec, "us": us, "us_low": us - 1, "us_high": us + 1, "attend_us": us - 4, "mass_us": us / 2, "operations_per_second": 9e12,
            "split_tokens": 2048, "bytes_per_second": 2.8e12, "share_of_read": share, "bytes_per_element": 0.547, "out_error": 5e-4,
            "correct": correct}


def peer(codec, us):
    return {"kind": "peer", "peer": "flashinfer 0.6.6", "case": MAIN, "codec": codec, "us": us, "us_low": us, "us_high": us,
            "bytes_per_second": 3e12, "variant": "fa2 HND page 64", "timing": "graph"}


def other(codec, us, name="llama.cpp, ggml 1"):
    failed = {"us": None, "variants": {"k-channel": "failed: RuntimeError"}}
    return {**peer(codec, 1.0), "peer": name, "out_error": 4e-3, **(failed if us is None else {"us": us, "us_low": us, "us_high": us})}


def verdicts(kvc, others, timed=True):
    return {row[0]: row[2:] for row in report.goal_rows(kvc, others, timed)}


class Goals(unittest.TestCase):
    def test_reached_and_missed(self):
        found = verdicts([decode("int4", 200.0), decode("fp16", 700.0)], [peer("fp16", 660.0), peer("fp8", 320.0)])
        self.assertEqual(found[f"decode int4, {MAIN}: time"], ("200.0 us", "reached"))
        self.assertEqual(found[f"decode int4, {MAIN}: times FlashInfer fp16"], ("3.30 x", "reached"))
        self.assertEqual(found[f"decode int4, {MAIN}: times FlashInfer fp8"], ("1.60 x", "MISSED"))
        self.assertEqual(found[f"decode int4, {MAIN}: share of read bandwidth"], ("93.0 %", "reached"))
        self.assertEqual(found[f"decode fp16, {MAIN}: times FlashInfer fp16"], ("0.94 x", "MISSED"))
        self.assertEqual(found[f"decode int2, {MAIN}: time"], ("unmeasured", "unmeasured"))

    def test_a_wrong_result_has_no_time(self):
        found = verdicts([decode("int4", 100.0, correct=False)], [peer("fp16", 660.0)])
        self.assertEqual({v for goal, v in found.items() if "int4" in goal}, {("unmeasured", "unmeasured")})

    def test_times_are_goals_of_one_card(self):
        found = verdicts([{**MACHINE, "device": "NVIDIA H200"}, decode("int4", 150.0)], [peer("fp16", 500.0)])
        self.assertEqual(found[f"decode int4, {MAIN}: time"], ("150.0 us", "a goal of the H100"))
        self.assertEqual(found[f"decode int4, {MAIN}: times FlashInfer fp16"], ("3.33 x", "reached"))

    def test_without_a_peer_there_is_no_ratio(self):
        found = verdicts([decode("int4", 200.0)], [])
        self.assertEqual(found[f"decode int4, {MAIN}: time"][1], "reached")
        self.assertEqual(found[f"decode int4, {MAIN}: times FlashInfer fp16"], ("unmeasured", "unmeasured"))

    def test_llama_cpp_is_compared_at_as_many_bits(self):
        goal = f"decode int4, {MAIN}: times llama.cpp q4_0"
        kvc = [decode("int4", 200.0)]
        self.assertEqual({row[0]: row[2:] for row in report.goal_rows(kvc, [], True, [other("q4_0", 700.0)])}[goal], ("3.50 x", "reached"))
        self.assertEqual({row[0]: row[2:] for row in report.goal_rows(kvc, [], True, [other("q8_0", 700.0)])}[goal], ("unmeasured", "unmeasured"))

    def test_prompts_are_compared_with_prompts(self):
        mine, other = decode("int4", 1000.0, case="prompt2k-32k"), peer("fp16", 900.0)
        found = verdicts([{**mine, "kind": "prompt"}], [{**other, "case": "prompt2k-32k"}])
        self.assertEqual(found["prompt int4, prompt2k-32k: times FlashInfer fp16"], ("0.90 x", "reached"))
        self.assertEqual(verdicts([{**mine, "kind": "prompt"}], [other])["prompt int4, prompt2k-32k: times FlashInfer fp16"][0], "unmeasured")

    def test_appending_is_a_share_of_the_step(self):
        append = {"kind": "append", "case": MAIN, "codec": "int4", "pages": 128, "quantize_us": 64.0, "store_us": 3.0, "step_us": 4.0}
        found = verdicts([decode("int4", 200.0), append], [])
        self.assertEqual(found[f"append int4, {MAIN}: of a decode step"], ("2.0 %", "reached"))

    def test_times_of_the_emulator_count_for_nothing(self):
        found = verdicts([decode("int4", 1.0)], [peer("fp16", 660.0)], timed=False)
        self.assertEqual(set(found.values()), {("unmeasured", "unmeasured")})


class Markdown(unittest.TestCase):
    outcomes = [{"name": "kernel tests", "state": "passed", "seconds": 9.0}]

    def test_of_a_gpu(self):
        skipped = {"kind": "skipped", "case": MAIN, "codec": "int2", "reason": "cuda: no kernels"}
        text = report.markdown(["kvc abc"], [MACHINE, decode("int4", 200.0), skipped], [peer("fp16", 660.0)], self.outcomes)
        for wanted in ("# The CUDA kernels on a GPU", "NVIDIA H100 80GB HBM3", "flashinfer 0.6.6", "| kernel tests | passed | 9 |",
                       "| 3.30 x |", "not measured: int2", "reads 3,000 GB/s"):
            self.assertIn(wanted, text)

    def test_of_other_peers(self):
        others = [other("q4_0", 700.0), other("f16", 500.0), other("int2", None, "BitDecoding 1.0")]
        text = report.markdown(["kvc abc"], [MACHINE, decode("int4", 200.0)], [], self.outcomes, others)
        for wanted in (f"| llama.cpp, ggml 1 | {MAIN} | q4_0 | 700.0 | 700.0-700.0 | 3,000 | 4.0e-03 | fa2 HND page 64, graph | 3.50 x |",
                       "500.0-500.0 | 3,000 | 4.0e-03 | fa2 HND page 64, graph | unmeasured |",
                       f"| BitDecoding 1.0 | {MAIN} | int2 | unmeasured |", "k-channel: failed: RuntimeError"):
            self.assertIn(wanted, text)
        missing = report.markdown([], [], [], [{"name": "llama.cpp", "state": "not there", "seconds": 0.0}])
        self.assertIn("- llama.cpp was not there", missing)
        self.assertNotIn("BitDecoding", missing)

    def test_of_a_dry_run(self):
        text = report.markdown(["kvc abc"], [{**MACHINE, "timed": False}, decode("int4", 200.0, correct=False)], [], self.outcomes)
        self.assertIn("no time of a GPU", text)
        self.assertIn("0 of 1 results were right", text)
        self.assertNotIn("200.0", text)

    def test_of_nothing(self):
        self.assertIn("Nothing was measured", report.markdown([], [], [], []))

    def test_is_named_after_the_card(self):
        self.assertEqual(report.file_stem(MACHINE), f"{report.date()}-h100-80gb-hbm3")


class BitDecoding(unittest.TestCase):
    def test_a_number_takes_its_bits_and_a_share_of_its_scale(self):
        numbers = 2 * 3 * 1024 * 8 * 128
        for bits in (4, 2):
            for mode in ("k-channel", "k-tensor"):
                self.assertEqual(bitdecoding_decode.bytes_of(3, 1024, bits, mode), numbers * (bits / 8 + 4 / 128))

    def test_takes_the_decode_cases_of_its_head_dim(self):
        self.assertEqual([fields[0] for fields in bitdecoding_decode.cases(quick=True)], [MAIN, "batch1-32k", "batch1-128k"])


class Steps(unittest.TestCase):
    def outcome(self, script, limit_s=60, seconds_left=60):
        with tempfile.TemporaryDirectory() as folder:
            return steps.run_step(steps.Step("a step", [sys.executable, "-c", script], limit_s), folder, seconds_left)

    def test_each_end_has_its_name(self):
        self.assertEqual(self.outcome("print(7)").state, "passed")
        self.assertEqual(self.outcome("print(7)").tail, "7")
        self.assertEqual(self.outcome("raise SystemExit(3)").state, "failed (3)")
        self.assertEqual(self.outcome("raise SystemExit(77)").state, "not there")
        self.assertEqual(self.outcome("import time; time.sleep(60)", limit_s=1).state, "timed out after 1 s")

    def test_a_program_that_is_not_there_stops_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(steps.run_step(steps.Step("a step", ["/no/such/program"], 1), folder, 60).state, "not there")

    def test_only_peers_may_be_missing(self):
        for name in ("FlashInfer", "llama.cpp", "BitDecoding"):
            self.assertTrue(steps.is_fine({"name": name, "state": "not there"}))
            self.assertFalse(steps.is_fine({"name": name, "state": "failed (1)"}))
        self.assertFalse(steps.is_fine({"name": "kernel tests", "state": "not there"}))
        self.assertTrue(steps.is_fine({"name": "kernel tests", "state": "passed"}))

    def test_all_steps_share_one_budget(self):
        self.assertEqual(self.outcome("import time; time.sleep(60)", seconds_left=1).state, "timed out after 1 s")
        self.assertEqual(self.outcome("print(7)", seconds_left=0).state, "not run: no time was left")

    def test_tests_come_before_times(self):
        for quick, tools in ((True, 1), (False, 4)):
            names = [step.name for step in steps.gpu_steps(Path("/root"), Path("/programs"), Path("/scratch"), quick)]
            self.assertEqual(names[:5], ["kernel tests", "kvc", "FlashInfer", "llama.cpp", "BitDecoding"])
            self.assertEqual(len(names), 5 + 2 * tools)

    def test_peers_are_tried_without_a_gpu_too_and_what_was_not_built_says_so(self):
        todo = {step.name: step for step in steps.dry_steps(Path("/root"), Path("/programs"), Path("/scratch"), Path("/no/such/peers"))}
        self.assertEqual(list(todo)[1:], list(steps.PEERS))
        with tempfile.TemporaryDirectory() as folder:
            outcome = steps.run_step(todo["llama.cpp"], folder, 60)
        self.assertEqual((outcome.state, outcome.tail), ("not there", "llama.cpp was not built (bench/gpu/build_peers)"))


if __name__ == "__main__":
    unittest.main()
