"""full_bars.py notices every kind of miss; the long runs that it judges are `make test-bars`."""
import pytest
from full_bars import BARS, BELOW_SUM, BETTER, CONTROL, CONTROL_KL, MERGED, MERGED_BYTES, OUTPUT_BARS, disordered, misplaced, missed, outputs_missed


def reached() -> dict:
    results = {name: {"kl": kl or 0.0, "codec_bits": bits, "effective_bits": bits, "needle": needle} for name, (kl, bits, needle) in BARS.items()}
    results["streaming:30%"]["kl"] = 0.07  # it has no bar of its own, but must be beaten
    return results | {CONTROL: {"kl": CONTROL_KL}}


def test_a_run_at_the_bars_passes():
    assert missed(reached()) == []


@pytest.mark.parametrize("field, factor", [("kl", 1.01), ("codec_bits", 1.01), ("needle", 0.99)])
@pytest.mark.parametrize("name", BARS)
def test_a_miss_is_named(name, field, factor):
    results = reached()
    promised = dict(zip(("kl", "codec_bits", "needle"), BARS[name]))[field] is not None
    results[name][field] = (results[name][field] or 0) * factor
    assert [line.split(": ")[0] for line in missed(results)] == ([name] if promised else [])


@pytest.mark.parametrize("field", ["kl", "codec_bits"])
def test_no_number_is_a_miss(field):
    results = reached()
    results["int3"][field] = float("nan")
    assert len(missed(results)) == 1


def test_a_preset_left_out_is_a_miss():
    results = reached()
    del results["int2"]
    assert missed(results) == ["int2: not measured"]


def test_a_control_that_is_not_far_off_is_a_miss():
    assert len(missed(reached() | {CONTROL: {"kl": 0.29}})) == 1


@pytest.mark.parametrize("better, worse", BETTER)
def test_what_must_beat_another_mode_is_named_if_it_does_not(better, worse):
    for change in ({"kl": reached()[worse]["kl"]}, {"effective_bits": 16.1}):
        results = reached()
        results[better] |= change
        assert {line.split(": ")[0] for line in misplaced(results)} == {better}


@pytest.mark.parametrize("merged, evicted", MERGED)
def test_merging_that_loses_more_than_eviction_or_takes_many_more_bytes_is_named(merged, evicted):
    bits = reached()[evicted]["effective_bits"]
    for change, named in (({"kl": reached()[evicted]["kl"]}, True), ({"effective_bits": bits * MERGED_BYTES * 1.001}, True), ({"effective_bits": bits * 1.001}, False)):
        results = reached()
        results[merged] |= change
        if merged == "best:20%" and "effective_bits" in change:
            results["h2o:20%"]["effective_bits"] *= 2  # which must not be beaten in fewer bytes here
        assert (merged in [line.split(": ")[0] for line in misplaced(results)]) == named


@pytest.mark.parametrize("both, parts", BELOW_SUM)
def test_a_combination_that_loses_more_than_its_parts_is_named(both, parts):
    results = reached()
    for kl, named in ((sum(results[part]["kl"] for part in parts), [both]), (0.0, []), (float("nan"), [both])):
        results[both]["kl"] = kl
        assert [line.split(": ")[0] for line in misplaced(results)] == named


@pytest.mark.parametrize("errors, holds", [((1, 2, 3), True), ((1, 1, 3), False), ((1, 3, 2), False), ((2, 1, 3), False)])
def test_order(errors, holds):
    assert (disordered({name: {"kl": kl} for name, kl in zip(("int8", "int4", "int2"), errors)}) == []) == holds


@pytest.mark.parametrize("name", OUTPUT_BARS)
def test_an_output_error_above_its_bar_is_named(name):
    results = {preset: {"worst_error": bar, "worst_layer": 0} for preset, bar in OUTPUT_BARS.items()}
    assert outputs_missed(results) == []
    for error in (OUTPUT_BARS[name] * 1.01, float("nan")):
        assert [line.split(": ")[0] for line in outputs_missed(results | {name: {"worst_error": error, "worst_layer": 0}})] == [name]
    del results[name]
    assert outputs_missed(results) == [f"{name}: not measured"]
