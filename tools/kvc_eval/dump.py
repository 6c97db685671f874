"""Dumps: the queries, keys and values of a model's attention layers over one text, in a safetensors file.

Any engine can write one (docs/EVALUATION.md): per layer N, from 0,
    layers.N.q [tokens, q_heads, k_dim]     layers.N.k [tokens, kv_heads, k_dim]     layers.N.v [tokens, kv_heads, v_dim]
as F32, F16 or BF16, keys and queries as attention multiplies them (after RoPE and norms); metadata, all optional, each one value or one
per layer with commas: scale (default 1 / sqrt(k_dim)), soft_cap (0: none), sliding_window (tokens a query sees, itself included; 0: all).
"""
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, deserialize, safe_open
from safetensors.numpy import save_file

from .evaluate import Reader
from .model import Model
from .reference_cache import ReferenceCache

NAME = re.compile(r"layers\.(\d+)\.([qkv])")
LAYERS_LIMIT = 4096
METADATA = ("scale", "soft_cap", "sliding_window")


@dataclass(frozen=True)
class LayerDump:
    q: np.ndarray  # [tokens, q_heads, k_dim], fp32 like the others
    k: np.ndarray
    v: np.ndarray
    scale: float
    soft_cap: float = 0.0
    window: int = 0

    def options(self) -> dict:
        """The layer's shape as fields of kvc_layer."""
        return dict(kv_heads=self.k.shape[1], q_heads=self.q.shape[1], k_dim=self.k.shape[2], v_dim=self.v.shape[2],
                    sliding_window=self.window or -1)

    def fp16_bytes(self) -> int:
        return 2 * (self.k.size + self.v.size)


@dataclass(frozen=True)
class Dump:
    name: str
    layers: list[LayerDump]

    @property
    def tokens(self) -> int:
        return len(self.layers[0].q)

    def fp16_bytes(self) -> int:
        return sum(layer.fp16_bytes() for layer in self.layers)


def read_dump(path: str) -> Dump:
    """The dump in a file; whatever it lacks or has too much is a ValueError that names file and tensor."""
    if not Path(path).is_file():
        raise ValueError(f"{path}: there is no such file")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
        stored = dict(deserialize(Path(path).read_bytes()))
    except SafetensorError as fault:
        raise ValueError(f"{path}: not a safetensors file: {fault}") from fault
    places = {match.groups(): name for name in stored if (match := NAME.fullmatch(name))}
    count = 1 + max((int(layer) for layer, _ in places), default=-1)
    if not 1 <= count <= LAYERS_LIMIT:
        raise ValueError(f"{path}: {count} layers (1 .. {LAYERS_LIMIT}) named layers.N.q, layers.N.k and layers.N.v")
    unknown = sorted(set(stored) - set(places.values()))
    if unknown:
        raise ValueError(f"{path}: tensor {unknown[0]} is none of layers.N.q, layers.N.k, layers.N.v")
    settings = {name: _per_layer(path, metadata, name, count) for name in METADATA}
    layers = [_layer(path, number, stored, {name: values[number] for name, values in settings.items()}) for number in range(count)]
    lengths = {len(layer.q) for layer in layers}
    if len(lengths) > 1:
        raise ValueError(f"{path}: layers have {sorted(lengths)} tokens; all must have the same")
    return Dump(metadata.get("model", Path(path).name), layers)


def write_dump(path: str, dump: Dump) -> None:
    tensors = {f"layers.{number}.{part}": np.ascontiguousarray(getattr(layer, part))
               for number, layer in enumerate(dump.layers) for part in "qkv"}
    metadata = {"model": dump.name, "scale": ",".join(repr(float(layer.scale)) for layer in dump.layers),
                "soft_cap": ",".join(repr(float(layer.soft_cap)) for layer in dump.layers),
                "sliding_window": ",".join(str(layer.window) for layer in dump.layers)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path, metadata)


def dump_model(model: Model, tokens: np.ndarray, chunk: int) -> Dump:
    """What a model's attention sees while it reads these tokens with an exact cache."""
    cache = _RecordingCache(model.shape)
    reader = Reader(model, cache, [cache.create_sequence()])
    for first in range(0, len(tokens), chunk):
        reader.read([tokens[first:first + chunk]])
    scale = 1.0 / math.sqrt(model.shape.head_dim)
    return Dump(model.name, [LayerDump(*(np.concatenate(pieces) for pieces in zip(*parts)), scale, window=window)
                             for parts, window in zip(cache.seen, model.shape.windows)])


class _RecordingCache(ReferenceCache):
    """An exact cache that keeps what it is asked."""

    def __init__(self, shape):
        super().__init__(shape)
        self.seen: list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = [[] for _ in range(shape.layers)]

    def step(self, sequence_ids, counts):
        step = super().step(sequence_ids, counts)
        exact = step.attend

        def attend(layer, q, k, v):
            self.seen[layer].append((q.copy(), k.copy(), v.copy()))
            return exact(layer, q, k, v)

        step.attend = attend
        return step


def _per_layer(path: str, metadata: dict, name: str, count: int) -> list[float]:
    """One number for every layer; 0 where the metadata says nothing."""
    texts = metadata[name].split(",") if metadata.get(name) else ["0"]
    try:
        values = [float(text) for text in texts]
    except ValueError:
        raise ValueError(f"{path}: metadata {name} is {metadata[name]!r}, not numbers with commas") from None
    if len(values) not in (1, count):
        raise ValueError(f"{path}: metadata {name} has {len(values)} numbers for {count} layers; give one, or one each")
    if not all(math.isfinite(value) and value >= 0 for value in values):
        raise ValueError(f"{path}: metadata {name} is {metadata[name]!r}; every number must be finite and at least 0")
    if name == "sliding_window" and any(value != int(value) for value in values):
        raise ValueError(f"{path}: metadata {name} is {metadata[name]!r}; it counts tokens")
    return values * (count if len(values) == 1 else 1)


def _layer(path: str, number: int, stored: dict, settings: dict) -> LayerDump:
    q, k, v = (_tensor(path, f"layers.{number}.{part}", stored) for part in "qkv")
    where = f"{path}: layer {number}: q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
    if not len(q) == len(k) == len(v):
        raise ValueError(f"{where}: they must have the same number of tokens")
    if k.shape[1] != v.shape[1] or q.shape[2] != k.shape[2]:
        raise ValueError(f"{where}: k and v must have the same heads, q and k the same head dim")
    if q.shape[1] % k.shape[1]:
        raise ValueError(f"{where}: the query heads must be a multiple of the kv heads")
    return LayerDump(q, k, v, settings["scale"] or 1.0 / math.sqrt(q.shape[2]), settings["soft_cap"], int(settings["sliding_window"]))


def _tensor(path: str, name: str, stored: dict) -> np.ndarray:
    if name not in stored:
        raise ValueError(f"{path}: there is no tensor {name}")
    kind, shape, data = (stored[name][field] for field in ("dtype", "shape", "data"))
    if kind not in ("F32", "F16", "BF16"):
        raise ValueError(f"{path}: tensor {name} is {kind}; F32, F16 and BF16 are read")
    if len(shape) != 3 or 0 in shape:
        raise ValueError(f"{path}: tensor {name} has the shape {list(shape)}; it must be [tokens, heads, head dim], none of them 0")
    if kind == "BF16":
        numbers = (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        numbers = np.frombuffer(data, "<f4" if kind == "F32" else "<f2").astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{path}: tensor {name} holds numbers that are not finite, the first at index {int(np.argmin(np.isfinite(numbers)))}")
    return numbers.reshape(shape)
