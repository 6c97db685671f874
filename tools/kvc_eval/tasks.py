"""Tasks beyond predicting text, each as a prompt with tokens that a good cache lets the model know.

needles      five depths of a haystack hide two numbers each; one is asked for in the words that hid it, one in other words
copying      a list of keys and values without any haystack; every value is asked for by its key
summary      the exact model's own greedy continuation of "In short," after a text: tokens that a mode would write, too
A digit or token counts if it is the likeliest one while the right ones before it are given.
"""
from dataclasses import dataclass

import numpy as np

from .evaluate import Reader, open_mode
from .model import Model
from .modes import Mode
from .needles import NAMES
from .reference_cache import ReferenceCache
from .tokens import TextTokenizer

DEPTHS = (0.1, 0.3, 0.5, 0.7, 0.9)
HIDDEN, LITERAL, PARAPHRASED = "The secret number of {} is {}", " The secret number of {} is", " The number that {} keeps secret is"
DIGITS = 5
PAIRS, PAIR_DIGITS = 20, 4
SUMMARY_CUE, SUMMARY_TOKENS, SUMMARY_TEXT = "\n\nIn short, the story so far is this:", 48, 600
SEED = 500
ROOM = 400  # tokens that questions and hidden sentences take besides the haystack


@dataclass(frozen=True)
class Question:
    task: str  # "literal", "paraphrased", "copying", "summary"
    depth: float | None
    answers: np.ndarray  # indices of tokens that should be known


@dataclass(frozen=True)
class TaskPrompt:
    length: int  # tokens of the haystack, which names its row of the grid
    tokens: np.ndarray
    questions: tuple[Question, ...]


def task_prompts(model: Model, text: str, tokenizer: TextTokenizer, lengths: list[int], chunk: int) -> list[TaskPrompt]:
    """One prompt of needles for every length, one of copying, one summary."""
    story = tokenizer.encode(text.replace("\n", " "))
    needed = max([SUMMARY_TEXT, *lengths])
    if max(lengths) + ROOM > model.context_length:
        raise ValueError(f"--tasks: the model reads {model.context_length} tokens, which leaves {model.context_length - ROOM} for a haystack")
    if len(story) < needed:
        raise ValueError(f"the text has {len(story)} tokens; tasks of this length need {needed}")
    prompts = [_needles(story, tokenizer, length, np.random.RandomState(SEED + number)) for number, length in enumerate(lengths)]
    return [*prompts, _copying(tokenizer, np.random.RandomState(SEED)), _summary(model, story, tokenizer, chunk)]


def add_tasks(model: Model, modes: list[Mode], prompts: list[TaskPrompt], reference: dict, results: list[dict], chunk: int, threads: int,
              progress) -> None:
    """Adds the figures of tasks to those of the reference and of every mode."""
    reference |= task_figures(prompts, read_tasks(model, open_reference(model, len(prompts)), prompts, chunk))
    progress(f"{'exact':<24} {_shares(reference)}")
    for mode, result in zip(modes, results):
        reader = open_mode(model, mode, [len(prompt.tokens) for prompt in prompts], threads)
        result |= task_figures(prompts, read_tasks(model, reader, prompts, chunk))
        reader.cache.close()
        progress(f"{mode.name:<24} {_shares(result)}")


def task_figures(prompts: list[TaskPrompt], known: list[np.ndarray]) -> dict:
    """known: per prompt, whether the token at each index was the likeliest. Shares per task, and of needles per length and depth."""
    shares: dict[str, list[np.ndarray]] = {}
    grid = []
    for prompt, right in zip(prompts, known):
        for question in prompt.questions:
            shares.setdefault(question.task, []).append(right[question.answers])
            if question.depth is not None:
                grid.append({"task": question.task, "length": prompt.length, "depth": question.depth,
                             "share": float(right[question.answers].mean())})
    return {"tasks": {task: float(np.concatenate(hits).mean()) for task, hits in shares.items()}, "grid": grid}


def read_tasks(model: Model, reader: Reader, prompts: list[TaskPrompt], chunk: int) -> list[np.ndarray]:
    """Reads all prompts side by side; per prompt and token, whether it was the likeliest after those before it."""
    known = [np.zeros(len(prompt.tokens), bool) for prompt in prompts]
    asked = [np.sort(np.concatenate([question.answers for question in prompt.questions])) for prompt in prompts]
    for first in range(0, max(len(prompt.tokens) for prompt in prompts), chunk):
        states = reader.read([prompt.tokens[first:first + chunk] for prompt in prompts])
        for number, (prompt, rows) in enumerate(zip(prompts, states)):
            here = asked[number][(asked[number] > first) & (asked[number] <= first + len(rows))]
            if len(here):  # the token at index i is predicted by the state of index i - 1
                known[number][here] = model.logits(rows[here - 1 - first]).argmax(-1) == prompt.tokens[here]
    return known


def open_reference(model: Model, sequences: int) -> Reader:
    cache = ReferenceCache(model.shape)
    return Reader(model, cache, [cache.create_sequence() for _ in range(sequences)])


def _shares(figures: dict) -> str:
    return "  ".join(f"{task} {share:.3f}" for task, share in figures["tasks"].items())


def _begin(tokenizer: TextTokenizer) -> list[int]:
    return [] if tokenizer.begin is None else [tokenizer.begin]


def _needles(story: list[int], tokenizer: TextTokenizer, length: int, random: np.random.RandomState) -> TaskPrompt:
    names, numbers = _names(random, 2 * len(DEPTHS)), _numbers(random, 2 * len(DEPTHS), DIGITS)
    start = random.randint(0, len(story) - length + 1)
    tokens, at = _begin(tokenizer), 0
    for place, depth in enumerate(DEPTHS):
        tokens += story[start + at:start + int(depth * length)]
        at = int(depth * length)
        for which in (2 * place, 2 * place + 1):
            tokens += tokenizer.encode(". " + HIDDEN.format(names[which], numbers[which]) + ".")
    tokens += story[start + at:start + length] + tokenizer.encode(".\n\n")
    questions = []
    for which in random.permutation(len(names)):
        task, words = ("literal", LITERAL) if which % 2 == 0 else ("paraphrased", PARAPHRASED)
        tokens += tokenizer.encode(words.format(names[which])) + tokenizer.encode(" " + numbers[which])
        questions.append(Question(task, DEPTHS[which // 2], np.arange(len(tokens) - DIGITS, len(tokens))))
        tokens += tokenizer.encode(".")
    return TaskPrompt(length, np.array(tokens, np.int64), tuple(questions))


def _copying(tokenizer: TextTokenizer, random: np.random.RandomState) -> TaskPrompt:
    keys, values = _numbers(random, PAIRS, 3), _numbers(random, PAIRS, PAIR_DIGITS)
    tokens = _begin(tokenizer)
    for key, value in zip(keys, values):
        tokens += tokenizer.encode(f"item {key} has the price {value};\n")
    length, answers = len(tokens), []
    for which in random.permutation(PAIRS):
        tokens += tokenizer.encode(f"item {keys[which]} has the price") + tokenizer.encode(" " + values[which])
        answers.append(np.arange(len(tokens) - PAIR_DIGITS, len(tokens)))
        tokens += tokenizer.encode(";\n")
    return TaskPrompt(length, np.array(tokens, np.int64), (Question("copying", None, np.concatenate(answers)),))


def _summary(model: Model, story: list[int], tokenizer: TextTokenizer, chunk: int) -> TaskPrompt:
    """What the exact model writes by itself, greedily."""
    tokens = np.array([*_begin(tokenizer), *story[:SUMMARY_TEXT], *tokenizer.encode(SUMMARY_CUE)], np.int64)
    reader, length = open_reference(model, 1), len(tokens)
    for first in range(0, length, chunk):
        state = reader.read([tokens[first:first + chunk]])[0][-1:]
    written = []
    for _ in range(SUMMARY_TOKENS):
        written.append(int(model.logits(state).argmax()))
        state = reader.read([np.array(written[-1:])])[0]
    tokens = np.concatenate([tokens, np.array(written, np.int64)])
    return TaskPrompt(length, tokens, (Question("summary", None, np.arange(length, len(tokens))),))


def _names(random: np.random.RandomState, count: int) -> list[str]:
    names = list(NAMES)
    random.shuffle(names)
    return names[:count]


def _numbers(random: np.random.RandomState, count: int, digits: int) -> list[str]:
    """Different numbers, none with a leading zero."""
    return [str(number) for number in random.choice(9 * 10 ** (digits - 1), count, replace=False) + 10 ** (digits - 1)]
