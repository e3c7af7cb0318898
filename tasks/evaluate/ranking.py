"""Log-likelihoods of choices: whatever requests share is computed once, and logits only where a choice is predicted."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from threading import Lock

import torch
from transformers.modeling_outputs import BaseModelOutput

from tasks.evaluate.attention import Layer
from tasks.evaluate.engine import BATCH_TOKENS, Engine
from tasks.evaluate.layout import Question, batches, group

CHUNK = 128
"""Rows whose logits are held together."""

PART = 8
"""Rows whose log-probabilities are held together: few enough to stay in the cache."""

Answer = tuple[float, bool]
"""A choice's log-likelihood behind its context, and whether each of its tokens is the likeliest."""


@dataclass(frozen=True)
class Batch:
    """Questions that are computed together, and the prefix that they share."""

    questions: list[Question]
    prefix: list[int]


def batched(questions: list[Question]) -> list[Batch]:
    """The questions in their batches, the same ones wherever they are computed: a number depends on its batch."""
    return [Batch(batch, one.prefix) for one in group(questions) for batch in batches(one.questions, BATCH_TOKENS)]


def scored(engine: Engine, items: Iterable[Batch]) -> Iterator[list[list[Answer]]]:
    """For each batch the answers of each of its questions, choice by choice. Raises OtherAttentionError."""

    def score(item: tuple[Batch, Prefix]) -> list[list[Answer]]:
        batch, prefix = item
        return list(_score(engine, batch.questions, prefix.layers()))

    def shared() -> Iterator[tuple[Batch, Prefix]]:
        for ids, own in itertools.groupby(items, key=lambda batch: batch.prefix):
            prefix = Prefix(engine, ids)
            yield from ((batch, prefix) for batch in own)

    return engine.threads.map(score, shared())


class Prefix:
    """A prefix that whoever needs it first computes, while others wait for it."""

    def __init__(self, engine: Engine, ids: list[int]) -> None:
        self.engine, self.ids = engine, ids
        self._lock, self._layers = Lock(), list[Layer]()

    @torch.inference_mode()
    def layers(self) -> list[Layer]:
        """The keys and values of its tokens in each layer; none where it has no token."""
        with self._lock:
            if not self._layers:
                self._layers = self.engine.prefix(self.ids)
            return self._layers


@torch.inference_mode()
def _score(engine: Engine, batch: list[Question], prefix: list[Layer]) -> Iterator[list[Answer]]:
    """The answers of each question of a batch."""
    trees = [question.tree for question in batch]
    chains = engine.chains([tree.parents for tree in trees], prefix)
    ids = [token for tree in trees for token in tree.ids]
    out = engine.body(ids, [chains.before + depth for tree in trees for depth in tree.depths], chains)
    asked, start = list[tuple[int, int]](), 0
    for tree in trees:
        asked += [(start + row, token) for row, token in tree.asked]
        start += len(tree.ids)
    told = iter(_told(engine, out, asked))
    for question in batch:
        yield [_summed([next(told) for _ in choice]) for choice in question.choices]


def _told(engine: Engine, out: BaseModelOutput, asked: list[tuple[int, int]]) -> list[Answer]:
    """For each row and token: the token's log-probability behind the row, and whether it is the likeliest."""
    rows, places = torch.tensor([row for row, _ in asked]).unique(return_inverse=True)  # type: ignore[no-untyped-call]
    tokens = torch.tensor([token for _, token in asked])
    told, greedy = torch.empty(len(asked)), torch.empty(len(asked), dtype=torch.bool)
    for start in range(0, len(rows), CHUNK):
        logits = engine.logits(out, rows[start : start + CHUNK])
        for begin, part in zip(itertools.count(start, PART), torch.split(logits, PART), strict=False):
            # The same sum as stock lm-eval's, whose rounding over a vocabulary is most of the difference in float32.
            logs = part.log_softmax(1, dtype=torch.float32)
            own = ((places >= begin) & (places < begin + PART)).nonzero()[:, 0]
            row, token = (places[own] - begin).to(engine.device), tokens[own].to(engine.device)
            told[own] = logs[row, token].cpu()
            greedy[own] = (logs.argmax(1)[row] == token).cpu()
    return list(zip(told.tolist(), greedy.tolist(), strict=True))


def _summed(told: list[Answer]) -> Answer:
    return sum(one for one, _ in told), all(greedy for _, greedy in told)
