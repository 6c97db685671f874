"""On a device, which make -C bindings python-devices emulates: copies of buffers, and pinned memory in steps."""
import kvc
import numpy as np
import pytest

SHAPE = dict(layers=1, kv_heads=2, q_heads=4, k_dim=64, device=kvc.Device.CUDA, arena_tokens=1024)
DEVICE, PINNED = kvc.BufferKind.BUFFER_DEVICE, kvc.BufferKind.BUFFER_PINNED


@pytest.fixture
def cache():
    with kvc.Cache(**SHAPE) as opened:
        yield opened


def numbers(dtype: str = "float32", shape: tuple[int, ...] = (3, 2, 64)) -> np.ndarray:
    return (np.random.default_rng(len(dtype)).standard_normal(shape) * 50).astype(dtype)


# ---- copies ----

@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16", "int64", "float64", "bool", "complex64", "u1"])
def test_an_array_comes_back_as_it_was(cache, dtype):
    given = numbers(dtype)
    with cache.create_buffer(given.nbytes) as buffer:
        buffer.copy_from(given)
        by_array, by_address = np.zeros_like(given), np.zeros_like(given)
        buffer.copy_to(by_array)
        buffer.copy_to(by_address.ctypes.data, kvc.Device.CPU, by_address.nbytes)
        assert given.any() and by_array.tobytes() == by_address.tobytes() == given.tobytes()
        other = given[::-1].copy()
        buffer.copy_from(other.ctypes.data, kvc.Device.CPU, other.nbytes)
        buffer.copy_to(by_array)
        assert by_array.tobytes() == other.tobytes()


@pytest.mark.parametrize("between", [DEVICE, PINNED])
def test_buffers_and_their_views_are_arrays(cache, between):
    given, seen = numbers(), np.zeros((3, 2, 64), np.float32)
    source, way, target = (cache.create_buffer(given.nbytes, kind) for kind in (DEVICE, between, DEVICE))
    source.copy_from(given)
    way.copy_from(source)
    way.copy_to(target.view(given.shape, kvc.Dtype.F32))
    target.copy_to(seen)
    np.testing.assert_array_equal(seen, given)
    source.copy_from(2 * given)
    target.copy_from(source.address, source.device, given.nbytes)
    target.copy_to(seen)
    np.testing.assert_array_equal(seen, 2 * given)


def test_pinned_memory_is_copied_between_the_device_and_numpy(cache):
    given, pinned, buffer = numbers(), cache.create_buffer(1536, PINNED), cache.create_buffer(1536)
    array = np.from_dlpack(pinned).view(np.float32).reshape(given.shape)
    array[:] = given
    buffer.copy_from(array)
    array[:] = 0
    pinned.copy_from(buffer)
    np.testing.assert_array_equal(array, given)
    for copy in (pinned.copy_from, pinned.copy_to):
        with pytest.raises(kvc.ArgumentError, match="neither side is on the device"):
            copy(given)


def test_whatever_has_bytes_is_copied_and_a_part_leaves_the_rest(cache):
    buffer, seen = cache.create_buffer(16), bytearray(b"-" * 20)
    buffer.copy_from(b"0123456789abcdef")
    buffer.copy_from(memoryview(b"xyz"))
    buffer.copy_to(memoryview(seen)[2:12])
    assert seen == b"--xyz3456789--------"
    buffer.copy_from(np.empty((0, 4), np.float32))
    buffer.copy_to(np.empty(0, np.float32))
    buffer.copy_to(memoryview(seen)[:16])
    assert seen == b"xyz3456789abcdef----"


@pytest.mark.parametrize("wrong, words", [
    (numbers()[:, ::2], "not C-contiguous"), (numbers().tolist(), "got list"), (4096, "got int"),
    (np.array([None]), "expected an array of numbers, got elements of"),
    (numbers().astype(">f4"), "byte order"), (np.zeros(10**4, np.float32), "buffer_copy: 40000 bytes, and the buffer has 1536"),
])
def test_what_cannot_be_copied_is_refused(cache, wrong, words):
    buffer, given, seen = cache.create_buffer(1536), numbers(), np.zeros((3, 2, 64), np.float32)
    buffer.copy_from(given)
    for name, copy in (("source", buffer.copy_from), ("target", buffer.copy_to)):
        with pytest.raises(kvc.ArgumentError, match=words) as refused:
            copy(wrong)
        assert refused.value.operation == "buffer_copy" and (name in refused.value.message or "bytes" in words)
    buffer.copy_to(seen)
    np.testing.assert_array_equal(seen, given)


def test_what_is_half_an_address_is_refused(cache):
    buffer, seen = cache.create_buffer(1536), np.zeros((3, 2, 64), np.float32)
    frozen = seen.copy()
    frozen.flags.writeable = False
    with pytest.raises(kvc.ArgumentError, match="target: expected an array .* that can be written"):
        buffer.copy_to(frozen)
    for copy in (buffer.copy_from, buffer.copy_to):
        with pytest.raises(TypeError, match="size must be an integer"):
            copy(seen.ctypes.data, kvc.Device.CPU)
        with pytest.raises(TypeError, match="device must be an integer"):
            copy(seen.ctypes.data, size=64)
        with pytest.raises(TypeError, match="must be an address, not ndarray"):
            copy(seen, kvc.Device.CPU, 64)
    buffer.close()
    for copy in (buffer.copy_from, buffer.copy_to):
        with pytest.raises(kvc.HandleError, match="closed"):
            copy(seen)


# ---- steps ----

def attended(cache: kvc.Cache, kinds: tuple[int, ...], wrap=lambda buffer, shape: buffer.view(shape, kvc.Dtype.F32)) -> np.ndarray:
    """What a step over buffers of these kinds attends to, and what it stored."""
    shapes = (3, 2, 64), (3, 2, 64), (3, 4, 64), (3, 4, 64)
    buffers = [cache.create_buffer(int(np.prod(shape)) * 4, kind) for shape, kind in zip(shapes, kinds)]
    for seed, (buffer, shape) in enumerate(zip(buffers, shapes)):
        given = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        if buffer.kind == PINNED:
            np.from_dlpack(buffer).view(np.float32).reshape(shape)[:] = given
        else:
            buffer.copy_from(given)
    k, v, q, out = (wrap(buffer, shape) for buffer, shape in zip(buffers, shapes))
    sequence = cache.create_sequence()
    with cache.step([sequence], [3], buffers=kvc.Device.CUDA) as step:
        step.append(0, k, v)
        step.attend(0, q, out)
    cache.synchronize()
    seen = np.zeros(shapes[3], np.float32)
    if kinds[3] == PINNED:
        seen[:] = np.from_dlpack(buffers[3]).view(np.float32).reshape(seen.shape)
    else:
        buffers[3].copy_to(seen)
    return np.concatenate([seen.ravel(), *(cache.read(sequence, 0, head, part, 64).ravel() for head in (0, 1) for part in ("keys", "values"))])


def test_a_step_takes_pinned_memory_as_the_devices(cache):
    expected = attended(cache, (DEVICE,) * 4)
    assert np.abs(expected).max() > 0.5
    for kinds in ((PINNED,) * 4, (PINNED, DEVICE) * 2, (DEVICE, PINNED) * 2):
        np.testing.assert_array_equal(attended(cache, kinds), expected)
    as_numpy = attended(cache, (PINNED,) * 4, lambda buffer, shape: np.from_dlpack(buffer).view(np.float32).reshape(shape))
    np.testing.assert_array_equal(as_numpy, expected)


def test_a_step_refuses_what_the_device_does_not_reach(cache):
    host = numbers()
    pinned = cache.create_buffer(host.nbytes, PINNED).view(host.shape, kvc.Dtype.F32)
    with kvc.Cache(**SHAPE) as other:
        foreign = other.create_buffer(host.nbytes, PINNED).view(host.shape, kvc.Dtype.F32)
        step = cache.step([cache.create_sequence()], [3], buffers=kvc.Device.CUDA)
        with pytest.raises(kvc.ArgumentError, match="append: v: expected an array on a CUDA device, got one on the host"):
            step.append(0, pinned, host)
        with pytest.raises(kvc.HandleError, match="append: v: the buffer belongs to another cache"):
            step.append(0, pinned, foreign)
        step.append(0, pinned, pinned)
        del foreign
