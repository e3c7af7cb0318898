"""Sharing a question's context changes no score."""

from typing import Any

import pytest
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM

from tasks.chat import Chat
from tasks.evaluate import scorer
from tests.project import Project

Requests = list[scorer.Request]


@pytest.fixture(scope="module")
def model(project: Project) -> Any:
    return AutoModelForCausalLM.from_pretrained(project.root / "models/base").float().eval()


@pytest.fixture
def requests(chat: Chat) -> Requests:
    """Questions with choices of different lengths, one of one token, some equal in their beginning."""
    choices = ["yes", "no", "It rained in the night.", "It rained in the morning, and then the sun came out."]
    return [
        (("", choice), chat.encode(chat.prompt(f"Why was the road wet on day {day}?" * day)), chat.encode(choice))
        for day in (1, 2, 3)
        for choice in choices
    ]


def test_scores_equal_those_of_lm_eval(model: Any, chat: Chat, requests: Requests) -> None:
    stock = HFLM(pretrained=model, tokenizer=chat.tokenizer, batch_size=1, add_bos_token=False)
    expected = stock._loglikelihood_tokens(requests, disable_tqdm=True)
    found = scorer.Scorer(model, chat.tokenizer, 1)._loglikelihood_tokens(requests)
    assert [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-4)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_a_question_s_score_does_not_depend_on_the_others(model: Any, chat: Chat, requests: Requests) -> None:
    own = scorer.Scorer(model, chat.tokenizer, 1)
    together = own._loglikelihood_tokens(requests)
    alone = own._loglikelihood_tokens(requests[4:8])
    assert [score for score, _ in alone] == pytest.approx([score for score, _ in together[4:8]], abs=1e-4)


def test_the_order_of_choices_changes_no_score(model: Any, chat: Chat, requests: Requests) -> None:
    own = scorer.Scorer(model, chat.tokenizer, 1)
    forwards, backwards = own._loglikelihood_tokens(requests[:4]), own._loglikelihood_tokens(requests[:4][::-1])
    assert [score for score, _ in backwards[::-1]] == pytest.approx([score for score, _ in forwards], abs=1e-4)


def test_a_context_is_computed_once(requests: Requests) -> None:
    questions = scorer.group(requests, max_length=1024)
    assert [len(question.choices) for question in questions] == [4, 4, 4]


def test_a_context_that_is_too_long_loses_its_beginning(requests: Requests) -> None:
    [question] = scorer.group(requests[:1], max_length=10)
    assert question.context == requests[0][1][-(10 - len(requests[0][2])) :]


def test_batches_hold_every_question_once(requests: Requests) -> None:
    questions = scorer.group(requests, max_length=1024)
    batched = [question for batch in scorer.batches(questions) for question in batch]
    assert sorted(place for question in batched for place in question.places) == list(range(len(requests)))
