"""What arrays the binding takes as they lie, what it refuses, and that a hot loop allocates nothing."""
import array
import gc
import mmap
import sys
import tracemalloc
from collections.abc import Callable

import kvc
import numpy as np
import pytest
from kvc.library import raw

SHAPE = dict(layers=2, kv_heads=2, q_heads=4, k_dim=64)


@pytest.fixture
def cache():
    with kvc.Cache(codec="int4", arena_tokens=1024, arena_growth=1, **SHAPE) as opened:
        yield opened


def tensors(tokens: int, seed: int = 0) -> tuple[np.ndarray, ...]:
    random = np.random.default_rng(seed)
    return tuple(random.standard_normal((tokens, heads, 64)).astype(np.float32) for heads in (4, 2, 2))


class Dlpack:
    """A producer of DLPack and nothing else, such as a tensor of another library."""

    def __init__(self, held: np.ndarray):
        self._held = held

    def __dlpack__(self, **arguments):
        return self._held.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self._held.__dlpack_device__()


def as_bf16(numbers: np.ndarray):
    """A DLPack tensor of bfloat16, which NumPy does not have, over the upper halves of the numbers; and the numbers that are left."""
    bits = (numbers.view(np.uint32) >> 16).astype(np.uint16)
    rounded = (bits.astype(np.uint32) << 16).view(np.float32)
    return raw.view(bits.__array_interface__["data"][0], bits.shape, kvc.Dtype.BF16, kvc.Device.CPU, 0, bits), bits, rounded


def test_bfloat16_tensors_and_their_bits_are_the_same(cache):
    q, k, v = (as_bf16(numbers) for numbers in tensors(5))
    outs = []
    for form in (0, 1):  # tensors, bits
        step = cache.step([cache.create_sequence()], [5], kv_dtype="bf16", q_dtype=np.uint16, out_dtype=kvc.Dtype.BF16)
        step.append(0, k[form], v[form])
        out = np.empty((5, 4, 64), np.uint16)
        outs.append(step.attend(0, q[form], out))
    np.testing.assert_array_equal(*outs)
    step = cache.step([cache.create_sequence()], [5])
    step.append(0, k[2], v[2])
    expected = step.attend(0, q[2])
    np.testing.assert_allclose((outs[0].astype(np.uint32) << 16).view(np.float32), expected, rtol=2**-8)


def test_torch_names_of_types_are_understood():
    class Torch(str):
        """Prints as torch.dtype does, and is of that module."""
    Torch.__module__ = "torch"
    for name, expected in (("float32", kvc.Dtype.F32), ("float16", kvc.Dtype.F16), ("bfloat16", kvc.Dtype.BF16)):
        assert kvc.step.dtype_of("kv_dtype", Torch("torch." + name)) == expected
    for wrong in (np.float64, "int8", np.int16):
        with pytest.raises(kvc.ArgumentError, match="kv_dtype"):
            kvc.step.dtype_of("kv_dtype", wrong)


def test_strided_arrays_give_the_same_numbers_as_dense_ones(cache):
    q, k, v = tensors(7)
    fused = np.concatenate([q, k, v], axis=1)  # [tokens][q, k and v heads][dim]
    heads_first = np.ascontiguousarray(k.transpose(1, 0, 2))  # [heads][tokens][dim]
    step = cache.step([cache.create_sequence()], [7])
    step.append(0, k, v)
    expected = step.attend(0, q)
    step.abort()
    step = cache.step([cache.create_sequence()], [7], k_token_stride=64, k_head_stride=7 * 64, v_token_stride=512, q_token_stride=512)
    step.append(0, heads_first.transpose(1, 0, 2), fused[:, 6:])
    np.testing.assert_array_equal(step.attend(0, fused[:, :4]), expected)


def test_append_attend_is_both(cache):
    q, k, v = tensors(5)
    outs = [np.empty_like(q), np.empty_like(q)]
    for together, out in enumerate(outs):
        with cache.step([cache.create_sequence()], [5]) as step:
            for layer in range(2):
                if together:
                    step.append_attend(layer, k, v, q, out=out)
                else:
                    step.append(layer, k, v)
                    step.attend_into(layer, q, out)
    np.testing.assert_array_equal(*outs)
    assert np.abs(outs[0]).max() > 0.1


def test_append_attend_checks_arrays_first(cache):
    q, k, v = tensors(5)
    sequence = cache.create_sequence()
    with cache.step([sequence], [5]) as step:
        for wrong in ((k, v, q.astype(np.float64), q.copy()), (k, v, q, q.tolist()), (k[:, :, ::2], v, q, q.copy()), (k[:3], v, q, q.copy()), (k, v, q[:3], q.copy())):
            with pytest.raises(kvc.ArgumentError):
                step.append_attend(0, *wrong)
        for layer in range(2):
            step.append_attend(layer, k, v, q, q.copy())  # none of them was appended
    assert cache.length(sequence) == 5


@pytest.mark.parametrize("spoil, words", [
    (lambda k: k[:, ::-1], "its heads -64, backwards .*; pass a contiguous copy"),
    (lambda k: k[::-1], "tokens lie -128 elements apart .*, backwards"),
    (lambda k: np.broadcast_to(k[:, :1], k.shape), "its heads 0, backwards or all in one place"),
    (lambda k: np.repeat(k, 2, axis=2)[:, :, ::2], "whole rows"),         # every other channel
    (lambda k: k.transpose(1, 0, 2).copy().transpose(1, 0, 2), "elements apart"),  # strides that the step was not told
    (lambda k: np.concatenate([k, k], axis=1)[:, :2], "k_token_stride"),  # likewise; the message says what to say
    (lambda k: k.astype(np.float16), "expected an array of float32, got float16"),
    (lambda k: k.astype(">f4"), "k: its numbers are not in this machine's byte order; pass array.astype"),
    (lambda k: k.astype(object), "expected an array of float32, got elements of the format 'O'"),
    (lambda k: k.astype(np.float64).view("f4,f4"), "expected an array of float32, got elements of the format 'T{"),
    (lambda k: k.tobytes(), "got uint8"),
    (lambda k: np.frombuffer(b"\0" + k.tobytes(), np.uint8)[1:].view(np.float32), "not aligned"),
    (lambda k: k.tolist(), "got list"),
    (lambda k: None, "got NoneType"),
])
def test_what_cannot_be_taken_as_it_is_is_refused(cache, spoil, words):
    q, k, v = tensors(4)
    sequence = cache.create_sequence()
    step = cache.step([sequence], [4])
    with pytest.raises(kvc.ArgumentError, match=words) as caught:
        step.append(0, spoil(k), v)
    assert (caught.value.operation, caught.value.status) == ("append", kvc.Status.E_ARGUMENT)
    step.append(0, k, v)  # nothing has changed


STEPS = r"its shape is {0}, but the step's is \[4\]\[2\]\[64\], \[tokens\]\[heads\]\[dim\]"
OTHER_SHAPES = [
    (lambda k: k.reshape(2, 4, 64), r"\[2\]\[4\]\[64\]"),      # [heads][tokens][dim], as PyTorch's models have it
    (lambda k: k.transpose(1, 0, 2), r"\[2\]\[4\]\[64\]"),
    (lambda k: k.reshape(8, 64, 1), r"\[8\]\[64\]\[1\]"),
    (lambda k: k.reshape(4, 64, 2), r"\[4\]\[64\]\[2\]"),
    (lambda k: k.reshape(8, 64), r"\[8\]\[64\]"),
    (lambda k: k.reshape(2, 256), r"\[2\]\[256\]"),
    (lambda k: k.reshape(1, 4, 2, 64), r"\[1\]\[4\]\[2\]\[64\]"),
    (lambda k: k.reshape(4, 2, 64, 1), r"\[4\]\[2\]\[64\]\[1\]"),
    (lambda k: np.concatenate([k, k]), r"\[8\]\[2\]\[64\]"),   # more tokens than the step has
    (lambda k: k[:3], r"\[3\]\[2\]\[64\]"),
    (lambda k: k[:0], r"\[0\]\[2\]\[64\]"),
    (lambda k: np.concatenate([k, k], axis=1), r"\[4\]\[4\]\[64\]"),
    (lambda k: np.concatenate([k, k]).ravel(), r"\[1024\]"),
    (lambda k: np.array(1, np.float32), "that of a single number"),
]


@pytest.mark.parametrize("wrap", [lambda a: a, memoryview, Dlpack], ids=["numpy", "buffer", "dlpack"])
@pytest.mark.parametrize("spoil, shape", OTHER_SHAPES)
def test_other_shapes_than_the_steps_are_refused(spoil, shape, wrap):
    """Where their numbers would fill the step's rows, too: each would be taken for another head's or token's."""
    _, k, v = tensors(4)
    q, out = k, np.empty_like(k)
    with kvc.Cache(layers=1, kv_heads=2, k_dim=64, arena_tokens=64) as cache:
        step = cache.step([cache.create_sequence()], [4])
        wrong = wrap(spoil(k))
        for name, use in {"append: k": lambda: step.append(0, wrong, v), "append: v": lambda: step.append(0, k, wrong),
                          "append: v ": lambda: step.append_attend(0, k, wrong, q, out)}.items():
            with pytest.raises(kvc.ArgumentError, match=name.strip() + ": " + STEPS.format(shape)):
                use()
        step.append(0, k, v)  # nothing has changed
        for name, use in {"attend: q": lambda: step.attend_into(0, wrong, out), "attend: out": lambda: step.attend_into(0, q, wrong)}.items():
            with pytest.raises(kvc.ArgumentError, match=name + ": " + STEPS.format(shape)):
                use()


def test_rows_may_be_joined_or_flat(cache):
    q, k, v = tensors(4)
    lse, outs = np.empty((4, 4), np.float32), []
    for joined in (lambda a: a, lambda a: a.reshape(4, -1), np.ravel, lambda a: array.array("f", a.ravel())):
        step = cache.step([cache.create_sequence()], [4])
        step.append(0, joined(k), joined(v))
        out = np.zeros_like(q)
        step.attend_into(0, joined(q), out.reshape(4, 256) if len(outs) % 2 else out.reshape(-1), lse.reshape(-1) if len(outs) % 2 else lse)
        outs.append(out)
        for wrong in (lse.T.reshape(2, 8), lse.reshape(8, 2), lse[:3], np.empty((8, 4), np.float32)):
            with pytest.raises(kvc.ArgumentError, match="lse: its shape is .* but the step's is .4..4..1., .tokens..heads..dim."):
                step.attend_into(0, q, out, wrong)
    for out in outs[1:]:
        np.testing.assert_array_equal(out, outs[0])


def test_dense_arrays_are_not_taken_for_the_strides_that_a_step_was_told(cache):
    """[tokens][heads][dim] has as many numbers as [heads][tokens][dim]."""
    _, k, v = tensors(4)
    step = cache.step([cache.create_sequence()], [4], k_token_stride=64, k_head_stride=4 * 64)
    for wrong in (k, k.reshape(4, 128), k.ravel(), memoryview(k), Dlpack(k)):
        with pytest.raises(kvc.ArgumentError, match="k: its tokens lie 128 elements apart and its heads 64, but the step was begun for 64 and 256"):
            step.append(0, wrong, v)
    step.append(0, np.ascontiguousarray(k.transpose(1, 0, 2)).transpose(1, 0, 2), v)


def test_each_layer_has_its_own_shape():
    """As kvc.h has it: what a layer leaves open is the cache's, and only where that is open too the layer's other field."""
    differ = [dict(k_dim=32), dict(kv_heads=4, q_heads=8, v_dim=32)]
    shapes = [(2, 4, 32, 128), (4, 8, 64, 32)]
    with kvc.Cache(layers=2, kv_heads=2, q_heads=4, k_dim=64, v_dim=128, codec="fp16", arena_tokens=64, layers_differ=differ) as cache:
        sequence = cache.create_sequence()
        with cache.step([sequence], [3]) as step:
            for layer, (kv_heads, q_heads, k_dim, v_dim) in enumerate(shapes):
                k, v, q = (np.ones((3, heads, dim), np.float32) for heads, dim in ((kv_heads, k_dim), (kv_heads, v_dim), (q_heads, k_dim)))
                with pytest.raises(kvc.ArgumentError, match="k: its shape"):
                    step.append(1 - layer, k, v)
                step.append(layer, k, v)
                assert step.attend(layer, q).shape == (3, q_heads, v_dim)
                assert cache.v_dim(layer) == v_dim
            with pytest.raises(kvc.ArgumentError, match="layer 2 is out of range"):
                step.attend_into(2, q, q)
        assert cache.read(sequence, 0, 1, "values", 128).shape == (3, 128)


def test_results_go_into_writable_arrays_only(cache):
    q, k, v = tensors(2)
    step = cache.step([cache.create_sequence()], [2])
    step.append(0, k, v)
    frozen = np.empty_like(q)
    frozen.flags.writeable = False
    for out in (frozen, bytes(q.nbytes)):
        with pytest.raises(kvc.ArgumentError, match="out: expected an array .* that can be written"):
            step.attend(0, q, out)
    frozen = q.copy()
    frozen.flags.writeable = False
    out = np.empty_like(q)
    assert step.attend(0, frozen, out) is out  # what is only read may be frozen


@pytest.mark.parametrize("wrong, words", [
    (dict(k_dim="64"), "k_dim is '64'; it must be an integer"), (dict(device="cuda"), "device is 'cuda'.*kvc.Device.CUDA"), (dict(k_dim=1 << 63), "below 2\\^63"), (dict(k_dim=64.0), "an integer"),
    (dict(codec=4), "codec is 4; it must be a str"), (dict(codec="int4" + " " * 124), "at most 127 bytes"), (dict(target="a\0b"), "without NUL"),
    (dict(arena_growth=1 << 31), "32 bits"), (dict(rope_theta="x"), "a number"), (dict(struct_size=8), "no field struct_size"),
    (dict(no_such=1), "kvc_options has no field no_such"), (dict(layers_differ=[dict(codex="int4")] * 2), "kvc_layer has no field codex"),
])
def test_options_of_wrong_types_are_refused(wrong, words):
    with pytest.raises(kvc.ArgumentError, match=words):
        kvc.Cache(**{**SHAPE, "arena_tokens": 64, **wrong})


@pytest.mark.parametrize("call, words", [
    (lambda cache, s: cache.set_budget(s, "20%"), "budget must be an integer, not str"),
    (lambda cache, s: cache.set_budget("a", 20), "sequence must be a kvc.Sequence or its number, not str"),
    (lambda cache, s: cache.truncate(s, 1.0), "length must be an integer, not float"),
    (lambda cache, s: cache.live(s, 0, 1.0), "head must be an integer, not float"),
    (lambda cache, s: cache.step([s], ["one"]), "counts must be a list of integers, not str"),
    (lambda cache, s: cache.step([s], [1], 7), "positions must be a list, not int"),
    (lambda cache, s: cache.step([s], [1]).append("0", None, None), "layer must be an integer, not str"),
    (lambda cache, s: cache.remove_prefixes(np.zeros(1, np.int64), "salt"), "salt must be bytes, not str"),
    (lambda cache, s: cache.step([s], [1], graph="x"), "graph must be a kvc.Graph, not str"),
    (lambda cache, s: cache.load(None), "path must be a str, bytes or os.PathLike, not NoneType"),
    (lambda cache, s: cache.create_buffer("all"), "size must be an integer, not str"),
    (lambda cache, s: cache.set_prefix_budget("all"), "budget_bytes must be an integer, not str"),
    (lambda cache, s: kvc.default_library().codec_format(4), "codec must be a str, not int"),
])
def test_arguments_of_wrong_types_are_refused_by_their_names(cache, call, words):
    with pytest.raises(TypeError, match=words) as refused:
        call(cache, cache.create_sequence())
    assert "supported" not in str(refused.value) and "\n" not in str(refused.value)


def test_numbers_that_do_not_fit_are_refused_by_their_names(cache):
    with pytest.raises(kvc.ArgumentError, match="budget is beyond 64 bits"):
        cache.set_budget(cache.create_sequence(), 1 << 63)
    with pytest.raises(kvc.ArgumentError, match="kind 4294967296 is beyond 32 bits"):
        raw.buffer_create(cache._handle, 1 << 32, 64)
    with pytest.raises(kvc.ArgumentError, match="codec has a NUL in it"):
        kvc.default_library().codec_format("int4\0")


def test_a_part_is_a_name_or_a_kvc_part(cache):
    sequence, (q, k, v) = cache.create_sequence(), tensors(3)
    with cache.step([sequence], [3]) as step:
        step.append(0, k, v)
        step.append(1, k, v)
    for part, name, rows in ((kvc.Part.KEYS, "keys", k), (kvc.Part.VALUES, "values", v)):
        np.testing.assert_array_equal(cache.read(sequence, 0, 1, part, 64), cache.read(sequence, 0, 1, name, 64))
        np.testing.assert_allclose(cache.read(sequence, 0, 1, part, 64), rows[:, 1], atol=1e-2)
        assert cache.read_codes(sequence, 0, 1, part, 64).shape == (0, 64)
    for wrong in ("key", kvc.Part.PART_UNSET, 7, None):
        with pytest.raises(kvc.ArgumentError, match="it must be 'keys' or 'values', or a kvc.Part"):
            cache.read(sequence, 0, 0, wrong, 64)
    with pytest.raises(kvc.ArgumentError, match="dim 32, and values of layer 0 have 64"):
        cache.read(sequence, 0, 0, kvc.Part.VALUES, 32)


@pytest.mark.parametrize("wrong", [5, "scale", [("scale", 1.0)], object()])
def test_options_that_are_no_dict_are_refused(wrong):
    with pytest.raises(TypeError, match=r"layers_differ\[0\] must be a dict of fields, not"):
        kvc.Cache(**{**SHAPE, "arena_tokens": 64, "layers_differ": [wrong] * 2})
    q, k, v = tensors(1)
    with kvc.Cache(**SHAPE, arena_tokens=64) as cache, cache.step([cache.create_sequence()], [1]) as step:
        step.append(0, k, v)
        step.append(1, k, v)
        with pytest.raises(TypeError, match="options must be a dict of fields, not"):
            step.attend_into(0, q, np.empty_like(q), None, wrong)


def test_an_arena_of_the_caller_is_used_and_kept():
    block = np.zeros((1 << 20) + 128, np.uint8)
    block = block[-block.__array_interface__["data"][0] % 128:][:1 << 20]
    cache = kvc.Cache(arena_block=block, codec="fp16", **SHAPE)
    with cache.step([cache.create_sequence()], [4]) as step:
        for layer in range(2):
            step.append(layer, *tensors(4)[1:])
    assert block.any() and cache.stats().arena_bytes <= block.nbytes
    cache.close()
    with pytest.raises(kvc.ArgumentError, match="cannot be written"):
        kvc.Cache(arena_block=bytes(1 << 20), **SHAPE)


def test_an_arena_cannot_vanish_under_its_cache():
    block = mmap.mmap(-1, 1 << 20)
    cache = kvc.Cache(arena_block=block, codec="fp16", **SHAPE)
    with pytest.raises(BufferError):
        block.close()
    with cache.step([cache.create_sequence()], [4]) as step:
        for layer in range(2):
            step.append(layer, *tensors(4)[1:])
    cache.close()
    block.close()
    growing = bytearray(1 << 20)
    with pytest.raises(kvc.ArgumentError) as refused:
        kvc.Cache(arena_block=growing, codec="fp17", **SHAPE)
    growing.clear()  # a cache that was refused holds nothing
    del refused


def memory_of(loop: Callable[[list[int]], None], layers: list[int]) -> tuple[int, int]:
    """Python's blocks that stay, and the most bytes that are taken meanwhile."""
    gc.collect()
    gc.disable()
    tracemalloc.start()
    try:
        before, blocks = tracemalloc.get_traced_memory()[0], sys.getallocatedblocks()
        tracemalloc.reset_peak()
        loop(layers)
        return sys.getallocatedblocks() - blocks, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
        gc.enable()


@pytest.mark.parametrize("tokens", [1, 512])
def test_the_hot_loop_allocates_and_copies_nothing(tokens):
    """It takes what a loop takes that calls nothing."""
    q, k, v = tensors(tokens)
    out, lse = np.empty_like(q), np.empty((tokens, 4), np.float32)
    first, second = list(range(50)), list(range(50, 100))
    with kvc.Cache(**{**SHAPE, "layers": 100}, codec="fp16", arena_tokens=tokens) as cache:
        step = cache.step([cache.create_sequence()], [tokens])

        def idle(layers):
            for layer in layers:
                pass

        def two_calls(layers):
            for layer in layers:
                step.append(layer, k, v)
                step.attend_into(layer, q, out)

        def one_call(layers):
            for layer in layers:
                step.append_attend(layer, k, v, q, out)

        def with_lse(layers):
            for layer in layers:
                step.attend_into(layer, q, out, lse)

        for loop, layers in ((two_calls, first), (one_call, second), (with_lse, first)):
            loop(layers[:1])  # what is taken once
            rest = layers[1:]
            (stays, peak), (idle_stays, idle_peak) = memory_of(loop, rest), memory_of(idle, rest)
            assert peak == idle_peak and stays <= idle_stays + 2, (loop.__name__, peak, idle_peak, stays, idle_stays)
