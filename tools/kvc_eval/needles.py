"""Needles: facts hidden in a long text and asked for at its end.

A prompt hides eight sentences "The secret number of NAME is DDDDD" in about 1,400 tokens of the text and then
repeats them in another order. A digit counts as recalled if the model's likeliest token is that digit while it
reads the repetition (the true digits before it are given). Perplexity hardly notices what eviction loses; this does.
"""
from dataclasses import dataclass

import numpy as np

from .tokens import TextTokenizer

NAMES = "Alice Robert Maria Thomas Helen George Laura Peter Susan Martin Clara Hugo".split()
NEEDLES, DIGITS = 8, 5
HAYSTACK_TOKENS = 1400
FIRST_AT, LAST_BEFORE_END = 40, 60  # where needles may lie, in tokens from the start and from the end
NEEDLE_TOKENS = 14  # roughly, to account for needles in the haystack's length
SENTENCES_NEEDED = 400  # a haystack does not start among the text's last sentences
FIRST_SEED = 100


@dataclass(frozen=True)
class NeedlePrompt:
    tokens: np.ndarray
    answers: np.ndarray  # index of each digit of the repetition


def needle_prompts(text: str, tokenizer: TextTokenizer, count: int, haystack_tokens: int = HAYSTACK_TOKENS) -> list[NeedlePrompt]:
    """`count` prompts, or none if the text is too short to hide needles in."""
    sentences = text.replace("\n", " ").split(". ")
    prompts = [_prompt(sentences, tokenizer, np.random.RandomState(FIRST_SEED + i), haystack_tokens) for i in range(count)]
    return [] if any(prompt is None for prompt in prompts) else prompts


def _prompt(sentences: list[str], tokenizer: TextTokenizer, random: np.random.RandomState, haystack_tokens: int) -> NeedlePrompt | None:
    names = list(NAMES)
    random.shuffle(names)
    numbers = ["".join(str(digit) for digit in random.randint(0, 10, DIGITS)) for _ in range(NEEDLES)]
    facts = [f"The secret number of {name} is" for name in names[:NEEDLES]]
    start = random.randint(0, max(1, len(sentences) - SENTENCES_NEEDED))
    places = sorted(random.choice(np.arange(FIRST_AT, haystack_tokens - LAST_BEFORE_END), NEEDLES, replace=False))
    haystack, length, hidden = [], 0, 0
    for sentence in sentences[start:]:
        while hidden < NEEDLES and length >= places[hidden]:
            haystack.append(f"{facts[hidden]} {numbers[hidden]}")
            hidden, length = hidden + 1, length + NEEDLE_TOKENS
        haystack.append(sentence)
        length += len(tokenizer.encode(sentence + "."))
        if length > haystack_tokens:
            break
    if hidden < NEEDLES or length <= haystack_tokens:
        return None
    tokens = tokenizer.encode(". ".join(haystack) + ".\n\n")
    answers: list[int] = []
    for needle in random.permutation(NEEDLES):
        tokens += tokenizer.encode(" " + facts[needle]) + tokenizer.encode(" " + numbers[needle])
        answers += range(len(tokens) - DIGITS, len(tokens))
        tokens += tokenizer.encode(".")
    if tokenizer.begin is not None:
        tokens, answers = [tokenizer.begin, *tokens], [at + 1 for at in answers]
    return NeedlePrompt(np.array(tokens, np.int64), np.array(answers, np.int64))
