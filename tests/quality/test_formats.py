"""Records built from docs/FORMATS.md alone have the digests that tests/kernels/golden.cpp demands of every kernel target."""

import pathlib
import re

import numpy as np
import pytest

import formats_witness

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "kernels" / "golden.cpp"
ROW = re.compile(r'\{"([^"]+)", (\d+), (\d+), (0x[0-9a-f]+)u, (0x[0-9a-f]+u|0)\}')
ROWS = [(m[1], int(m[2]), int(m[3]), int(m[4], 16), int(m[5].rstrip("u"), 16)) for m in ROW.finditer(GOLDEN.read_text())]


def page_numbers(dim: int, seed: int) -> np.ndarray:
    """The inputs of golden.cpp: sums of four numbers of a linear congruential generator, by 2^-9."""
    x = np.empty(64 * dim, np.float32)
    state = seed
    for i in range(x.size):
        total = 0
        for _ in range(4):
            state = (state * 1664525 + 1013904223) % 2**32
            total += (state >> 22) - 512
        x[i] = np.float32(total) / np.float32(512) + np.float32(3 if i % dim % 7 == 2 else 0)
    return x.reshape(64, dim)


def digest(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return value


def test_the_golden_rows_are_found():
    assert len(ROWS) >= 16
    assert set(formats_witness.PRESETS) <= {row[0] for row in ROWS}


@pytest.mark.parametrize("codec, k_dim, v_dim, window_digest, codes_digest", ROWS)
def test_records_follow_from_the_text(codec, k_dim, v_dim, window_digest, codes_digest):
    window, codes = formats_witness.records(codec, page_numbers(k_dim, 1), page_numbers(v_dim, 2))
    assert digest(window) == window_digest
    if codes_digest:
        assert digest(codes) == codes_digest
