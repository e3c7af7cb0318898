"""lm-eval's Hugging Face model with a faster log-likelihood: what requests share is computed once.

Questions with the same beginning (a system message, exemplars) share its keys and values, a question's choices share
its context, and its rows see nothing of their neighbours. Questions are joined without padding, and logits are
computed only where a choice's token is predicted. Everything else, the metrics too, is lm-eval's own.
"""

from collections.abc import Iterator
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers.modeling_outputs import BaseModelOutputWithPast

from tasks import console
from tasks.evaluate import attention
from tasks.evaluate.attention import Grid, Layer
from tasks.evaluate.layout import Group, Question, Request, ask, batches, group

BATCH_TOKENS = 1_024
"""Rows computed together: enough for the matrix products' full speed, few enough to stay in the cache."""

CHUNK = 128
"""Rows whose logits are held together."""


class Scorer(HFLM):  # type: ignore[misc]
    """HFLM that shares what requests have in common. With `add_bos_token` off a prompt is encoded as in training: the
    chat template alone decides about BOS."""

    def __init__(self, model: Any, tokenizer: Any, batch_size: int) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, add_bos_token=False)
        self.generated = 0

    def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """lm-eval's, without its bar: this class tells its progress itself."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
        """lm-eval's, without its bar."""
        return super().generate_until(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[Request], disable_tqdm: bool = False, override_bs: int | None = None
    ) -> list[tuple[float, bool]]:
        """The log-likelihood of each request's choice after its context, and whether it is the greedy one."""
        answers: list[tuple[float, bool]] = [(0.0, False)] * len(requests)
        questions = ask(requests, self.max_length)
        usual = self.model.config._attn_implementation
        self.model.set_attn_implementation(attention.NAME)
        try:
            for question, scored in console.track(self._scored(group(questions)), "ranking", len(questions)):
                for place, answer in zip(question.places, scored, strict=True):
                    answers[place] = answer
        finally:
            self.model.set_attn_implementation(usual)
        return answers

    def _model_generate(self, context: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        """lm-eval's generation of one batch, told to whoever waits."""
        ids: torch.Tensor = super()._model_generate(context, *args, **options)
        self.generated += len(context)
        print(f"generating: {self.generated} answers", flush=True)
        return ids

    @torch.inference_mode()
    def _scored(self, groups: list[Group]) -> Iterator[tuple[Question, list[tuple[float, bool]]]]:
        """Each question with its answers, choice by choice."""
        for one in groups:
            prefix = self._prefix(one.prefix) if one.prefix else []
            for batch in batches(one.questions, BATCH_TOKENS):
                yield from zip(batch, self._score(batch, prefix), strict=True)

    def _prefix(self, ids: list[int]) -> list[Layer]:
        """The keys and values of a prefix's tokens in each layer."""
        seen = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
        grid = Grid([seen], self.model.dtype, keep=True)
        self._hidden(ids, list(range(len(ids))), grid)
        return grid.layers

    def _hidden(self, ids: list[int], depths: list[int], grid: Grid) -> torch.Tensor:
        """What the model's body makes of a batch's rows, (rows, width)."""
        out: torch.Tensor = self.model.base_model(
            input_ids=torch.tensor([ids]), position_ids=torch.tensor([depths]), grid=grid, use_cache=False
        )[0]
        return out[0]

    def _score(self, batch: list[Question], prefix: list[Layer]) -> Iterator[list[tuple[float, bool]]]:
        """The answers of each question of a batch, choice by choice."""
        trees = [question.tree for question in batch]
        grid = Grid([tree.visible() for tree in trees], self.model.dtype, prefix)
        ids = [token for tree in trees for token in tree.ids]
        hidden = self._hidden(ids, [grid.before + depth for tree in trees for depth in tree.depths], grid)
        asked, start = list[tuple[int, int]](), 0
        for tree in trees:
            asked += [(start + row, token) for row, token in tree.asked]
            start += len(tree.ids)
        told = iter(self._told(hidden, asked))
        for question in batch:
            yield [_summed([next(told) for _ in choice]) for choice in question.choices]

    def _told(self, hidden: torch.Tensor, asked: list[tuple[int, int]]) -> list[tuple[float, bool]]:
        """For each row and token: the token's log-probability behind the row, and whether it is the likeliest."""
        rows, places = torch.tensor([row for row, _ in asked]).unique(return_inverse=True)
        tokens = torch.tensor([token for _, token in asked])
        told = torch.empty(len(asked))
        greedy = torch.empty(len(asked), dtype=torch.bool)
        for start in range(0, len(rows), CHUNK):
            logits = self._logits(hidden[rows[start : start + CHUNK]]).float()
            own = ((places >= start) & (places < start + CHUNK)).nonzero()[:, 0]
            row, token = places[own] - start, tokens[own]
            highest, likeliest = logits.max(1)
            greedy[own] = likeliest[row] == token
            wanted = logits[row, token] - highest[row]
            told[own] = wanted - logits.sub_(highest[:, None]).exp_().sum(1).log()[row]
        return list(zip(told.tolist(), greedy.tolist(), strict=True))

    def _logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """What the model makes of its body's output (rows, width), as it does it itself: (rows, vocabulary)."""
        body = self.model.base_model
        body.forward = lambda *_, **__: BaseModelOutputWithPast(last_hidden_state=hidden[None])
        try:
            logits: torch.Tensor = self.model(input_ids=torch.zeros(1, len(hidden), dtype=torch.long)).logits
        finally:
            del body.forward
        return logits[0]


def _summed(told: list[tuple[float, bool]]) -> tuple[float, bool]:
    """A choice's log-likelihood, and whether each of its tokens was the likeliest."""
    return sum(one for one, _ in told), all(greedy for _, greedy in told)
