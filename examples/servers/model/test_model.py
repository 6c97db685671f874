"""The shared model library against kvc-eval's forward pass and tokenizer, and against itself under other batches and threads."""
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

sys.path[:0] = [str(Path(__file__).resolve().parents[3] / "tools"), str(Path(__file__).resolve().parent)]

from kvc_eval.gguf_file import GgufFile  # noqa: E402
from kvc_eval.known_models import gguf_path  # noqa: E402
from kvc_eval.llama import Llama  # noqa: E402
from kvc_eval.reference_cache import ReferenceCache  # noqa: E402
from kvc_eval.texts import READ, novel  # noqa: E402
from kvc_eval.tokens import TextTokenizer  # noqa: E402
from library import OUT, SmolLM  # noqa: E402

CHAT = "<|im_start|>user\nName three rivers of Europe.<|im_end|>\n<|im_start|>assistant\n"
TRICKY = [
    "", " ", "  ", "a  b", "a  ", "\n\n\n x", " \t\n", "don't we'll I'd they've 's 'S", "x='t", "12 345  6\u00bd\u00b2 7", "\u2167 and \u0663",
    "na\u00efve caf\u00e9 e\u0301", "\u4f60\u597d\uff0c\u4e16\u754c", "\u0645\u0631\u062d\u0628\u0627", "emoji \U0001F600\U0001F468\u200d\U0001F469", "\u00a0nbsp\u3000ideographic\u2028line",
    "<|im_start|>", "a<|im_end|>b", "<|im_end", "<<|im_start|>>", "<|endoftext|><|im_start|>", "tab\tand  \r\n mixed \x0b\x0c ", "_under__score---dash",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" * 40, " " * 700 + "x", "def f(x):\n        return x**2  # comment\n", "\u1680\u180e\u200b\ufeff", "\x1c\x1d\x1e\x1f\x85 x", "\x00\x01",
]


@pytest.fixture(scope="module")
def model():
    opened = SmolLM()
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def file():
    return GgufFile(gguf_path("smollm2"))


@pytest.fixture(scope="module")
def tokenizer(file):
    return TextTokenizer(file)


@pytest.fixture(scope="module")
def reference(file):
    return Llama(file)


@pytest.mark.parametrize("text", TRICKY)
def test_tricky_texts_become_the_same_tokens(model, tokenizer, text):
    assert model.encode(text.encode()) == tokenizer.encode(text)


def test_a_novel_becomes_the_same_tokens_and_comes_back(model, tokenizer):
    text = novel(READ)
    tokens = model.encode(text.encode())
    assert len(tokens) > 100_000
    assert tokens == tokenizer.encode(text)
    assert b"".join(model.pieces(tokens)).decode() == text


def test_text_beyond_the_prompt_bytes_never_fits(model):
    assert len(model.encode(b"\n" + b" " * 80)) == 1, "the longest piece"
    assert model.prompt_bytes == model.context * 81
    for piece in (b"\n" + b" " * 80, b"#" * 80, b" " * 64, b"a"):
        assert len(model.encode((piece * (model.prompt_bytes // len(piece) + 1))[:model.prompt_bytes + 1])) > model.context


def test_random_characters_become_the_same_tokens(model, tokenizer):
    numbers = np.random.default_rng(1)
    # Assigned characters alone: what the two Unicode tables, of different years, must agree on.
    codes = [c for c in range(0x20000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    for _ in range(300):
        text = "".join(chr(codes[i]) for i in numbers.integers(0, len(codes), 40)) + "".join(numbers.choice(list(" \n'ab1."), 40))
        assert model.encode(text.encode()) == tokenizer.encode(text), [hex(ord(c)) for c in text]


def test_a_stream_writes_whole_characters(model):
    text = "\u4f60\u597d \U0001F600\U0001F468\u200d\U0001F469 na\u00efve \U00012000"
    tokens = model.encode(text.encode())
    pieces = model.pieces(tokens)
    for piece in pieces:
        piece.decode()
    assert b"".join(pieces).decode() == text
    assert any(piece == b"" for piece in pieces[:-1])  # some token ended within a character
    cut = model.pieces(tokens[:-1])
    assert b"".join(cut).decode().endswith("\ufffd")
    assert b"".join(model.pieces([model.end])) == b""


def test_logits_are_those_of_the_reference(model, tokenizer, reference):
    tokens = np.array(tokenizer.encode(novel(READ))[:300])
    positions = np.arange(len(tokens))
    caches = [ReferenceCache(reference.shape) for _ in range(2)]
    steps = [cache.step([cache.create_sequence()], [len(tokens)]) for cache in caches]
    expected = reference.logits(reference.forward(tokens, positions, steps[0].attend))
    x = model.forward(tokens, positions, steps[1].attend)
    got = model.logits(x, list(range(len(tokens))))
    assert np.abs(got - expected).max() < 2e-3
    assert model.choose(x, list(range(len(tokens)))) == expected.argmax(-1).tolist()


def test_rows_do_not_depend_on_their_batch(model):
    """The same rows in batches of 1 .. 13 and all at once, on one thread and on three: the same bits at every output."""
    numbers, n = np.random.default_rng(2), 67
    tokens, positions = numbers.integers(0, model.vocabulary, n), numbers.integers(0, model.context, n)

    def attend(layer, q, k, v):  # of a row by itself
        return q * np.float32(0.3) + np.repeat(v, 3, axis=1) - np.repeat(k, 3, axis=1) * np.float32(0.1)

    whole = model.forward(tokens, positions, attend)
    logits, chosen = model.logits(whole, list(range(n))), model.choose(whole, list(range(n)))
    threaded = SmolLM(threads=2)
    try:
        assert threaded.forward(tokens, positions, attend).tobytes() == whole.tobytes()
        assert threaded.logits(whole, list(range(n))).tobytes() == logits.tobytes()
    finally:
        threaded.close()
    assert chosen == logits.argmax(-1).tolist()
    at = 0
    for size in [1, 2, 3, 4, 5, 6, 7, 8, 13, 1, 12]:
        rows = slice(at, min(n, at + size))
        part = model.forward(tokens[rows], positions[rows], attend)
        assert part.tobytes() == whole[rows].tobytes(), size
        assert model.logits(part, [len(part) - 1]).tobytes() == logits[rows.stop - 1:rows.stop].tobytes()
        at = rows.stop
    assert at > 60


def test_greedy_text_is_that_of_the_reference(model, tokenizer, reference):
    prompt = tokenizer.encode(CHAT)
    cache = ReferenceCache(reference.shape)
    sequence = cache.create_sequence()
    tokens, written, at = prompt, [], 0
    while len(written) < 40:
        with cache.step([sequence], [len(tokens)]) as step:
            hidden = reference.forward(np.array(tokens), np.arange(at, at + len(tokens)), step.attend)
        at += len(tokens)
        tokens = [int(reference.logits(hidden[-1:]).argmax())]
        if tokens[0] == tokenizer.end:
            break
        written += tokens
    command = [str(OUT / "generate"), "--model", str(OUT / "model"), "--mode", "fp16", "--max-tokens", "40"]
    text = subprocess.run(command, input=CHAT.encode(), capture_output=True, check=True).stdout.decode()
    assert text == tokenizer.decode(written)
    assert len(text) > 40


def test_values_out_of_range_are_refused(model):
    x, one = np.zeros((1, model.width), np.float32), np.zeros(1, np.int64)
    q = np.zeros((1, model.q_heads, model.head_dim), np.float32)
    for token in (-1, model.vocabulary):
        assert model.call("smollm_embed", np.array([token], np.int64), 1, x) == -1
    for layer, position in ((-1, 0), (model.layers, 0), (0, -1), (0, model.context)):
        assert model.call("smollm_project", layer, x, np.array([position], np.int64), 1, q, q, q) == -1
    assert model.call("smollm_mix", model.layers, x, q, 1) == -1
    assert model.call("smollm_choose", x, np.array([-1], np.int64), 1, one) == -1
    assert model.call("smollm_encode", None, 1, one, 1) == -1
    assert model.call("smollm_text", model.vocabulary, np.zeros(8, np.uint8), np.zeros(1024, np.uint8), 1024) == -1
    assert model.call("smollm_text", 20, np.zeros(8, np.uint8), np.zeros(1024, np.uint8), 1023) == -1


def test_damaged_files_are_refused(tmp_path):
    with pytest.raises(OSError, match="cannot read .*weights.bin"):
        SmolLM(folder=tmp_path)
    for name in ("weights.bin", "tokens.bin"):
        for other in ("weights.bin", "tokens.bin"):
            (tmp_path / other).unlink(missing_ok=True)
            (tmp_path / other).symlink_to(OUT / "model" / other)
        (tmp_path / name).unlink()
        for damage in ("shortened", "other", "empty"):
            shutil.copyfile(OUT / "model" / name, tmp_path / name)
            with (tmp_path / name).open("r+b") as damaged:
                if damage == "other":
                    damaged.write(b"another1")
                else:
                    damaged.truncate(0 if damage == "empty" else (tmp_path / name).stat().st_size - 64)
            with pytest.raises(OSError, match=name):
                SmolLM(folder=tmp_path)
