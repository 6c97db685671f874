"""Tasks: prompts that hold their answers, and shares that count what was known."""
import numpy as np
import pytest
from kvc_eval.modes import parse_mode
from kvc_eval.arguments import parse_lengths
from kvc_eval.tasks import DEPTHS, DIGITS, PAIR_DIGITS, PAIRS, SUMMARY_TOKENS, add_tasks, task_figures, task_prompts
from toy_model import Characters, ToyModel

TEXT = "It was a bright cold day in April and the clocks were striking. " * 40
LENGTHS = [200, 500]


@pytest.fixture(scope="module")
def model():
    return ToyModel()


@pytest.fixture(scope="module")
def prompts(model):
    return task_prompts(model, TEXT, Characters(), LENGTHS, 128)


def test_needles_lie_at_their_depths_and_are_asked_for_once(prompts):
    for prompt, length in zip(prompts, LENGTHS):
        text = Characters().decode(prompt.tokens)
        assert prompt.length == length and len(prompt.questions) == 2 * len(DEPTHS)
        haystack = text[:text.index(".\n\n")]
        filler = 0
        for question in prompt.questions:
            number = "".join(text[i] for i in question.answers)
            assert len(number) == DIGITS and number.isdigit() and text.count(number) == 2
            asked = text[:question.answers[0]].rsplit(".", 1)[1]
            assert ("secret number of" in asked) == (question.task == "literal") and ("keeps secret" in asked) == (question.task == "paraphrased")
            filler += len(f". The secret number of {haystack[:haystack.index(number)].rsplit(' ', 3)[1]} is {number}.")
        assert len(haystack) == length + filler
        depths = [question.depth for question in prompt.questions]
        assert sorted(depths) == sorted(2 * DEPTHS)
        places = {question.depth: haystack.index("".join(text[i] for i in question.answers)) / len(haystack) for question in prompt.questions}
        for depth, place in places.items():
            assert abs(place - depth) < 0.2


def test_pairs_are_copied_and_the_summary_is_the_model_s_own(model, prompts):
    copying, summary = prompts[-2:]
    text = Characters().decode(copying.tokens)
    (question,) = copying.questions
    values = ["".join(text[i] for i in question.answers[n:n + PAIR_DIGITS]) for n in range(0, PAIRS * PAIR_DIGITS, PAIR_DIGITS)]
    assert len(values) == PAIRS and all(value.isdigit() and text.count(f"has the price {value};") == 2 for value in values)
    (question,) = summary.questions
    np.testing.assert_array_equal(question.answers, np.arange(summary.length, summary.length + SUMMARY_TOKENS))


def test_figures_of_modes(model, prompts):
    modes, reference, results, lines = [parse_mode(name) for name in ("fp16", "streaming:4+60")], {}, [{}, {}], []
    add_tasks(model, modes, prompts, reference, results, 128, 1, lines.append)
    assert reference["tasks"]["summary"] == 1.0  # it wrote it itself
    assert set(reference["tasks"]) == {"literal", "paraphrased", "copying", "summary"} and len(lines) == 3
    assert len(reference["grid"]) == len(LENGTHS) * len(DEPTHS) * 2
    assert results[0]["tasks"]["summary"] == 1.0 > results[1]["tasks"]["summary"]  # a window of 64 tokens writes something else


def test_shares_count_what_was_known(prompts):
    known = [np.zeros(len(prompt.tokens), bool) for prompt in prompts]
    assert set(task_figures(prompts, known)["tasks"].values()) == {0.0}
    question = prompts[0].questions[3]
    known[0][question.answers[:2]] = True
    figures = task_figures(prompts, known)
    assert figures["tasks"][question.task] == pytest.approx(2 / (DIGITS * len(DEPTHS) * len(LENGTHS)))
    hits = [cell for cell in figures["grid"] if cell["share"]]
    assert hits == [{"task": question.task, "length": LENGTHS[0], "depth": question.depth, "share": pytest.approx(2 / DIGITS)}]


@pytest.mark.parametrize("text", ["", "63", "512,", "a", "-512", "512,1.5", "0"])
def test_wrong_lengths(text):
    with pytest.raises(ValueError, match="--tasks"):
        parse_lengths(text)


def test_texts_and_contexts_that_are_too_short(model):
    assert parse_lengths("64,512") == [64, 512]
    with pytest.raises(ValueError, match="the text has"):
        task_prompts(model, TEXT, Characters(), [10 ** 6], 128)
    short = ToyModel()
    short.context_length = 600
    with pytest.raises(ValueError, match="leaves 200"):
        task_prompts(short, TEXT, Characters(), [201], 128)
