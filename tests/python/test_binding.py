"""The Python binding over the real library."""
import kvc
import numpy as np
import pytest
from kvc.errors import BY_STATUS_NAME

SHAPE = dict(layers=2, kv_heads=2, q_heads=4, k_dim=64)


@pytest.fixture
def cache():
    with kvc.Cache(codec="int4", arena_tokens=1024, arena_sequences=3, **SHAPE) as opened:
        yield opened


def tensors(tokens: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return tuple(random.standard_normal((tokens, heads, 64)).astype(np.float32) for heads in (4, 2, 2))


def append(cache: kvc.Cache, sequences: list[int], counts: list[int], seed: int = 0, **options) -> np.ndarray:
    q, k, v = tensors(sum(counts), seed)
    with cache.step(sequences, counts, **options) as step:
        for layer in range(SHAPE["layers"]):
            step.append(layer, k, v)
            out = step.attend(layer, q)
    return out


def test_every_status_has_its_exception():
    statuses = kvc.default_library().abi.enums["kvc_status"]
    failures = {name for name in statuses if name.startswith("KVC_E_")}
    assert failures == set(BY_STATUS_NAME)


def test_one_token_attends_to_itself(cache):
    q, k, v = tensors(1)
    with cache.step([cache.create_sequence()], [1]) as step:
        step.append(0, k, v)
        step.append(1, k, v)
        out = step.attend(1, q)
    np.testing.assert_allclose(out[0], np.repeat(v[0], 2, axis=0), atol=2e-3)


def test_a_step_over_several_sequences_equals_steps_over_each(cache):
    together = [cache.create_sequence() for _ in range(2)]
    alone = cache.create_sequence()
    both = append(cache, together, [5, 3], seed=4)
    q, k, v = tensors(8, seed=4)
    with cache.step([alone], [5]) as step:
        for layer in range(2):
            step.append(layer, k[:5], v[:5])
            single = step.attend(layer, q[:5])
    np.testing.assert_array_equal(both[:5], single)
    assert [cache.length(s) for s in together] == [5, 3]


def test_an_exception_aborts_the_step(cache):
    sequence = cache.create_sequence()
    append(cache, [sequence], [3])
    with pytest.raises(ZeroDivisionError):
        with cache.step([sequence], [4]):
            raise ZeroDivisionError
    assert cache.length(sequence) == 3
    assert cache.stats().open_steps == 0


def test_a_commit_that_fails_leaves_no_step_open(cache):
    sequence = cache.create_sequence()
    with pytest.raises(kvc.OrderError):
        with cache.step([sequence], [1]):
            pass  # nothing was appended
    assert cache.stats().open_steps == 0
    append(cache, [sequence], [1])


def test_half_precision_in_and_out(cache):
    sequence = cache.create_sequence()
    q, k, v = (x.astype(np.float16) for x in tensors(2))
    with cache.step([sequence], [2], kv_dtype=np.float16, q_dtype=np.float16, out_dtype=np.float16) as step:
        step.append(0, k, v)
        step.append(1, k, v)
        out = step.attend(0, q)
    assert out.dtype == np.float16
    np.testing.assert_allclose(out[0].astype(np.float32), np.repeat(v[0], 2, axis=0).astype(np.float32), atol=4e-3)


def test_lse_of_one_token_is_its_logit(cache):
    q, k, v = tensors(1)
    lse = np.empty((1, 4), np.float32)
    with cache.step([cache.create_sequence()], [1]) as step:
        step.append(0, k, v)
        step.append(1, k, v)
        step.attend(0, q, lse=lse, scale=0.5)
    expected = 0.5 * np.einsum("hd,hd->h", q[0], np.repeat(k[0], 2, axis=0))
    np.testing.assert_allclose(lse[0], expected, atol=0.02)


@pytest.mark.parametrize("spoil", [
    lambda k: k.astype(np.float64), lambda k: k.tolist(), lambda k: k.transpose(1, 0, 2), lambda k: k[:, :, ::2],
])
def test_arrays_of_other_types_and_layouts_are_refused(cache, spoil):
    _, k, v = tensors(4)
    with pytest.raises(kvc.ArgumentError):
        with cache.step([cache.create_sequence()], [4]) as step:
            step.append(0, spoil(k), v)


def test_buffers_too_small_are_refused(cache):
    _, k, v = tensors(4)
    with pytest.raises(kvc.ArgumentError):
        with cache.step([cache.create_sequence()], [4]) as step:
            step.append(0, k[:3], v)


@pytest.mark.parametrize("wrong", [dict(no_such_field=1), dict(_padding_0=1), dict(codec="int9"), dict(k_dim=63)])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(kvc.ArgumentError):
        kvc.Cache(**{**SHAPE, "arena_tokens": 64, **wrong})
    with pytest.raises(kvc.ArgumentError):
        kvc.check_supported(**{**SHAPE, "arena_tokens": 64, **wrong})


def test_non_finite_numbers_are_refused_and_change_nothing(cache):
    sequence = cache.create_sequence()
    _, k, v = tensors(1)
    k[0, 1, 7] = np.nan
    with pytest.raises(kvc.NonFiniteError):
        with cache.step([sequence], [1]) as step:
            step.append(0, k, v)
    assert cache.length(sequence) == 0


def test_a_full_arena_raises_memory_error():
    with kvc.Cache(codec="fp16", arena_tokens=128, **SHAPE) as small:
        sequence = small.create_sequence()
        with pytest.raises(MemoryError):
            small.step([sequence], [100_000])
        append(small, [sequence], [64])


def test_busy_and_stale_sequences(cache):
    sequence = cache.create_sequence()
    step = cache.step([sequence], [1])
    with pytest.raises(kvc.BusyError):
        cache.fork(sequence, 0)
    step.abort()
    step.abort()
    cache.destroy_sequence(sequence)
    with pytest.raises(kvc.HandleError):
        cache.length(sequence)


def test_fork_and_truncate(cache):
    sequence = cache.create_sequence()
    append(cache, [sequence], [40])
    fork = cache.fork(sequence, 30)
    cache.truncate(sequence, 35)
    assert (cache.length(sequence), cache.length(fork)) == (35, 30)
    with pytest.raises(IndexError):
        cache.truncate(sequence, 36)


def test_partial_commit(cache):
    sequence = cache.create_sequence()
    q, k, v = tensors(4)
    step = cache.step([sequence], [4], partial_commit=1)
    for layer in range(2):
        step.append(layer, k, v)
    step.commit([2])
    assert cache.length(sequence) == 2


def test_evicting_keeps_sinks_and_newest(cache):
    sequence = cache.create_sequence()
    append(cache, [sequence], [400])
    report = cache.evict(sequence, budget=260)
    kept = cache.positions(sequence, 1, 1)
    assert report.tokens_evicted == 4 * (400 - len(kept))
    assert kept[:4].tolist() == [0, 1, 2, 3] and kept[4:].tolist() == list(range(400 - len(kept) + 4, 400))


def test_read_back_is_close_to_what_was_appended(cache):
    sequence = cache.create_sequence()
    append(cache, [sequence], [300], seed=9)
    _, k, v = tensors(300, seed=9)
    for part, truth in (("keys", k), ("values", v)):
        held = cache.read(sequence, 0, 1, part, 64)
        assert np.linalg.norm(held - truth[:, 1]) / np.linalg.norm(truth[:, 1]) < 0.12
        assert cache.read_codes(sequence, 0, 1, part, 64).max() <= 15
    with pytest.raises(kvc.ArgumentError):
        cache.read(sequence, 0, 1, "queries", 64)


def test_plan_agrees_with_the_cache():
    options = dict(codec="int4", **SHAPE)
    plan = kvc.plan(**options, request=dict(tokens=500, step_tokens=500))
    with kvc.Cache(arena_bytes=plan.arena_bytes, **options) as exact:
        sequence = exact.create_sequence()
        append(exact, [sequence], [500])
        assert exact.sequence_stats(sequence).record_bytes == plan.record_bytes


def test_closing_twice_and_using_a_closed_cache():
    cache = kvc.Cache(arena_tokens=64, **SHAPE)
    cache.close()
    cache.close()
    with pytest.raises(kvc.HandleError):
        cache.create_sequence()


def test_codec_strings():
    library = kvc.default_library()
    assert library.codec_format("int4") == library.codec_format(library.codec_format("int4"))
    with pytest.raises(kvc.ArgumentError):
        library.codec_format("int4.5")
    assert {"fp16", "int8", "int4", "int3", "k3v2", "int2", "kivi4", "kivi2"} <= set(library.presets())


def test_a_missing_library_is_named(tmp_path):
    with pytest.raises(kvc.LibraryError, match="nowhere.so"):
        kvc.Library(tmp_path / "nowhere.so")


def test_a_snapshot_goes_on_where_the_sequence_was(cache, tmp_path):
    sequence = cache.create_sequence()
    append(cache, [sequence], [200])
    twin = cache.fork(sequence, 200)
    carried = cache.import_(cache.export([sequence, twin]))
    cache.save(tmp_path / "all.kvcs")
    with kvc.Cache(codec="int4", arena_tokens=1024, arena_sequences=5, **SHAPE) as other:
        loaded = other.load(tmp_path / "all.kvcs")
        assert len(carried) == 2 and len(loaded) == 4
        expected = append(cache, [sequence], [5], seed=9)
        np.testing.assert_array_equal(append(cache, [carried[0]], [5], seed=9), expected)
        np.testing.assert_array_equal(append(other, [loaded[0]], [5], seed=9), expected)
    with kvc.Cache(codec="int4", arena_tokens=1024, **SHAPE) as empty:
        assert empty.export() and empty.import_(empty.export()) == []


def test_damaged_snapshots_and_missing_files_have_exceptions_of_their_own(cache, tmp_path):
    sequence = cache.create_sequence()
    append(cache, [sequence], [10])
    snapshot = bytearray(cache.export([sequence]))
    snapshot[-20] ^= 1
    with pytest.raises(kvc.errors.CorruptError):
        cache.import_(bytes(snapshot))
    with pytest.raises(OSError):
        cache.load(tmp_path / "none.kvcs")
    with kvc.Cache(codec="int8", arena_tokens=1024, **SHAPE) as other, pytest.raises(kvc.ArgumentError, match="codec"):
        other.import_(cache.export([sequence]))


def test_a_published_prompt_is_found_and_goes_on_as_its_source(cache):
    tokens, source = np.arange(300), cache.create_sequence()
    append(cache, [source], [300], seed=3)
    cache.publish_prefix(source, tokens, salt=b"tenant", pinned=1)
    found, hit = cache.look_up_prefix(np.arange(310), salt=b"tenant")
    assert (hit.tokens, hit.shared, cache.length(found)) == (300, 300, 300)
    np.testing.assert_array_equal(append(cache, [found], [1], seed=5), append(cache, [source], [1], seed=5))
    stranger, miss = cache.look_up_prefix(tokens, salt=b"another")
    assert (miss.tokens, miss.shared, cache.length(stranger)) == (0, 0, 0)
    cache.set_prefix_budget(1 << 30)
    stats = cache.prefix_stats()
    assert (stats.entries, stats.tokens, stats.hits, stats.misses, stats.budget_bytes) == (1, 300, 1, 1, 1 << 30)
    assert cache.remove_prefixes(tokens[:5], salt=b"tenant") == 1
    cache.clear_prefixes()
    with pytest.raises(kvc.ArgumentError, match="int64"):
        cache.publish_prefix(source, tokens.astype(np.int32))
    with pytest.raises(kvc.RangeError):
        cache.publish_prefix(source, np.arange(500))


def test_pages_step_down_by_hand_and_by_age():
    with kvc.Cache(codec="int8/int4@100", arena_tokens=1024, **SHAPE) as cache:
        sequence = cache.create_sequence()
        append(cache, [sequence], [300], seed=3)
        assert cache.step_limit(sequence) == 212
        before = cache.sequence_stats(sequence).record_bytes
        report = cache.step_down(sequence, recent=150)
        assert report.pages == 2 * SHAPE["layers"] * SHAPE["kv_heads"]
        assert report.record_bytes == before - report.bytes_freed == cache.sequence_stats(sequence).record_bytes
        rungs = cache.rungs(sequence, 0, 0)
        assert (rungs[0], rungs[4], rungs[4 + 128], rungs[-1]) == (-1, 1, 0, -1)
        append(cache, [sequence], [212], seed=4)
        assert cache.rungs(sequence, 0, 0)[4 + 5 * 64] == 1  # the page that ends at 388 is 124 tokens old
        with pytest.raises(kvc.ArgumentError, match="rung 2"):
            cache.step_down(sequence, rung=2)
