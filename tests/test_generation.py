"""Generation without padding changes no answer."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM, AutoTokenizer

from tasks.chat import Chat
from tasks.evaluate import generation
from tasks.evaluate.memory import Memory
from tasks.evaluate.scorer import Scorer
from tests import tiny

TEXT = "The road was wet when the sun came out, and nobody knew why it had rained in the night."


@pytest.fixture
def chat(tmp_path: Path) -> Chat:
    return Chat(AutoTokenizer.from_pretrained(tiny.write(tmp_path / "tiny", "not_llama")))


@pytest.fixture
def model(chat: Chat, tmp_path: Path) -> Any:
    return tiny.attentive(AutoModelForCausalLM.from_pretrained(tmp_path / "tiny").float().eval())


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each step goes on with; lm-eval's own way takes none of these steps."""
    counted: list[int] = []
    step = generation.step

    def counting(engine: Any, tokens: Any, memory: Any) -> Any:
        counted.append(len(tokens))
        return step(engine, tokens, memory)

    monkeypatch.setattr(generation, "step", counting)
    return counted


def asked(chat: Chat, *until: str) -> list[Instance]:
    """Nine prompts of different lengths, all behind the same beginning."""
    wishes = {"do_sample": False, "max_gen_toks": 12}
    prompts = [chat.prompt("Go on. " * 90 + TEXT[: 9 * size]) for size in range(9)]
    return [
        Instance("generate_until", {}, (prompt, {**wishes, "until": list(until)}), number)
        for number, prompt in enumerate(prompts)
    ]


def stock(model: Any, chat: Chat, requests: list[Instance]) -> list[str]:
    own = HFLM(pretrained=model, tokenizer=chat.tokenizer, batch_size=4, add_bos_token=False)
    answers: list[str] = own.generate_until(requests, disable_tqdm=True)
    return answers


def dividing(answers: list[str]) -> str:
    """Two letters at which the answers would end at the most different places."""
    pairs = sorted({one + two for answer in answers for one, two in pairwise(answer)})
    return max(pairs, key=lambda pair: len({len(answer.split(pair)[0]) for answer in answers}))


@pytest.mark.parametrize("size", [4, 9])
def test_answers_equal_those_of_lm_eval(
    size: int, model: Any, chat: Chat, steps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generation, "KEPT", 1.0)
    stop = dividing(stock(model, chat, asked(chat)))
    expected = stock(model, chat, asked(chat, stop))
    assert len({len(answer) for answer in expected}) > 2
    assert Scorer(model, chat.tokenizer, size).generate_until(asked(chat, stop)) == expected
    assert len(set(steps)) > 1


def test_the_answers_that_go_on_keep_their_own_tokens() -> None:
    memory = Memory([2, 3, 1], new_tokens=4, device=torch.device("cpu"))
    tokens = [torch.full((length, 1, 2), float(answer)) for answer, length in enumerate([2, 3, 1])]
    for answer, own in enumerate(tokens):
        memory.write(answer, [(own, -own)])
    memory.keep([1, 2])
    [(keys, values)] = memory.layers
    assert memory.lengths.tolist() == [3, 1]
    assert keys[0, 0, :3].eq(1).all() and keys[1, 0, :1].eq(2).all()
    assert values.equal(-keys)


def test_an_answer_ends_with_its_turn(model: Any, chat: Chat, steps: list[int]) -> None:
    own = Scorer(model, chat.tokenizer, 9)
    with own.engine.plain_attention():
        [ids] = generation.answer(own.engine, [chat.encode(asked(chat)[0].args[0])], 12, lambda _: False)
    model.generation_config.eos_token_id = ids[4]
    steps.clear()
    assert own.generate_until(asked(chat)[:1]) == stock(model, chat, asked(chat)[:1])
    assert len(steps) == ids.index(ids[4])


def test_settings_that_change_the_likeliest_token_are_left_to_lm_eval(model: Any, chat: Chat, steps: list[int]) -> None:
    model.generation_config.repetition_penalty = 1.7
    expected = stock(model, chat, asked(chat))
    assert Scorer(model, chat.tokenizer, 4).generate_until(asked(chat)) == expected
    assert not steps
