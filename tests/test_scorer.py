"""Sharing what requests have in common changes no score."""

import random
from typing import Any

import pytest
import torch
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, MistralConfig, MistralForCausalLM
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tasks import norm
from tasks.chat import Chat
from tasks.errors import UserError
from tasks.evaluate import layout, packed, scorer
from tests import tiny
from tests.project import Project

Requests = list[layout.Request]


@pytest.fixture(scope="module")
def model(project: Project) -> Any:
    return tiny.attentive(AutoModelForCausalLM.from_pretrained(project.root / "models/base").float().eval())


@pytest.fixture
def requests(chat: Chat) -> Requests:
    """Questions with choices of different lengths, one of one token, some equal in their beginning."""
    choices = ["yes", "no", "It rained in the night.", "It rained in the morning, and then the sun came out."]
    return [
        (("", choice), chat.encode(chat.prompt(f"Why was the road wet on day {day}?" * day)), chat.encode(choice))
        for day in (1, 2, 3)
        for choice in choices
    ]


def random_requests(*lengths: int, shared: list[int] | None = None) -> Requests:
    """Three choices for contexts of these lengths, behind `shared`."""
    draw = random.Random(5)
    ids = lambda count: [draw.randrange(3, 600) for _ in range(count)]  # noqa: E731
    contexts = [(shared or []) + ids(length) for length in lengths]
    return [(("", ""), context, ids(size)) for context in contexts for size in (1, 4, 9)]


def stock(model: Any, tokenizer: Any, requests: Requests) -> list[tuple[float, bool]]:
    own = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=1, add_bos_token=False)
    scored: list[tuple[float, bool]] = own._loglikelihood_tokens(requests, disable_tqdm=True)
    return scored


def same_as_stock(model: Any, tokenizer: Any, requests: Requests) -> bool:
    expected = stock(model, tokenizer, requests)
    found = scorer.Scorer(model, tokenizer, 1)._loglikelihood_tokens(requests)
    close = [score for score, _ in found] == pytest.approx([score for score, _ in expected], abs=1e-3)
    return close and [greedy for _, greedy in found] == [greedy for _, greedy in expected]


def test_scores_equal_those_of_lm_eval(model: Any, chat: Chat, requests: Requests) -> None:
    assert same_as_stock(model, chat.tokenizer, [*requests, *random_requests(1, 2, 129, 300)])


def test_scores_behind_exemplars_equal_those_of_lm_eval(model: Any, chat: Chat) -> None:
    asked = [
        *random_requests(20, 1, 140, shared=list(range(3, 503))),
        *random_requests(15, 30, shared=list(range(4, 300))),
        *random_requests(8),
    ]
    assert [len(one.prefix) for one in layout.group(layout.ask(asked, 2048))] == [296, 500, 0]
    assert same_as_stock(model, chat.tokenizer, asked)


@pytest.mark.parametrize("kind", ["not_llama", "without_chat_template"])
def test_scores_of_other_models_equal_those_of_lm_eval(kind: str, tmp_path: Any) -> None:
    made, tokenizer = tiny.KINDS[kind](tmp_path)
    assert same_as_stock(made.eval(), tokenizer, random_requests(20, 50, 130, shared=list(range(3, 203))))


def test_a_model_whose_attention_is_not_plain_is_left_to_lm_eval(chat: Chat, capsys: Any) -> None:
    config = MistralConfig(vocab_size=700, num_key_value_heads=2, sliding_window=64, **tiny.SIZES)  # type: ignore
    assert same_as_stock(MistralForCausalLM(config).eval(), chat.tokenizer, random_requests(20, 130))
    assert "lm-eval's own way is taken" in capsys.readouterr().out


def test_a_question_s_score_does_not_depend_on_the_others(model: Any, chat: Chat, requests: Requests) -> None:
    own = scorer.Scorer(model, chat.tokenizer, 1)
    together = own._loglikelihood_tokens(requests)
    alone = own._loglikelihood_tokens(requests[4:8])
    assert [score for score, _ in alone] == pytest.approx([score for score, _ in together[4:8]], abs=1e-4)


def test_the_order_of_choices_changes_no_score(model: Any, chat: Chat, requests: Requests) -> None:
    own = scorer.Scorer(model, chat.tokenizer, 1)
    forwards, backwards = own._loglikelihood_tokens(requests[:4]), own._loglikelihood_tokens(requests[:4][::-1])
    assert [score for score, _ in backwards[::-1]] == pytest.approx([score for score, _ in forwards], abs=1e-4)


def test_a_context_is_computed_once_and_so_is_what_choices_begin_with(requests: Requests) -> None:
    questions = layout.ask(requests, max_length=1024)
    assert [len(question.choices) for question in questions] == [4, 4, 4]
    tree = layout.Question([1, 2], [[5, 6, 7], [5, 6, 8, 9], [5]], [0, 1, 2]).tree
    assert (tree.ids, tree.depths, tree.parents) == ([1, 2, 5, 6, 8], [0, 1, 2, 3, 4], [-1, 0, 1, 2, 3])
    assert tree.asked == [(1, 5), (2, 6), (3, 7), (1, 5), (2, 6), (3, 8), (4, 9), (1, 5)]


def test_questions_share_a_prefix_only_where_their_tokens_are_the_same() -> None:
    asked = random_requests(5, 9, 1, shared=list(range(3, 303))) + random_requests(5, 9, shared=list(range(4, 204)))
    questions = layout.ask(asked, 2048)
    whole = {tuple(place for place in one.places): one.context for one in questions}
    found = {
        tuple(one.places): group.prefix + one.context for group in layout.group(questions) for one in group.questions
    }
    assert found == whole
    assert [len(group.prefix) for group in layout.group(questions)] == [300, 0]


def test_a_context_that_is_too_long_loses_its_beginning_as_in_lm_eval(model: Any, chat: Chat) -> None:
    asked = random_requests(model.config.max_position_embeddings + 5)
    assert {len(one.context) + len(one.choices[0]) - 1 for one in layout.ask(asked, 50)} == {50}
    assert same_as_stock(model, chat.tokenizer, asked)


def test_a_choice_without_a_token_is_refused() -> None:
    with pytest.raises(UserError, match="ranks '' behind 'Why\\?': one of them has no token"):
        layout.ask([(("Why?", ""), [1, 2], [])], 2048)


def test_batches_hold_every_question_once(requests: Requests) -> None:
    questions = layout.ask(requests, max_length=1024)
    batched = [question for batch in layout.batches(questions, 100) for question in batch]
    assert sorted(place for question in batched for place in question.places) == list(range(len(requests)))


def test_the_norm_is_the_stock_one_s_to_the_last_bit() -> None:
    stock = LlamaRMSNorm(48).bfloat16()
    stock.weight.data.normal_(1, 0.1)
    inputs = torch.randn(7, 48, dtype=torch.bfloat16)
    assert torch.equal(norm.SameNorm(stock.weight, stock.variance_epsilon)(inputs), stock(inputs))


@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="this CPU does not compute in bfloat16")
@pytest.mark.parametrize("rows", [1, 40, 1_000])
def test_a_packed_layer_is_the_stock_one_to_the_last_bit(rows: int) -> None:
    stock = torch.nn.Linear(96, 700, dtype=torch.bfloat16)
    inputs = torch.randn(1, rows, 96, dtype=torch.bfloat16)
    model = torch.nn.Sequential(stock).requires_grad_(False)
    packed.pack(model, 1_024)
    assert type(model[0]) is packed.PackedLinear
    assert torch.equal(model(inputs), stock(inputs))


def test_a_layer_that_learns_or_does_more_is_not_packed() -> None:
    class Other(torch.nn.Linear):
        pass

    model = torch.nn.Sequential(torch.nn.Linear(8, 8).bfloat16(), Other(8, 8).bfloat16().requires_grad_(False))
    packed.pack(model, 1_024)
    assert [type(layer) for layer in model] == [torch.nn.Linear, Other]
