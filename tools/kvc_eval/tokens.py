"""Tokenizers built from the vocabulary inside a GGUF file."""
import json

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

from .clone import download_folder
from .gguf_file import GgufFile

# Values of tokenizer.ggml.token_type.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6


class TextTokenizer:
    def __init__(self, file: GgufFile):
        builders = {"gpt2": _byte_level, "llama": _sentence_piece}
        kind = file.metadata["tokenizer.ggml.model"]
        if kind not in builders:
            raise ValueError(f"{file.path}: tokenizer {kind} is not one of {', '.join(builders)}")
        self._tokenizer = builders[kind](file)
        self.begin = file.metadata["tokenizer.ggml.bos_token_id"] if _adds_begin(file) else None
        self.end = file.metadata.get("tokenizer.ggml.eos_token_id")

    def encode(self, text: str) -> list[int]:
        """Token ids of a piece of text, without the begin token."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: list[int]) -> str:
        return self._tokenizer.decode([int(token) for token in ids], skip_special_tokens=True)


def _adds_begin(file: GgufFile) -> bool:
    # llama.cpp's default where the GGUF says nothing: yes for SentencePiece vocabularies, no for byte-level ones.
    return bool(file.metadata.get("tokenizer.ggml.add_bos_token", file.metadata["tokenizer.ggml.model"] == "llama"))


def _byte_level(file: GgufFile) -> Tokenizer:
    """GPT-2's byte-level BPE, with the pre-tokenizer that the GGUF names."""
    pieces = file.metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in file.metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({piece: i for i, piece in enumerate(pieces)}, merges))
    splits = {
        "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)],
        "gpt-2": [pre_tokenizers.ByteLevel(add_prefix_space=False)],
    }
    name = file.metadata.get("tokenizer.ggml.pre", "gpt-2")
    if name not in splits:
        raise ValueError(f"{file.path}: pre-tokenizer {name} is not one of {', '.join(splits)}; pass --token-ids")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(splits[name])
    tokenizer.decoder = decoders.ByteLevel()
    _add_special(tokenizer, file)
    return tokenizer


def _sentence_piece(file: GgufFile) -> Tokenizer:
    """SentencePiece BPE: spaces become U+2581, unknown characters fall back to bytes.

    The GGUF has a score per piece and no merges; every way to split a piece into two pieces is a merge whose
    rank is the score of the piece. Finding them takes seconds for a large vocabulary, so the result is kept.
    """
    cached = download_folder() / f"tokenizer-{file.path.stem}-{len(file.metadata['tokenizer.ggml.tokens'])}.json"
    if cached.exists():
        return Tokenizer.from_str(cached.read_text(encoding="utf-8"))
    pieces = file.metadata["tokenizer.ggml.tokens"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    merges = _merges_from_scores(pieces, file.metadata["tokenizer.ggml.scores"], file.metadata["tokenizer.ggml.token_type"])
    unknown = pieces[file.metadata.get("tokenizer.ggml.unknown_token_id", 0)]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    steps = [normalizers.Replace(" ", "▁")]
    if file.metadata.get("tokenizer.ggml.add_space_prefix", True):
        steps.insert(0, normalizers.Prepend("▁"))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    _add_special(tokenizer, file)
    cached.write_text(tokenizer.to_str(), encoding="utf-8")
    return tokenizer


def _merges_from_scores(pieces: list[str], scores: list[float], kinds: list[int]) -> list[tuple[str, str]]:
    mergeable = {piece: i for i, piece in enumerate(pieces) if kinds[i] == NORMAL}
    order = sorted(mergeable, key=lambda piece: -scores[mergeable[piece]])
    merges = []
    for piece in order:
        splits = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))]
        known = [split for split in splits if split[0] in mergeable and split[1] in mergeable]
        merges += sorted(known, key=lambda split: (mergeable[split[0]], mergeable[split[1]]))
    return merges


def _add_special(tokenizer: Tokenizer, file: GgufFile) -> None:
    kinds = file.metadata["tokenizer.ggml.token_type"]
    for token, kind in zip(file.metadata["tokenizer.ggml.tokens"], kinds):
        if kind == CONTROL:
            tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False)])
        elif kind == USER_DEFINED:
            tokenizer.add_tokens([AddedToken(token, normalized=False)])
