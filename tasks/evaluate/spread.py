"""A suite's batches on the nodes of a Ray cluster: those of one machine, each whole, so that no number changes.

A node has the model from here, keeps it for as long as the suite takes, and computes with the threads that params ask
for. What it cannot do in the fast way, it does in lm-eval's own.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from tasks import model, nodes, settings
from tasks.chat import Chat
from tasks.evaluate import ranking
from tasks.evaluate.scorer import Prompts, Scorer
from tasks.params import Compute, Params

TOGETHER = 4
"""Batches that a thread ranks in one task: what they begin with alike is then computed once for most of them."""


class Work(NamedTuple):
    """What a scorer on a node is made of, beside the model's files."""

    compute: Compute
    batch_size: int


class Spread:
    """The nodes of the cluster as the place where a scorer's batches are computed."""

    def __init__(self, wanted: Params, base: Path, adapter: Path | None) -> None:
        number_format = str(model.dtype(wanted.compute.dtype)).removeprefix("torch.")  # this machine's, on all nodes
        self.work = Work(wanted.compute.model_copy(update={"dtype": number_format}), wanted.evaluate.batch_size)
        self.files = {"base": base} | ({"adapter": adapter} if adapter else {})

    def ranked(self, batches: Iterable[ranking.Batch]) -> Iterator[list[list[ranking.Answer]]]:
        """As `ranking.scored`, on the nodes."""
        waiting, size = iter(batches), TOGETHER * self.work.compute.threads
        tasks = iter(lambda: list(itertools.islice(waiting, size)), [])
        for done in nodes.ordered(
            settings.cluster(), functools.partial(_rank, self.work), tasks, self.files, self._needs()
        ):
            yield from done

    def generated(self, batches: Iterable[Prompts]) -> Iterator[torch.Tensor]:
        """As `Scorer.generated_ids`, on the nodes."""
        work = functools.partial(_generate, self.work)
        return nodes.ordered(settings.cluster(), work, iter(batches), self.files, self._needs())

    def _needs(self) -> nodes.Needs:
        return nodes.Needs(cpus=self.work.compute.threads, gpus=settings.part_gpus())


def _rank(
    work: Work, batches: list[ranking.Batch], base: Path, adapter: Path | None = None
) -> list[list[list[ranking.Answer]]]:
    engine = _scorer(work, base, adapter).engine
    with engine.plain_attention():
        return list(ranking.scored(engine, batches))


def _generate(work: Work, batch: Prompts, base: Path, adapter: Path | None = None) -> torch.Tensor:
    scorer = _scorer(work, base, adapter)
    here = batch._replace(ids=batch.ids.to(scorer.device), mask=batch.mask.to(scorer.device))
    return scorer.generated_ids(here).cpu()


@functools.cache
def _scorer(work: Work, base: Path, adapter: Path | None) -> Scorer:
    return Scorer(model.load(base, adapter, work.compute), Chat.load(base).tokenizer, work.batch_size)
