"""Greedy answers: prompts are read without padding, what they begin with alike once, and an ended answer is dropped."""

from collections.abc import Callable
from itertools import accumulate
from typing import Any

import torch

from tasks.evaluate.engine import BATCH_TOKENS, Engine
from tasks.evaluate.layout import Question, batches, group
from tasks.evaluate.memory import Memory

KEPT = 0.85
"""Ended answers are dropped together, where no more than this share goes on: dropping copies all the others."""

HARMLESS = {
    *("bos_token_id", "eos_token_id", "pad_token_id", "transformers_version", "max_length", "max_new_tokens"),
    *("do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "use_cache"),
    *("output_attentions", "output_hidden_states", "output_scores", "_from_model_config"),
}
"""Settings of generation that do not change the likeliest token."""


def greedy(model: Any, options: dict[str, Any]) -> bool:
    """Whether generation under these options, and the model's own settings, takes the likeliest token each time."""
    own = set(model.generation_config.to_diff_dict())
    return own <= HARMLESS and options.keys() <= {"do_sample", "temperature"} and not options.get("do_sample")


@torch.inference_mode()
def answer(
    engine: Engine, prompts: list[list[int]], new_tokens: int, ended: Callable[[list[int]], bool]
) -> list[list[int]]:
    """The likeliest tokens behind each prompt, at most `new_tokens`, up to where they have `ended`.

    Raises OtherAttentionError.
    """
    memory = Memory([len(prompt) for prompt in prompts], new_tokens, engine.device)
    answers: list[list[int]] = [[] for _ in prompts]
    waiting, done = list(range(len(prompts))), set[int]()
    logits = read(engine, prompts, memory)
    while True:
        tokens = logits.argmax(1)
        for number, token in zip(waiting, tokens.tolist(), strict=True):
            if number not in done:
                answers[number].append(token)
                if len(answers[number]) == new_tokens or ended(answers[number]):
                    done.add(number)
        places = [place for place, number in enumerate(waiting) if number not in done]
        if not places:
            return answers
        if len(places) < KEPT * len(waiting):
            memory.keep(places)
            waiting, tokens = [waiting[place] for place in places], tokens[places]
        logits = step(engine, tokens, memory)


def step(engine: Engine, tokens: torch.Tensor, memory: Memory) -> torch.Tensor:
    """The logits behind one more token of each answer, (answers, vocabulary)."""
    logits: torch.Tensor = engine.model(
        input_ids=tokens[None], position_ids=memory.lengths[None], rows=memory, use_cache=False
    ).logits
    memory.lengths += 1
    return logits[0]


def read(engine: Engine, prompts: list[list[int]], memory: Memory) -> torch.Tensor:
    """Put the prompts into `memory`; the logits behind each, (prompts, vocabulary)."""
    logits: dict[int, torch.Tensor] = {}
    for one in group([Question(prompt, [], [number]) for number, prompt in enumerate(prompts)]):
        prefix = engine.prefix(one.prefix)
        for batch in batches(one.questions, BATCH_TOKENS):
            chains = engine.chains([question.tree.parents for question in batch], prefix, keep=True)
            ids = [token for question in batch for token in question.context]
            depths = [chains.before + depth for question in batch for depth in question.tree.depths]
            out = engine.body(ids, depths, chains)
            ends = list(accumulate(len(question.context) for question in batch))
            told = engine.logits(out, torch.tensor(ends) - 1)
            for question, end, behind in zip(batch, ends, told, strict=True):
                [number] = question.places
                own = slice(end - len(question.context), end)
                memory.write(number, prefix, [(keys[own], values[own]) for keys, values in chains.layers])
                logits[number] = behind
    return torch.stack([logits[number] for number in range(len(prompts))])
