"""Sequences, steps and caches that have ended, and what is loaded."""
import copy
import ctypes
import gc
import pickle
import subprocess
import sys
import weakref

import kvc
import numpy as np
import pytest

SHAPE = dict(layers=1, kv_heads=1, k_dim=64)
ROW = np.zeros((1, 1, 64), np.float32)


@pytest.fixture
def cache():
    with kvc.Cache(arena_tokens=1024, **SHAPE) as opened:
        yield opened


def test_a_sequence_ends_with_its_block_and_only_once(cache):
    with cache.create_sequence() as sequence:
        assert cache.length(sequence) == 0 and sequence.cache is cache and repr(sequence) == f"<kvc.Sequence {int(sequence):#x}>"
    assert cache.stats().sequences == 0
    sequence.close()
    with pytest.raises(kvc.HandleError):
        cache.destroy_sequence(sequence)
    with pytest.raises(kvc.HandleError):
        cache.length(sequence)


def test_closing_what_ended_another_way_is_harmless(cache):
    by_number = cache.create_sequence()
    cache.destroy_sequence(int(by_number))
    with cache.create_sequence() as inside, cache.create_sequence() as dropped:
        cache.destroy_sequence(int(inside))
        cache.close()
    for ended in (by_number, inside, dropped):
        ended.close()
        ended.close()
        with pytest.raises(kvc.HandleError):
            cache.destroy_sequence(ended)
        with pytest.raises(kvc.HandleError):
            cache.length(ended)


def test_a_busy_sequence_is_not_closed_in_silence(cache):
    sequence = cache.create_sequence()
    step = cache.step([sequence], [1])
    with pytest.raises(kvc.BusyError):
        sequence.close()
    step.abort()
    assert cache.length(sequence) == 0
    sequence.close()
    assert cache.stats().sequences == 0


def test_sequences_of_another_cache_are_refused(cache):
    with kvc.Cache(arena_tokens=64, **SHAPE) as other:
        own, foreign = cache.create_sequence(), other.create_sequence()
        ids, scores = np.zeros(1, np.int64), np.zeros(1, np.float32)
        for operation, use in {
                "step_begin": lambda: cache.step([own, foreign], [1, 1]), "seq_length": lambda: cache.length(foreign),
                "seq_destroy": lambda: cache.destroy_sequence(foreign), "seq_fork": lambda: cache.fork(foreign, 0),
                "seq_truncate": lambda: cache.truncate(foreign, 0), "seq_exact_floor": lambda: cache.exact_floor(foreign),
                "seq_live": lambda: cache.live(foreign, 0, 0), "seq_positions": lambda: cache.positions(foreign, 0, 0),
                "seq_prompt_set": lambda: cache.set_prompt_end(foreign, 0), "seq_budget_set": lambda: cache.set_budget(foreign, 0),
                "seq_step_limit": lambda: cache.step_limit(foreign), "evict": lambda: cache.evict(foreign, scores),
                "evict_keep": lambda: cache.evict_keep(foreign, ids), "merge": lambda: cache.merge(foreign, ids.astype(np.int32)),
                "step_down": lambda: cache.step_down(foreign), "prefix_publish": lambda: cache.publish_prefix(foreign, ids),
                "seq_read": lambda: cache.read(foreign, 0, 0, "keys", 64), "seq_read_codes": lambda: cache.read_codes(foreign, 0, 0, "keys", 64),
                "seq_read_mass": lambda: cache.read_mass(foreign, 0, 0), "seq_read_counts": lambda: cache.read_counts(foreign, 0, 0),
                "seq_read_rungs": lambda: cache.rungs(foreign, 0, 0), "snapshot_export": lambda: cache.export([own, foreign]),
                "snapshot_save": lambda: cache.save("nowhere", iter([foreign])), "seq_stats_get": lambda: cache.sequence_stats(foreign)}.items():
            with pytest.raises(kvc.HandleError, match=f"^{operation}: a sequence belongs to another cache$") as refusal:
                use()
            assert refusal.value.operation == operation
        with pytest.raises(kvc.HandleError, match="does not exist in this cache"):
            cache.step([int(foreign)], [1])  # a number of no live one
        assert other.length(foreign) == 0 and cache.export([int(own)]) == cache.export()


def test_an_ended_step_answers_handle(cache):
    for end in (kvc.Step.commit, kvc.Step.abort):
        step = cache.step([cache.create_sequence()], [1])
        step.append(0, ROW, ROW)
        end(step)
        for use in (lambda: step.append(0, ROW, ROW), lambda: step.attend(0, ROW), step.commit):
            with pytest.raises(kvc.HandleError):
                use()
        step.abort()  # ending it twice is none of these


def test_a_closed_cache_answers_handle_to_everything(cache):
    sequence = cache.create_sequence()
    step = cache.step([sequence], [1])
    cache.close()
    for use in (cache.stats, cache.create_sequence, cache.clear_prefixes, cache.synchronize, cache.export, step.commit,
                lambda: cache.length(sequence), lambda: step.append(0, ROW, ROW), lambda: cache.create_buffer(64)):
        with pytest.raises(kvc.HandleError):
            use()


def bare(kind: type) -> kvc.Buffer | kvc.Graph:
    """Of which a cache on the host makes none."""
    made = object.__new__(kind)
    made._owned = False
    return made


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda owner: copy.deepcopy([owner]), pickle.dumps,
                                       lambda owner: pickle.dumps(owner, protocol=0), lambda owner: pickle.dumps({"kept": owner}, protocol=2)])
def test_what_ends_something_is_not_copied(cache, duplicate):
    sequence = cache.create_sequence()
    step = cache.step([sequence], [1])
    for owner in (cache, sequence, step, bare(kvc.Buffer), bare(kvc.Graph)):
        with pytest.raises(TypeError, match=f"a kvc.{type(owner).__name__} cannot be copied or pickled: .*Cache.fork"):
            duplicate(owner)
    gc.collect()
    step.append(0, ROW, ROW)
    step.commit()
    assert cache.length(sequence) == 1


def test_memory_can_come_from_functions_at_addresses():
    held, asked = {}, []

    @ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    def allocate(context, size, alignment):
        asked.append((context, alignment))
        block = (ctypes.c_char * (size + alignment))()
        address = -(-ctypes.addressof(block) // alignment) * alignment
        held[address] = block
        return address

    @ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
    def release(context, address, size):
        asked.append((context, None))
        del held[address]

    addresses = {name: ctypes.cast(function, ctypes.c_void_p).value for name, function in (("allocate", allocate), ("release", release))}
    with kvc.Cache(arena_tokens=1024, allocator_context=7, **addresses, **SHAPE) as cache:
        with cache.step([cache.create_sequence()], [1]) as step:
            step.append(0, ROW, ROW)
        assert held
    assert not held and {context for context, _ in asked} == {7}


def test_a_step_keeps_its_sequences(cache):
    step = cache.step([cache.create_sequence()], [1])
    step.append(0, ROW, ROW)
    step.commit()
    assert cache.stats().sequences == 1
    del step
    assert cache.stats().sequences == 0


def test_a_cycle_through_an_open_step_is_collected():
    cache = kvc.Cache(arena_tokens=64, **SHAPE)
    ended = weakref.ref(cache)
    cache.open_step = cache.step([cache.create_sequence()], [1])  # which holds the cache
    del cache
    gc.collect()
    assert ended() is None


def test_a_block_commits_aborts_or_leaves_an_ended_step_alone(cache):
    sequence = cache.create_sequence()
    with cache.step([sequence], [1]) as step:
        step.append(0, ROW, ROW)
        assert step.tokens == 1 and step.is_open
    assert cache.length(sequence) == 1 and not step.is_open
    with pytest.raises(kvc.OrderError), cache.step([sequence], [2]):
        pass  # nothing was appended: the commit is refused, and the step aborted
    with pytest.raises(ZeroDivisionError), cache.step([sequence], [2]):
        1 // 0
    with cache.step([sequence], [1]) as step:
        step.abort()
    assert cache.length(sequence) == 1 and cache.stats().open_steps == 0


def test_a_snapshot_can_be_checked_alone(cache, tmp_path):
    held = [cache.create_sequence(), cache.create_sequence()]
    snapshot = bytearray(cache.export(held))
    cache.save(tmp_path / "all")
    assert cache.check_snapshot(snapshot) == cache.check_snapshot(tmp_path / "all") == cache.stats().sequences == 2
    snapshot[-1] ^= 1
    with pytest.raises(kvc.CorruptError):
        cache.check_snapshot(snapshot)
    with pytest.raises(kvc.ArgumentError, match="contiguous bytes"):
        cache.import_(np.zeros((4, 4), np.uint8)[:, ::2])
    with pytest.raises(kvc.FileError):
        cache.check_snapshot(str(tmp_path / "none"))


def test_an_empty_list_is_not_all_of_the_cache(cache, tmp_path):
    kept = cache.create_sequence()
    for none in ([], (), iter([])):
        with pytest.raises(kvc.ArgumentError, match="^snapshot_export: no sequences were named") as refusal:
            cache.export(none)
        assert refusal.value.operation == "snapshot_export"
        with pytest.raises(kvc.ArgumentError, match="^snapshot_save: no sequences were named"):
            cache.save(tmp_path / "a", none)
    assert not (tmp_path / "a").exists() and cache.export([kept]) == cache.export()
    with pytest.raises(TypeError, match="sequences must be a list"):
        cache.export(7)


@pytest.mark.parametrize("sequences, counts", [([1], [1, 2]), (["a"], [1]), ([None], [1])])
def test_steps_of_nonsense_are_refused(cache, sequences, counts):
    with pytest.raises((kvc.ArgumentError, kvc.HandleError, TypeError)):
        cache.step(sequences, counts)
    assert cache.stats().open_steps == 0


def test_devices_that_are_not_there_are_unsupported(cache):
    library = kvc.default_library()
    assert len(library.devices(kvc.Device.CPU)) == 1
    with pytest.raises(kvc.UnsupportedError):
        cache.create_buffer(64)
    with pytest.raises(kvc.ArgumentError):
        library.devices(99)


def load(clone, code: str, **environment: str) -> subprocess.CompletedProcess:
    settings = {"PYTHONPATH": str(clone / "bindings" / "python"), **environment}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=settings)


def test_the_library_is_the_one_that_was_asked_for(clone):
    prefix = str(clone / "build" / "bindings" / "prefix" / "lib")
    where = "import kvc; print(kvc.default_library().path)"
    assert load(clone, where).stdout.strip() == str(clone / "build" / "release" / "libkvc.so")
    assert load(clone, where, KVC_LIBRARY=f"{prefix}/libkvc.so").stdout.strip() == f"{prefix}/libkvc.so"
    assert load(clone, where, KVC_LIBRARY="libkvc.so.1", LD_LIBRARY_PATH=prefix).stdout.strip() == f"{prefix}/libkvc.so.1"
    other = load(clone, f"import kvc; kvc.Library('{prefix}/libkvc.so')")
    assert "is not the library of this process" in other.stderr and "LibraryError" in other.stderr


def test_what_is_no_libkvc_is_refused(clone, tmp_path):
    (tmp_path / "text.so").write_text("not a library")
    assert "LibraryError" in load(clone, "import kvc", KVC_LIBRARY=str(tmp_path / "text.so")).stderr
    assert "LibraryError" in load(clone, "import kvc", KVC_LIBRARY="libm.so.6").stderr


def test_a_python_without_numpy_is_told_so(clone):
    fault = load(clone, "import sys; sys.modules['numpy'] = None; import kvc").stderr
    assert "ModuleNotFoundError" in fault and "numpy" in fault and "LibraryError" not in fault


def test_a_cache_that_was_never_made_ends_in_silence(clone):
    fault = load(clone, "import kvc\ntry: kvc.Cache(1)\nexcept TypeError: pass").stderr
    assert not fault


@pytest.mark.parametrize("fault, words", [("OTHER_VERSION", "has ABI 1000"), ("OTHER_LAYOUT", "struct kvc_error field status")])
def test_a_library_of_another_abi_is_refused(clone, tmp_path, fault, words):
    prefix, library = clone / "build" / "bindings" / "prefix" / "lib", tmp_path / "other.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-Wl,--no-as-needed", f"-D{fault}", str(clone / "bindings" / "proof" / "other_abi.c"),
                    "-o", str(library), f"-L{prefix}", "-lkvc", "-ldl"], check=True)
    result = load(clone, "import kvc", KVC_LIBRARY=str(library), LD_LIBRARY_PATH=str(prefix))
    assert result.returncode == 1 and "LibraryError" in result.stderr and words in result.stderr


def test_graphs_are_for_devices_and_an_ended_one_is_refused(cache):
    with pytest.raises(kvc.UnsupportedError, match="graph_create: the cache is on the host"):
        cache.create_graph([1], 64)
    with pytest.raises(kvc.ArgumentError, match="n 0 is out of range"):
        cache.create_graph([], 64)
    with pytest.raises(kvc.HandleError, match="not a live graph"):
        cache.step([cache.create_sequence()], [1], graph=cache._handle)
    cache.close()
    with pytest.raises(kvc.HandleError):
        cache.create_graph([1], 64)


def test_rows_of_another_length_are_refused():
    with kvc.Cache(layers=2, kv_heads=1, codec="fp16", arena_tokens=64, layers_differ=[dict(k_dim=32), dict(k_dim=64, v_dim=32)]) as cache:
        sequence = cache.create_sequence()
        with cache.step([sequence], [4]) as step:
            for layer, (k, v) in enumerate([(32, 32), (64, 32)]):
                step.append(layer, np.zeros((4, 1, k), np.float32), np.zeros((4, 1, v), np.float32))
        for layer, part, dim in ((0, "keys", 32), (1, "keys", 64), (1, "values", 32)):
            assert cache.read(sequence, layer, 0, part, dim).shape == (4, dim)
            for wrong in (dim - 1, dim * 2, 0):
                with pytest.raises(kvc.ArgumentError, match=f"dim {wrong}"):
                    cache.read(sequence, layer, 0, part, wrong)
