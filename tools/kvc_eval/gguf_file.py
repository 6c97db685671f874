"""A GGUF file as metadata and fp32 tensors.

Reading the header of a model with 262,144 vocabulary entries takes the gguf package 14 seconds, so the
parsed header is kept as an index beside the downloads; the weights themselves stay in the GGUF.
"""
import hashlib
import json
import os
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize

from .clone import download_folder

INDEX_VERSION = 1


class GgufFile:
    def __init__(self, path: str | Path):
        self.path = Path(path).resolve()
        index = _load_index(self.path)
        self.metadata: dict = index["metadata"]
        self._tensors: dict = index["tensors"]
        self._bytes = np.memmap(self.path, np.uint8, "r")

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def tensor(self, name: str) -> np.ndarray:
        """The tensor in fp32, row-major, outermost dimension first."""
        if name not in self._tensors:
            raise KeyError(f"{self.path}: no tensor {name}")
        entry = self._tensors[name]
        raw = self._bytes[entry["offset"]:entry["offset"] + entry["bytes"]]
        kind = gguf.GGMLQuantizationType(entry["type"])
        if kind == gguf.GGMLQuantizationType.F32:
            values = raw.view(np.float32)
        elif kind == gguf.GGMLQuantizationType.F16:
            values = raw.view(np.float16).astype(np.float32)
        else:
            # One row of blocks per row of the tensor, which is what the dequantizers expect.
            values = dequantize(raw.reshape(-1, entry["bytes"] // max(1, _rows(entry["shape"]))), kind)
        return np.ascontiguousarray(values, np.float32).reshape(entry["shape"])

    def architecture(self) -> str:
        return self.metadata["general.architecture"]

    def parameter(self, name: str, default=None):
        """A metadata value below the architecture's name, such as block_count."""
        key = f"{self.architecture()}.{name}"
        if key in self.metadata:
            return self.metadata[key]
        if default is None:
            raise KeyError(f"{self.path}: no metadata {key}")
        return default


def _rows(shape: list[int]) -> int:
    return int(np.prod(shape[:-1], dtype=np.int64))


def _load_index(path: Path) -> dict:
    info = path.stat()
    identity = f"{INDEX_VERSION}:{path}:{info.st_size}:{info.st_mtime_ns}"
    index_path = download_folder() / f"gguf-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.json"
    if index_path.exists():
        return json.loads(index_path.read_text())
    index = _parse_index(path)
    partial = index_path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(index))
    partial.replace(index_path)
    return index


def _parse_index(path: Path) -> dict:
    reader = gguf.GGUFReader(path)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {
        tensor.name: {
            "shape": [int(size) for size in tensor.shape[::-1]],
            "type": int(tensor.tensor_type),
            "offset": int(tensor.data_offset),
            "bytes": int(tensor.n_bytes),
        }
        for tensor in reader.tensors
    }
    return {"metadata": metadata, "tensors": tensors}
