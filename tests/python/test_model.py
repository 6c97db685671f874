"""Tokenizer and forward pass of SmolLM2, on the GGUF file inside its package."""
import numpy as np
import pytest
from kvc_eval.gguf_file import GgufFile
from kvc_eval.known_models import gguf_path
from kvc_eval.model import load_model
from kvc_eval.needles import DIGITS, NEEDLES, needle_prompts
from kvc_eval.reference_cache import ReferenceCache
from kvc_eval.tokens import TextTokenizer

# The beginning of the default text and its ids as llama.cpp's tokenizer gives them: another implementation of the same vocabulary.
TITLE = "Persuasion\n\nby\n\nJane Austen\n\n(1818)"
TITLE_IDS = [25165, 101, 4574, 198, 198, 1717, 198, 198, 44611, 33015, 198, 198, 24, 33, 40, 33, 40, 25]


@pytest.fixture(scope="module")
def file():
    return GgufFile(gguf_path("smollm2"))


@pytest.fixture(scope="module")
def tokenizer(file):
    return TextTokenizer(file)


@pytest.fixture(scope="module")
def model(file):
    return load_model(file.path)


def test_digits_are_single_tokens_and_there_is_no_begin_token(tokenizer):
    assert tokenizer.begin is None
    assert [tokenizer.decode([token]) for token in tokenizer.encode("in 1815")] == ["in", " ", "1", "8", "1", "5"]


def test_ids_equal_those_of_another_tokenizer(tokenizer):
    assert tokenizer.encode(TITLE) == TITLE_IDS


@pytest.mark.parametrize("text", ["", "a", "  two  spaces\n\n", "naïve café — “quoted” 🙂", "don't 42"])
def test_decoding_gives_the_text_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_model_knows_what_follows(model, tokenizer):
    tokens = np.array(tokenizer.encode("The capital of France is"))
    cache = ReferenceCache(model.shape)
    with cache.step([cache.create_sequence()], [len(tokens)]) as step:
        hidden = model.forward(tokens, np.arange(len(tokens)), step.attend)
    assert tokenizer.decode([model.logits(hidden[-1:]).argmax()]) == " Paris"


def test_steps_and_batches_do_not_change_the_forward_pass(model, tokenizer):
    first, second = (np.array(tokenizer.encode(text)) for text in ("It is a truth universally acknowledged", "Call me Ishmael."))
    cache = ReferenceCache(model.shape)
    whole, one, two = (cache.create_sequence() for _ in range(3))
    with cache.step([whole], [len(first)]) as step:
        expected = model.forward(first, np.arange(len(first)), step.attend)
    with cache.step([one, two], [3, len(second)]) as step:
        tokens, positions = np.concatenate([first[:3], second]), np.concatenate([np.arange(3), np.arange(len(second))])
        start = model.forward(tokens, positions, step.attend)[:3]
    with cache.step([one], [len(first) - 3]) as step:
        rest = model.forward(first[3:], np.arange(3, len(first)), step.attend)
    np.testing.assert_allclose(np.concatenate([start, rest]), expected, atol=2e-3, rtol=2e-3)


def test_needle_prompts_hold_their_answers(tokenizer):
    text = ". ".join(f"Sentence {i} tells of nothing that matters to anybody at all" for i in range(500))
    prompts = needle_prompts(text, tokenizer, 2)
    assert len(prompts) == 2 and not np.array_equal(prompts[0].tokens, prompts[1].tokens)
    for prompt in prompts:
        numbers = tokenizer.decode(prompt.tokens[prompt.answers])
        assert len(numbers) == NEEDLES * DIGITS and numbers.isdigit()
        decoded = tokenizer.decode(prompt.tokens)
        for i in range(NEEDLES):
            assert decoded.count(f"is {numbers[i * DIGITS:(i + 1) * DIGITS]}.") == 2  # hidden once, asked for once


def test_a_short_text_hides_no_needles(tokenizer):
    assert needle_prompts("A short text. It ends here.", tokenizer, 1) == []
