"""docs/FORMATS.md once more, in numpy: it shares no code with the library, so records that agree prove the text complete.

float32 arithmetic of numpy is IEEE's, one rounding per operation, as the text asks.
"""

import dataclasses

import numpy as np

F = np.float32
LANES = 8
PAGE = 64
GAUSSIAN_STEP = {2: F(0.9957), 3: F(0.5860), 4: F(0.3352), 8: F(0.0308)}
PRESETS = {
    "fp16": "k=f16,v=f16,window=0,sinks=0",
    "bf16": "k=bf16,v=bf16,window=0,sinks=0",
    "int8": "k=int8.ch.g32.m8,v=int8.tok.rot.sym,window=64,sinks=4",
    "int4": "k=int4.ch.g32.m8,v=int4.tok.rot.sym,window=128,sinks=4",
    "int3": "k=int3.ch.g32.m8,v=int3.tok.rot.ls,window=128,sinks=4",
    "k3v2": "k=int3.ch.g32.m8,v=int2.tok.rot.ls,window=128,sinks=4",
    "int2": "k=int2.ch.g32.m8.clip0.9,v=int2.tok.rot.ls,window=128,sinks=4",
    "kivi4": "k=int4.ch.g32,v=int4.tok.g32,window=128,sinks=0",
    "kivi2": "k=int2.ch.g32,v=int2.tok.g32,window=128,sinks=0",
}


@dataclasses.dataclass
class Part:
    """One part of a codec string."""

    bits: int
    axis: str = ""
    group: int = 0
    rotated: bool = False
    fit: str = "minmax"
    m8: bool = False
    clip: F = F(1)
    bf16: bool = False

    @property
    def last(self) -> int:
        return 2**self.bits - 1

    @property
    def middle(self) -> F:
        return {"minmax": F(0), "sym": F(2 ** (self.bits - 1)), "ls": F(self.last) / F(2)}[self.fit]


def parse_part(text: str) -> Part:
    words = text.replace("clip0.", "clip0_").split(".")
    if words[0] in ("f16", "bf16"):
        return Part(16, bf16=words[0] == "bf16")
    part = Part(int(words[0][3:]))
    for word in words[1:]:
        if word in ("ch", "tok"):
            part.axis = word
        elif word == "rot":
            part.rotated = True
        elif word in ("sym", "ls"):
            part.fit = word
        elif word == "m8":
            part.m8 = True
        elif word.startswith("clip0_"):
            part.clip = F(int(word[6:].ljust(3, "0"))) / F(1000)
        else:
            part.group = int(word[1:])
    if part.axis == "ch" and not part.group:
        part.group = 32
    return part


def parse(codec: str) -> tuple[Part, Part]:
    fields = dict(field.split("=") for field in PRESETS.get(codec, codec).split(","))
    return parse_part(fields["k"]), parse_part(fields["v"])


# ---- section 2 ----


def lane_sum(terms: np.ndarray) -> np.ndarray:
    """Sums over the last axis."""
    lanes = np.zeros(terms.shape[:-1] + (LANES,), F)
    for i in range(0, terms.shape[-1], LANES):
        lanes = lanes + terms[..., i : i + LANES]
    half = lanes[..., :4] + lanes[..., 4:]
    return (half[..., 0] + half[..., 2]) + (half[..., 1] + half[..., 3])


def fp16(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float16)


def stored_scale(x: np.ndarray) -> np.ndarray:
    return np.maximum(fp16(np.minimum(x, F(65504))), np.float16(2**-24))


# ---- section 3 ----


def rotate(x: np.ndarray) -> np.ndarray:
    block = x.shape[-1] & -x.shape[-1]
    index = np.arange(block)
    y = x.reshape(-1, block).copy()
    distance = 1
    while distance < block:
        lower = index[(index & distance) == 0]
        a, b = y[:, lower], y[:, lower + distance]
        y[:, lower], y[:, lower + distance] = a + b, a - b
        distance *= 2
    norm = {16: "0x1p-2", 32: "0x1.6a09e6p-3", 64: "0x1p-3", 128: "0x1.6a09e6p-4", 256: "0x1p-4"}[block]
    return (y * F(float.fromhex(norm))).reshape(x.shape)


# ---- section 4 ----


def round_code(place: np.ndarray, part: Part) -> np.ndarray:
    return np.clip(np.rint(place), F(0), F(part.last))


def code(x: np.ndarray, zero: np.ndarray, scale: np.ndarray, part: Part) -> np.ndarray:
    return round_code((x - zero) / scale + part.middle, part).astype(np.uint8)


def wanted_range(low: np.ndarray, high: np.ndarray, part: Part) -> tuple[np.ndarray, np.ndarray]:
    if part.fit == "sym":
        return np.maximum(high, -low) * part.clip / F(2 ** (part.bits - 1) - 1), np.zeros_like(low)
    if part.clip < 1:
        middle, half = (low + high) * F(0.5), ((high - low) * F(0.5)) * part.clip
        low, high = middle - half, middle + half
    return (high - low) / F(part.last), low + F(0)


def least_squares_scale(x: np.ndarray, part: Part) -> np.ndarray:
    """x: [groups, n]."""
    rms = np.sqrt(lane_sum(x * x) / F(x.shape[1]))
    s = np.where(rms == 0, F(1), rms * GAUSSIAN_STEP[part.bits])
    for _ in range(3):
        inverse = F(1) / s
        level = round_code(x * inverse[:, None] + part.middle, part) - part.middle
        s = np.maximum(lane_sum(x * level) / lane_sum(level * level), F(2**-24))
    return np.where(rms == 0, np.float16(0), stored_scale(s))


def encode_channels(x: np.ndarray, part: Part) -> tuple[np.ndarray, bytes, bytes]:
    codes, scales, zeros, supers = [], [], [], b""
    for tile in x.reshape(PAGE // part.group, part.group, -1):
        scale, zero = wanted_range(tile.min(0), tile.max(0), part)
        if part.m8:
            unit, zero_unit = stored_scale(scale.max() / F(255)), stored_scale(np.abs(zero).max() / F(127))
            multiple = np.clip(np.ceil(scale / F(unit) - F(0.25)), 1, 255)
            point = np.clip(np.rint(zero / F(zero_unit)), -127, 127)
            scales.append(multiple.astype(np.uint8))
            zeros.append(point.astype(np.int8))
            supers += unit.tobytes() + zero_unit.tobytes()
            scale, zero = multiple.astype(F) * F(unit), point.astype(F) * F(zero_unit)
        else:
            scales.append(stored_scale(scale))
            zeros.append(fp16(zero))
            scale, zero = scales[-1].astype(F), zeros[-1].astype(F)
        codes.append(code(tile, zero, scale, part))
    meta = np.stack(scales).tobytes() + (np.stack(zeros).tobytes() if part.fit == "minmax" else b"")
    return np.concatenate(codes), meta, supers


def encode_tokens(x: np.ndarray, part: Part) -> tuple[np.ndarray, bytes, bytes]:
    n = part.group or x.shape[1]
    groups = np.ascontiguousarray(x.reshape(PAGE, -1, n).transpose(1, 0, 2))  # [dim / n][64][n]
    flat = groups.reshape(-1, n)
    if part.fit == "ls":
        scale, zero = least_squares_scale(flat, part), np.zeros(len(flat), np.float16)
    else:
        scale, zero = wanted_range(flat.min(1), flat.max(1), part)
        scale, zero = stored_scale(scale), fp16(zero)
    divisor = np.where(scale == 0, F(1), scale.astype(F))
    codes = code(flat, zero.astype(F)[:, None], divisor[:, None], part)
    codes = codes.reshape(groups.shape).transpose(1, 0, 2).reshape(x.shape)
    return codes, scale.tobytes() + (zero.tobytes() if part.fit == "minmax" else b""), b""


# ---- section 5 ----


def sixteen_bits(x: np.ndarray, bf16: bool) -> np.ndarray:
    if not bf16:
        return fp16(x).view(np.uint16)
    bits = x.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def window_keys(numbers: np.ndarray) -> bytes:
    return np.ascontiguousarray(numbers.reshape(4, 16, -1).transpose(0, 2, 1)).tobytes()


def key_place(bits: int, dim: int, t: int, d: int) -> tuple[int, int]:
    tb, dq = t // 16, d // 4
    block, position = {
        8: (((tb // 2) * (dim // 4) + dq) * 2 + tb % 2, 0),
        4: ((tb // 2) * (dim // 4) + dq, tb % 2 * 4),
        2: (dq, tb * 2),
        1: (dq // 2, dq % 2 * 4 + tb),
    }[bits]
    return block * 64 + t % 16 * 4 + d % 4, position


def value_place(bits: int, dim: int, t: int, d: int) -> tuple[int, int]:
    dt, tq, units = d // 16, t // 4, 8 // bits
    return (dt * 2 * bits + tq // units) * 64 + d % 16 * 4 + t % 4, tq % units * bits


def plane(codes: np.ndarray, bits: int, place) -> bytes:
    dim = codes.shape[1]
    out = np.zeros(PAGE * dim * bits // 8, np.uint8)
    for t in range(PAGE):
        for d in range(dim):
            at, position = place(bits, dim, t, d)
            out[at] |= (int(codes[t, d]) & (2**bits - 1)) << position
    return out.tobytes()


def pack(codes: np.ndarray, bits: int, place) -> bytes:
    if bits == 3:
        return plane(codes & 3, 2, place) + plane(codes >> 2, 1, place)
    return plane(codes, bits, place)


def records(codec: str, k: np.ndarray, v: np.ndarray) -> tuple[bytes, bytes]:
    """The window record and the code record of 64 tokens; k, v: float32 [64, dim]."""
    k_part, v_part = parse(codec)
    k16 = sixteen_bits(rotate(k) if k_part.rotated else k, k_part.bf16)
    v16 = sixteen_bits(rotate(v) if v_part.rotated else v, v_part.bf16)
    window = window_keys(k16) + v16.tobytes()
    if k_part.bits == 16 and v_part.bits == 16:
        return window, window
    coded = []
    for numbers, part, place, raw in ((k16, k_part, key_place, window_keys), (v16, v_part, value_place, np.ndarray.tobytes)):
        if part.bits == 16:
            coded.append((raw(numbers), b"", b""))
            continue
        x = numbers.view(np.float16).astype(F)
        codes, meta, supers = (encode_channels if part.axis == "ch" else encode_tokens)(x, part)
        coded.append((pack(codes, part.bits, place), meta, supers))
    record = b"".join(part[i] for i in range(3) for part in coded)
    return window, record + bytes(-len(record) % 128)
