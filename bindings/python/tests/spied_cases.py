"""Run by test_spied.py in a process of its own, whose calls of libkvc go through spy.c."""
import ctypes
import gc
import itertools
import sys
import threading
import time

import kvc
import numpy as np
import pytest
from kvc.library import raw

SPY = ctypes.CDLL(None)
SHAPE = dict(layers=2, kv_heads=2, q_heads=4, k_dim=64)
Addresses = ctypes.c_void_p * 6


def number(name: str, kind=ctypes.c_int64):
    return kind.in_dll(SPY, name)


def seen() -> list[int]:
    return list(Addresses.in_dll(SPY, "spy_seen"))


def collect() -> None:
    gc.collect()


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


@pytest.fixture
def cache():
    with kvc.Cache(codec="int4", arena_tokens=1024, arena_growth=1, **SHAPE) as opened:
        yield opened
    SPY_STATUS.value = SPY_WAIT.value = SPY_ATTEND_STATUS.value = 0


SPY_STATUS, SPY_WAIT, SPY_ATTEND_STATUS = (number(name, ctypes.c_int32) for name in ("spy_status", "spy_wait_ms", "spy_attend_status"))


# ---- no copies ----

class Dlpack:
    """A producer of DLPack and nothing else, such as a tensor of another library."""

    def __init__(self, array: np.ndarray):
        self._array = array

    def __dlpack__(self, **arguments):
        return self._array.__dlpack__(**arguments)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()


@pytest.mark.parametrize("wrap", [lambda a: a, Dlpack, memoryview])
def test_the_library_is_handed_the_arrays_themselves(cache, wrap):
    fused = np.zeros((5, 8, 64), np.float32)  # q, k and v of each token side by side, as models make them
    q, k, v = fused[:, :4], fused[:, 4:6], fused[:, 6:]
    out, lse = np.empty((5, 4, 64), np.float32), np.empty((5, 4), np.float32)
    step = cache.step([cache.create_sequence()], [5], k_token_stride=512, v_token_stride=512, q_token_stride=512)
    step.append(0, wrap(k), wrap(v))
    step.attend(0, wrap(q), wrap(out), wrap(lse))
    assert seen()[:5] == [address(array) for array in (k, v, q, out, lse)]
    assert list((ctypes.c_int64 * 2).in_dll(SPY, "spy_bytes")) == [(4 * 512 + 128) * 4, (4 * 512 + 256) * 4]


# ---- lifetimes ----

def test_a_hundred_thousand_dropped_sequences_leave_none(cache):
    for _ in range(100_000):
        cache.create_sequence()
    collect()
    assert cache.stats().sequences == 0


def test_dropped_steps_are_aborted(cache):
    sequence = cache.create_sequence()
    for _ in range(20_000):
        cache.step([sequence], [1])
    collect()
    assert cache.stats().open_steps == 0 and cache.length(sequence) == 0
    with cache.step([sequence], [0]) as step:
        step.append(0, np.empty((0, 2, 64), np.float32), np.empty((0, 2, 64), np.float32))
        step.append(1, np.empty((0, 2, 64), np.float32), np.empty((0, 2, 64), np.float32))


def test_dropped_caches_are_destroyed_with_what_they_hold():
    before = number("spy_caches").value
    for i in range(5_000):
        cache = kvc.Cache(arena_tokens=64, **SHAPE)
        sequence = cache.create_sequence()
        kept = [cache.step([sequence], [1]), sequence] if i % 2 else [cache, sequence]
        kept.append(kept)  # only the collector ends this
    del cache, sequence, kept
    collect()
    assert number("spy_caches").value == before


def test_a_sequence_that_the_collector_takes_before_its_step_ends_later(cache):
    sequence = cache.create_sequence()
    step = cache.step([sequence], [1])
    sequence.__del__()  # as the collector may do first in a cycle
    assert cache.stats().sequences == 1
    step.abort()
    cache.create_sequence()
    assert cache.stats().sequences == 0


def test_dropped_sequences_do_not_wait_for_one_that_is_busy(cache):
    sequences = [cache.create_sequence() for _ in range(4)]
    steps = [cache.step([sequence], [1]) for sequence in sequences]
    for sequence in sequences:
        sequence.__del__()  # as the collector may do first in a cycle
    for step in steps[:3]:
        step.abort()
    cache.create_sequence()  # dropped at once
    assert cache.stats().sequences == 1
    steps[3].abort()
    cache.create_sequence()
    assert cache.stats().sequences == 0


def test_a_dropped_sequence_that_is_gone_stands_in_nobodys_way(cache):
    sequence = cache.create_sequence()
    step = cache.step([sequence], [1])
    sequence.__del__()
    step.abort()
    cache.destroy_sequence(int(sequence))
    with cache.create_sequence(), cache.create_sequence():
        assert cache.stats().sequences == 2


@pytest.mark.parametrize("order", list(itertools.permutations(["cache", "sequence", "step", "buffer"])))
@pytest.mark.parametrize("close", [True, False])
def test_any_order_of_destruction(order, close):
    before = number("spy_caches").value, number("spy_buffers").value
    things = {"cache": kvc.Cache(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE)}
    things["sequence"] = things["cache"].create_sequence()
    things["step"] = things["cache"].step([things["sequence"]], [1])
    things["buffer"] = things["cache"].create_buffer(64)
    for name in order:
        thing = things.pop(name)
        if close:
            end_twice(name, thing)
        del thing
        collect()
    assert (number("spy_caches").value, number("spy_buffers").value) == before


def end_twice(name: str, thing) -> None:
    end = thing.abort if name == "step" else thing.close
    for _ in range(2):
        try:
            end()
        except (kvc.BusyError, kvc.HandleError) as fault:
            assert (name, type(fault)) in (("sequence", kvc.BusyError), ("step", kvc.HandleError))  # it belongs to the open step; its cache is gone


# ---- threads ----

def test_other_threads_run_during_a_call(cache):
    SPY_WAIT.value = 300
    inside = number("spy_inside", ctypes.c_int32)
    caller = threading.Thread(target=cache.synchronize)
    caller.start()
    observed, end = 0, time.monotonic() + 10
    while caller.is_alive() and time.monotonic() < end:
        observed += inside.value
    caller.join()
    assert observed > 100


def test_close_while_other_threads_call(cache):
    errors = []

    def use():
        try:
            while True:
                sequence = cache.create_sequence()
                with cache.step([sequence], [1]) as step:
                    for layer in range(2):
                        step.append(layer, np.zeros((1, 2, 64), np.float32), np.zeros((1, 2, 64), np.float32))
                        step.attend(layer, np.zeros((1, 4, 64), np.float32))
        except kvc.HandleError as fault:
            errors.append(fault)

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    cache.close()
    for thread in threads:
        thread.join(20)
    assert len(errors) == 4


# ---- errors ----

@pytest.mark.parametrize("status", list(kvc.Status)[1:])
def test_every_status_has_its_exception(cache, status):
    SPY_STATUS.value = status
    with pytest.raises(kvc.KvcError) as caught:
        cache.synchronize()
    fault = caught.value
    assert "KVC_" + status.name == type(fault).status_name == kvc.default_library().status_name(status)
    assert (fault.status, fault.operation, fault.message) == (status, "synchronize", f"synchronize: told to fail with {status.value}")
    assert str(fault) == fault.message


def test_a_status_that_nobody_knows_is_no_success(cache):
    SPY_STATUS.value = 77
    with pytest.raises(kvc.InternalError, match="status 77, which this binding does not know") as caught:
        cache.synchronize()
    assert caught.value.status == 77


def test_append_attend_says_how_far_it_came(cache):
    q, k, v = (np.ones((2, heads, 64), np.float32) for heads in (4, 2, 2))
    with cache.step([cache.create_sequence()], [2]) as step:
        SPY_ATTEND_STATUS.value = kvc.Status.E_NO_MEMORY
        with pytest.raises(kvc.OutOfMemoryError, match="attend: told to fail") as refused:
            step.append_attend(0, k, v, q, q.copy())
        assert refused.value.operation == "attend"
        SPY_ATTEND_STATUS.value = 0
        with pytest.raises(kvc.OrderError) as refused:
            step.append_attend(0, k, v, q, q.copy())  # the layer was appended
        assert refused.value.operation == "append"
        step.attend_into(0, q, q.copy())
        step.append_attend(1, k, v, q, q.copy())


# ---- device memory ----

def device_tensor(cache: kvc.Cache, array: np.ndarray):
    buffer = cache.create_buffer(array.nbytes)
    buffer.copy_from(address(array), kvc.Device.CPU, array.nbytes)
    return buffer, buffer.view(array.shape, kvc.Dtype.F32)


def test_device_buffers_and_streams_reach_the_library():
    random = np.random.default_rng(0)
    q, k, v = (random.standard_normal((3, heads, 64)).astype(np.float32) for heads in (4, 2, 2))
    with kvc.Cache(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE) as cache:
        held = [device_tensor(cache, array) for array in (q, k, v, np.empty_like(q))]
        tensors = [tensor for _, tensor in held]
        assert tensors[0].__dlpack_device__() == (kvc.Device.CUDA, 0) and held[0][0].__dlpack_device__() == (kvc.Device.CUDA, 0)
        step = cache.step([cache.create_sequence()], [3], buffers=kvc.Device.CUDA, stream=0x5EED)
        step.append(0, tensors[1], tensors[2])
        step.attend(0, tensors[0], tensors[3])
        cache.synchronize()
        assert seen() == [held[i][0].address for i in (1, 2, 0, 3)] + [None, 0x5EED]
        out = np.empty_like(q)
        held[3][0].copy_to(address(out), kvc.Device.CPU, out.nbytes)
        with pytest.raises(kvc.ArgumentError, match="k: expected an array on a CUDA device, got one on the host"):
            step.append(1, Dlpack(k), tensors[2])
        with pytest.raises(kvc.ArgumentError, match="out must be given"):
            step.attend(0, tensors[0])
        with pytest.raises(kvc.ArgumentError, match="more than the 1536 bytes"):
            held[1][0].view((4, 2, 64), kvc.Dtype.F32)
        on_host = cache.step([cache.create_sequence()], [3])
        with pytest.raises(kvc.ArgumentError, match="q: expected an array on the host, got one on a CUDA device"):
            on_host.append(0, k, v) or on_host.attend(0, tensors[0], out)
        np.testing.assert_array_equal(on_host.attend(0, q), out)


def test_the_default_streams_have_numbers_of_their_own():
    """0 is the legacy default stream to PyTorch and no stream to kvc, which then takes one that does not wait for that."""
    with kvc.Cache(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE) as cache:
        for stream, handed in ((1, 1), (2, 2), (np.int64(1), 1), (None, None)):
            cache.step([cache.create_sequence()], [1], buffers=kvc.Device.CUDA, stream=stream)
            assert seen()[5] == handed
        sequence = cache.create_sequence()
        for zero in (0, False, np.int64(0), sequence_of_nothing()):
            with pytest.raises(kvc.ArgumentError, match="stream 0 .* None .* 1 .* 2 ") as refused:
                cache.step([sequence], [1], buffers=kvc.Device.CUDA, stream=zero)
            assert refused.value.operation == "step_begin"
        cache.step([sequence], [1]).abort()  # nothing was begun


def sequence_of_nothing() -> kvc.Sequence:
    """An object that stands for 0."""
    made = kvc.Sequence.__new__(kvc.Sequence)
    made._owned = False
    return made


def test_a_step_refuses_the_buffers_of_another_cache():
    """Whose end would not wait for what the step does with them, however they come."""
    arrays = [np.zeros((1, heads, 64), np.float32) for heads in (2, 2, 4, 4)]
    options = dict(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE)
    with kvc.Cache(**options) as cache, kvc.Cache(**options) as other:
        own, foreign = [[device_tensor(of, array) for array in arrays] for of in (cache, other)]
        k, v, q, out = (tensor for _, tensor in own)
        step = cache.step([cache.create_sequence()], [1], buffers=kvc.Device.CUDA)
        foreign_k, foreign_v, foreign_q, foreign_out = (Dlpack(tensor) for _, tensor in foreign)
        for name, call in {"append: k": lambda: step.append(0, foreign_k, v), "append: v": lambda: step.append(0, k, foreign_v),
                           "attend: q": lambda: step.attend(0, foreign_q, out), "attend: out": lambda: step.append_attend(0, k, v, q, foreign_out),
                           "attend: lse": lambda: step.attend(0, q, out, foreign[0][0].view((1, 4), kvc.Dtype.F32))}.items():
            with pytest.raises(kvc.HandleError, match=f"^{name}: the buffer belongs to another cache$"):
                call()
        step.append(0, k, v)
        step.attend(0, q, out)


def test_pinned_memory_is_the_hosts():
    with kvc.Cache(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE) as cache:
        pinned = cache.create_buffer(3 * 128 * 4, kvc.BufferKind.BUFFER_PINNED)
        assert np.from_dlpack(pinned).size == 3 * 128 * 4
        step = cache.step([cache.create_sequence()], [3])
        array = np.from_dlpack(pinned).view(np.float32).reshape(3, 2, 64)
        array[:] = 0
        step.append(0, array, pinned.view((3, 2, 64), kvc.Dtype.F32))
        assert seen()[:2] == [pinned.address, pinned.address]


def test_pinned_memory_of_a_cache_is_its_devices_too():
    options = dict(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE)
    with kvc.Cache(**options) as cache, kvc.Cache(**options) as other:
        pinned, foreign = (of.create_buffer(3 * 128 * 4, kvc.BufferKind.BUFFER_PINNED) for of in (cache, other))
        array = np.from_dlpack(pinned).view(np.float32).reshape(3, 2, 64)
        array[:] = 0
        step = cache.step([cache.create_sequence()], [3], buffers=kvc.Device.CUDA)
        with pytest.raises(kvc.HandleError, match="append: k: the buffer belongs to another cache"):
            step.append(0, foreign.view((3, 2, 64), kvc.Dtype.F32), array)
        with pytest.raises(kvc.ArgumentError, match="k: expected an array on a CUDA device, got one on the host"):
            step.append(0, array.copy(), array)
        step.append(0, array, pinned.view((3, 2, 64), kvc.Dtype.F32))
        assert seen()[:2] == [pinned.address, pinned.address]


@pytest.mark.parametrize("kind", [3, 13])  # DLPack's kDLCUDAHost and kDLCUDAManaged
@pytest.mark.parametrize("side", [kvc.Device.CPU, kvc.Device.CUDA])
def test_memory_that_both_sides_reach_is_taken_as_eithers(kind, side):
    array = np.zeros((1, 2, 64), np.float32)
    tensor = raw.view(address(array), array.shape, kvc.Dtype.F32, kind, 0, array)
    with kvc.Cache(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE) as cache:
        cache.step([cache.create_sequence()], [1], buffers=side).append(0, tensor, tensor)
        assert seen()[:2] == [address(array), address(array)]


def test_a_view_keeps_its_buffer():
    with kvc.Cache(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE) as cache:
        view = cache.create_buffer(512, kvc.BufferKind.BUFFER_PINNED).view((512,), 0x108)
        collect()
        assert number("spy_buffers").value == 1
        del view
        collect()
        assert number("spy_buffers").value == 0


@pytest.mark.parametrize("cache_too", [False, True])
def test_a_view_outlives_what_it_is_of(cache_too):
    before = number("spy_caches").value
    cache = kvc.Cache(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE)
    buffer = cache.create_buffer(512, kvc.BufferKind.BUFFER_PINNED)
    view, array = buffer.view((512,), 0x108), np.from_dlpack(buffer)
    (cache if cache_too else buffer).close()
    array[:] = 7
    assert number("spy_buffers").value == 1
    del view
    assert number("spy_buffers").value == 1 and array.sum() == 7 * 512
    with pytest.raises(kvc.HandleError):
        cache.stats() if cache_too else buffer.view((1,), 0x108)
    del array
    assert number("spy_buffers").value == 0 and number("spy_caches").value == before + (not cache_too)
    cache.close()
    assert number("spy_caches").value == before


def test_a_closed_buffer_gives_nothing():
    with kvc.Cache(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE) as cache:
        buffer = cache.create_buffer(512, kvc.BufferKind.BUFFER_PINNED)
        buffer.close()
        room = np.empty(512, np.uint8)
        for use in (lambda: buffer.view((512,), 0x108), buffer.__dlpack__, lambda: np.from_dlpack(buffer),
                    lambda: buffer.copy_to(address(room), kvc.Device.CPU, 512), lambda: buffer.copy_from(address(room), kvc.Device.CPU, 512)):
            with pytest.raises(kvc.HandleError, match="closed"):
                use()


def test_a_copy_lies_within_its_buffer():
    with kvc.Cache(device=kvc.Device.CUDA, arena_tokens=256, **SHAPE) as cache:
        buffer, room = cache.create_buffer(512), np.full(1024, 7, np.uint8)
        buffer.copy_from(address(room), kvc.Device.CPU, 512)
        room[:] = 0
        buffer.copy_to(address(room), kvc.Device.CPU, 511)
        assert list(room[510:513]) == [7, 0, 0]
        for copy, size in itertools.product((buffer.copy_from, buffer.copy_to), (513, 1 << 70)):
            with pytest.raises(kvc.ArgumentError, match=f"buffer_copy: {size} bytes, and the buffer has 512") as refused:
                copy(address(room), kvc.Device.CPU, size)
            assert refused.value.operation == "buffer_copy"
        buffer.close()
        with pytest.raises(kvc.HandleError) as closed:
            buffer.copy_to(address(room), kvc.Device.CPU, 1)
        assert closed.value.operation == "buffer_copy"


def test_a_closed_graph_begins_no_ordinary_step(cache):
    sequence, graph = cache.create_sequence(), cache.create_graph([1], 64)
    cache.step([sequence], [1], graph=graph).abort()
    cache.step([sequence], [1], graph=None).abort()
    graph.close()
    graph.close()
    assert number("spy_graphs").value == 0
    with pytest.raises(kvc.HandleError, match="not a live graph"):
        cache.step([sequence], [1], graph=graph)
    assert cache.stats().open_steps == 0
    with pytest.raises(kvc.ArgumentError):
        cache.create_graph([], 64)
    with cache.create_graph([1], 64):
        assert number("spy_graphs").value == 1
    assert number("spy_graphs").value == 0


def test_caches_and_buffers_that_only_the_collector_ends_leave_none():
    collect()  # what earlier cases left
    before = number("spy_caches").value, number("spy_buffers").value
    for _ in range(100):
        cache = kvc.Cache(device=kvc.Device.CUDA, arena_tokens=64, **SHAPE)
        kept = [cache, cache.create_buffer(64), cache.create_sequence()]
        kept.append(kept)
    del cache, kept
    collect()
    assert (number("spy_caches").value, number("spy_buffers").value) == before


if __name__ == "__main__":
    sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", __file__, *sys.argv[1:]]))
