"""What the compiled part makes of arguments: lists that change under it, and names of those that are wrong."""
import ast
import inspect
import operator
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import kvc
import numpy as np
import pytest
from kvc.library import raw

SHAPE = dict(layers=2, kv_heads=2, q_heads=4, k_dim=64, codec="int4", arena_tokens=1024)


@pytest.fixture
def cache():
    with kvc.Cache(**SHAPE) as opened:
        yield opened


# ---- objects that stand for numbers ----

def test_a_sequence_is_asked_for_its_number_and_a_class_over_it_for_its_own(cache):
    sequence = cache.create_sequence()
    assert operator.index(sequence) == sequence.__index__() == int(sequence) and cache.length(int(sequence)) == 0

    class Other(kvc.Sequence):
        def __index__(self) -> int:
            return operator.index(sequence)

    with cache.step([Other(cache, 1 << 40)], [1]) as step:
        step.append(0, np.ones((1, 2, 64), np.float32), np.ones((1, 2, 64), np.float32))
        step.append(1, np.ones((1, 2, 64), np.float32), np.ones((1, 2, 64), np.float32))
    assert cache.length(sequence) == 1


# ---- nothing, and an empty list ----

def nowhere(dtype: int):
    """An empty tensor whose data is NULL, as PyTorch's are."""
    return raw.view(0, (0,), dtype, kvc.Device.CPU, 0, ROW)


EMPTY = [list, tuple, lambda: np.zeros(0, np.int64)]


@pytest.mark.parametrize("empty", EMPTY)
def test_an_empty_list_is_none_that_was_omitted(cache, empty):
    """Left out, positions are no guard and what is accepted is everything."""
    sequence = cache.create_sequence()
    with pytest.raises(kvc.ArgumentError, match="position"):
        cache.step([sequence], [1], empty())
    step = cache.step([sequence], [1], partial_commit=1)
    for layer in range(2):
        step.append(layer, np.ones((1, 2, 64), np.float32), np.ones((1, 2, 64), np.float32))
    with pytest.raises(kvc.ArgumentError, match="accepted"):
        step.commit(empty())
    assert step.is_open and cache.length(sequence) == 0
    step.commit()
    assert cache.length(sequence) == 1
    for use in (lambda: cache.create_graph(empty(), 64), lambda: cache.step(empty(), empty()), lambda: cache.export(empty())):
        with pytest.raises(kvc.KvcError):
            use()


@pytest.mark.parametrize("empty", [lambda: np.zeros(0, np.float32), lambda: nowhere(kvc.Dtype.F32)], ids=["numpy", "tensor"])
def test_an_empty_array_is_none_that_was_omitted(cache, empty):
    """Scores that are left out mean: by the policy, or the oldest first."""
    sequence = cache.create_sequence()
    with cache.step([sequence], [200]) as step:
        for layer in range(2):
            step.append(layer, np.ones((200, 2, 64), np.float32), np.ones((200, 2, 64), np.float32))
    with pytest.raises(kvc.ArgumentError, match="scores"):
        cache.evict(sequence, empty(), budget=100)
    assert cache.live(sequence, 0, 0) == 200
    with pytest.raises(kvc.ArgumentError, match="merge: 0 entries given"):
        cache.merge(sequence, nowhere(0x020))


# ---- what changes while it is read ----

class Emptying:
    """A number that, asked for its value, empties the list or dict that it is in, and reuses the memory."""

    def __init__(self, value: int, holder: list | dict):
        self.value, self.holder = value, holder

    def __index__(self) -> int:
        self.holder.clear()
        self.reused = [object() for _ in range(1000)]
        return self.value


def emptying(n: int) -> list:
    numbers: list = []
    numbers += [Emptying(1, numbers), *range(10**12, 10**12 + n)]
    return numbers


def test_a_list_that_changes_while_it_is_read_is_refused(cache):
    sequence = cache.create_sequence()
    step = cache.step([sequence], [1], partial_commit=1)
    for use in (lambda changing: cache.step([sequence], changing), lambda changing: cache.step([sequence], [1], changing), step.commit,
                cache.export, lambda changing: cache.save("never.written", changing), lambda changing: cache.create_graph(changing, 64)):
        with pytest.raises(kvc.ArgumentError, match="changed while it was read"):
            use(emptying(5000))
    step.abort()
    assert cache.stats().open_steps == 0


def test_a_list_may_change_once_it_was_read(cache):
    sequences: list = [cache.create_sequence()]
    sequences.append(Emptying(int(sequences[0]), sequences))
    with pytest.raises(kvc.ArgumentError, match="2 sequences but 1"):
        cache.step(sequences, [1])
    counts: list = []
    counts.append(Emptying(1, counts))
    cache.step([cache.create_sequence()], counts).abort()


def test_fields_may_leave_their_dict_while_it_is_read(cache):
    fields: dict = {}
    fields.update(sliding_window=Emptying(2**70, fields), causal_offset=0)
    step = cache.step([cache.create_sequence()], [0])
    with pytest.raises(kvc.ArgumentError, match="sliding_window is <.*>; it must be below"):
        step.attend_into(0, np.empty((0, 4, 64), np.float32), np.empty((0, 4, 64), np.float32), None, fields)


def test_what_the_callers_code_raises_goes_on(cache):
    class Broken:
        def __index__(self):
            raise ZeroDivisionError

        __iter__ = __float__ = __fspath__ = __index__

    sequence = cache.create_sequence()
    for use in (lambda: cache.length(Broken()), lambda: cache.step([sequence], [Broken()]), lambda: cache.step(Broken(), [1]),
                lambda: cache.step([sequence], Broken()), lambda: cache.load(Broken()), lambda: cache.create_sequence(first_position=Broken()),
                lambda: cache.step([sequence], [0]).attend_into(0, ROW, ROW, None, dict(scale=Broken()))):
        with pytest.raises(ZeroDivisionError):
            use()


# ---- wrong types ----

class Nothing:
    """Of a type that no argument can take."""


def buffer_of(cache: kvc.Cache) -> kvc.Buffer:
    """As a cache on a device makes them."""
    made = object.__new__(kvc.Buffer)
    made.__dict__.update(_cache=cache, kind=kvc.BufferKind.BUFFER_PINNED, size=64, _memory=SimpleNamespace(address=1 << 20))
    return made


def methods_with_arguments() -> dict[str, dict[str, Any]]:
    """{Class.method or function: {argument: its default}} of all that is public; the compiled part says what is its own in its stub."""
    found: dict[str, dict[str, Any]] = {}
    plain = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    for owner in (kvc.Cache, kvc.Sequence, kvc.Graph, kvc.Buffer, kvc.Library):
        for name, method in inspect.getmembers(owner, inspect.isfunction):
            if not name.startswith("_"):
                found[f"{owner.__name__}.{name}"] = {a.name: a.default for a in inspect.signature(method).parameters.values() if a.kind in plain}
    for function in (kvc.plan, kvc.check_supported, kvc.Cache):
        found[function.__name__] = {a.name: a.default for a in inspect.signature(function).parameters.values() if a.kind in plain}
    stub = ast.parse((Path(kvc.__file__).parent / "_kvc.pyi").read_text())
    step = next(node for node in stub.body if isinstance(node, ast.ClassDef) and node.name == "Step")
    for method in step.body:
        if isinstance(method, ast.FunctionDef) and not method.name.startswith("_") and not method.decorator_list:
            names, optional = [a.arg for a in method.args.args], len(method.args.defaults)
            found[f"Step.{method.name}"] = {name: None if i >= len(names) - optional else inspect.Parameter.empty for i, name in enumerate(names)}
    found["Step.attend"] = {a.name: a.default for a in inspect.signature(kvc.Step.attend).parameters.values() if a.kind in plain}
    return {name: given for name, arguments in found.items() if (given := {n: d for n, d in arguments.items() if n != "self"})}


# Arguments that would do, by name; those of one method alone as "method.name".
ROW = np.empty((0, 4, 64), np.float32)
KEPT = np.empty((0, 2, 64), np.float32)
RIGHT = dict(sequences=[], counts=[1], positions=None, layer=0, head=0, part="keys", dim=64, first=0, count=0, length=0, end=0, budget=0,
             budget_bytes=0, tokens=np.zeros(1, np.int64), salt=b"", scores=None, clusters=np.zeros(1, np.int32), k=KEPT, v=KEPT, q=ROW, out=ROW,
             lse=None, options=None, accepted=None, snapshot=b"", path="never.written", size=64, kind=1, max_tokens=64, attends=0, slots=0,
             source=0, target=0, device=1, shape=(1,), dtype=kvc.Dtype.F32, codec="int4", policy="none", status=0, request={}, layers_differ=None,
             logits=None, frequencies=np.zeros(32), inexact=False)
RIGHT |= {"evict_keep.positions": np.zeros(1, np.int64), "save.sequences": [0]}
TRUTHS = {"inexact"}  # whatever is true or not


@pytest.mark.parametrize("name", sorted(methods_with_arguments()))
def test_every_argument_of_a_wrong_type_is_named(cache, name):
    method, sequence = name.split(".")[-1], cache.create_sequence()
    step = cache.step([cache.create_sequence()], [0])
    owners = dict(Cache=cache, Buffer=buffer_of(cache), Step=step, Library=kvc.default_library())
    call = getattr(owners[name.split(".")[0]], method) if "." in name else lambda **given: getattr(kvc, name)(**SHAPE, **given)
    arguments = methods_with_arguments()[name]
    right = {a: sequence if a == "sequence" else RIGHT.get(f"{method}.{a}", RIGHT[a]) for a in arguments}
    for argument, default in arguments.items():
        for wrong in [Nothing()] + ([None] if default is not None and RIGHT[argument if argument != "sequence" else "dim"] is not None else []):
            if argument in TRUTHS:
                continue
            with pytest.raises((TypeError, kvc.ArgumentError), match=rf"\b{argument}\b") as refused:
                call(**{**right, argument: wrong})
            assert "\n" not in str(refused.value), f"{name}: {argument}"


@pytest.mark.parametrize("struct, use", [
    ("kvc_options", lambda cache, given: kvc.Cache(**{**SHAPE, **given})), ("kvc_options", lambda cache, given: kvc.check_supported(**{**SHAPE, **given})),
    ("kvc_options", lambda cache, given: kvc.plan(request={}, **{**SHAPE, **given})), ("kvc_plan_request", lambda cache, given: kvc.plan(request=given, **SHAPE)),
    ("kvc_layer", lambda cache, given: kvc.Cache(layers_differ=[given] * 2, **SHAPE)), ("kvc_seq_options", lambda cache, given: cache.create_sequence(**given)),
    ("kvc_seq_options", lambda cache, given: cache.look_up_prefix(np.zeros(1, np.int64), **given)),
    ("kvc_step_options", lambda cache, given: cache.step([cache.create_sequence()], [1], **given)),
    ("kvc_attend_options", lambda cache, given: cache.step([cache.create_sequence()], [0]).attend(0, ROW, **given)),
    ("kvc_evict_options", lambda cache, given: cache.evict(cache.create_sequence(), **given)),
    ("kvc_merge_options", lambda cache, given: cache.merge(cache.create_sequence(), np.zeros(1, np.int32), **given)),
    ("kvc_step_down_options", lambda cache, given: cache.step_down(cache.create_sequence(), **given)),
    ("kvc_prefix_options", lambda cache, given: cache.publish_prefix(cache.create_sequence(), np.zeros(1, np.int64), **given)),
])
def test_every_field_of_a_wrong_type_is_named(cache, struct, use):
    for field in raw.structs()[struct]:
        with pytest.raises((TypeError, kvc.ArgumentError), match=rf"\b{field}\b") as refused:
            use(cache, {field: Nothing()})
        assert "\n" not in str(refused.value), field


# ---- operations ----

def test_what_the_binding_refuses_names_the_function_that_was_asked_for(cache, tmp_path):
    sequence, library, huge = cache.create_sequence(), kvc.default_library(), 1 << 70
    asked = {
        "seq_length": lambda: cache.length(huge), "seq_truncate": lambda: cache.truncate(sequence, huge), "seq_live": lambda: cache.live(sequence, huge, 0),
        "seq_positions": lambda: cache.positions(sequence, 0, huge), "seq_read_mass": lambda: cache.read_mass(huge, 0, 0),
        "step_begin": lambda: cache.step([sequence], [huge]), "step_commit": lambda: cache.step([sequence], [0]).commit([huge]),
        "append": lambda: cache.step([sequence], [0]).append(huge, KEPT, KEPT), "attend": lambda: cache.step([sequence], [0]).attend_into(huge, ROW, ROW),
        "codec_format": lambda: library.codec_format("a\0"), "policy_format": lambda: library.policy_format("a\0"),
        "device_count": lambda: library.devices(1 << 40), "status_name": lambda: library.status_name(1 << 40),
        "seq_read": lambda: cache.read(sequence, 0, 0, "kys", 64), "seq_read_codes": lambda: cache.read_codes(sequence, 0, 0, "kys", 64),
        "snapshot_load": lambda: cache.load("a\0b"), "snapshot_save": lambda: cache.save("a\0b"), "snapshot_export": lambda: cache.export([huge]),
        "snapshot_import": lambda: cache.import_(np.zeros((4, 4), np.uint8)[:, ::2]), "prefix_budget_set": lambda: cache.set_prefix_budget(huge),
        "buffer_create": lambda: cache.create_buffer(64, 7), "graph_create": lambda: cache.create_graph([huge], 64),
        "buffer_copy": lambda: buffer_of(cache).copy_to(-1, kvc.Device.CPU, 64), "view": lambda: buffer_of(cache).view((65,), 0x108),
        "create": lambda: kvc.Cache(arena_block=b"frozen", **SHAPE),
    }
    for operation, use in asked.items():
        with pytest.raises(kvc.ArgumentError) as refused:
            use()
        assert (refused.value.operation, refused.value.message.split(":")[0]) == (operation, operation)
    with pytest.raises(kvc.ArgumentError, match="step_begin: kv_dtype: int8 is not") as refused:
        cache.step([sequence], [1], kv_dtype="int8")
    assert refused.value.operation == "step_begin"
    with pytest.raises(kvc.ArgumentError) as refused:
        cache.read(sequence, 0, 9, "keys", 64, count=1 << 50)  # refused before room is made for it
    assert refused.value.operation == "seq_read"


@pytest.mark.parametrize("shape, dtype, words", [((-1, 5), 0x108, "below 0"), ((5,), 0x200, "dtype 512"), ((5,), -5, "dtype -5"), ((5,), 1 << 40, "dtype"),
                                                  ((64, 1 << 60), 0x108, "more than the 64 bytes")])
def test_views_of_nonsense_are_refused(cache, shape, dtype, words):
    with pytest.raises(kvc.ArgumentError, match=words):
        buffer_of(cache).view(shape, dtype)


def test_paths_are_the_systems(cache, tmp_path):
    held = [cache.create_sequence()]
    for path in (tmp_path / "path", str(tmp_path / "text"), os.fsencode(tmp_path / "bytes"), os.fsdecode(os.fsencode(tmp_path) + b"/\xff")):
        cache.save(path, held)
        assert len(cache.load(path)) == 1
    assert cache.check_snapshot(tmp_path / "path") == cache.check_snapshot(str(tmp_path / "text")) == 1
