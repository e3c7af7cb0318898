"""Generation without padding changes no answer."""

from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from transformers import AutoModelForCausalLM

from tasks.chat import Chat
from tasks.evaluate import generation
from tasks.evaluate.scorer import Scorer
from tests.project import Project

TEXT = "The road was wet when the sun came out, and nobody knew why it had rained in the night."


@pytest.fixture
def model(project: Project) -> Any:
    return AutoModelForCausalLM.from_pretrained(project.root / "models/base").float().eval()


def asked(chat: Chat, until: list[str], **options: Any) -> list[Instance]:
    """Nine prompts of different lengths, all behind the same beginning."""
    wishes = {"do_sample": False, "max_gen_toks": 12, **options}
    prompts = [chat.prompt("Go on. " * 90 + TEXT[: 9 * size]) for size in range(9)]
    return [
        Instance("generate_until", {}, (prompt, {**wishes, "until": list(until)}), number)
        for number, prompt in enumerate(prompts)
    ]


def stock(model: Any, chat: Chat, requests: list[Instance]) -> list[str]:
    own = HFLM(pretrained=model, tokenizer=chat.tokenizer, batch_size=4, add_bos_token=False)
    answers: list[str] = own.generate_until(requests, disable_tqdm=True)
    return answers


def test_answers_equal_those_of_lm_eval(model: Any, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "KEPT", 1.0)
    whole = stock(model, chat, asked(chat, ["\n\n\n\n"]))
    stop = whole[0][len(whole[0]) // 3 :][:2]
    expected = stock(model, chat, asked(chat, [stop]))
    assert len({len(answer) for answer in expected}) > 2
    assert Scorer(model, chat.tokenizer, 9).generate_until(asked(chat, [stop])) == expected
    assert Scorer(model, chat.tokenizer, 4).generate_until(asked(chat, [stop])) == expected


def test_an_answer_ends_with_its_turn(model: Any, chat: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stock(model, chat, asked(chat, []))
    model.generation_config.eos_token_id = chat.encode(whole[0])[4]
    own = Scorer(model, chat.tokenizer, 9)
    steps = []
    step = generation._step
    monkeypatch.setattr(generation, "_step", lambda *given: steps.append(given) or step(*given))
    answers = own.generate_until(asked(chat, [])[:1])
    assert answers == stock(model, chat, asked(chat, [])[:1])
    assert len(steps) <= 4


def test_settings_that_change_the_likeliest_token_are_left_to_lm_eval(model: Any, chat: Chat) -> None:
    model.generation_config.repetition_penalty = 1.7
    requests = asked(chat, ["\n\n\n\n"])
    expected = stock(model, chat, requests)
    assert Scorer(model, chat.tokenizer, 4).generate_until(asked(chat, ["\n\n\n\n"])) == expected
    assert not generation.greedy(model, {"do_sample": False})
