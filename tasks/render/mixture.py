"""The mixture: how many examples of each task are trained on, and which.

Examples-proportional mixing with a cap: a task of n records weighs min(n, cap) (Wei et al. 2021, arXiv 2109.01652,
section 2.1), raised to 1 / temperature (Raffel et al. 2019, arXiv 1910.10683, section 3.5.2), times its factors.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from tasks.errors import UserError
from tasks.params import Render
from tasks.records import digest
from tasks.render.catalogue import Catalogue, Mask, Task

Name = TypeVar("Name", bound=Hashable)


class Choice(NamedTuple):
    """The records that are trained on, those that are set aside for validation, and what was asked of each task."""

    training: Mask
    validation: Mask
    asked: dict[Task, int]


def choose(catalogue: Catalogue, trainable: Mask, clean: Mask, wanted: Render) -> Choice:
    """Which of the trainable records are taken, by the seed and each record's id alone.

    A task's weight counts all its trainable records, those that are not `clean` too: a dropped record gives its place
    to the next one of its task and moves no other task's share. Raises UserError where nothing can be trained on.
    """
    trainable = trainable & catalogue.of_clusters(first_clusters(catalogue.tasks_of(trainable), wanted))
    aside = trainable & set_aside(catalogue.keys, wanted.validation)
    kept = trainable & ~aside
    weights = _weights(catalogue, kept, wanted)
    if not weights:
        raise UserError("render: no record is left to train on: every task left has the weight 0 (render.weights)")
    training = _first(catalogue, kept & clean, weights, wanted.examples, wanted.seed)
    validation = _first(catalogue, aside & clean, weights, round(wanted.examples * wanted.validation), wanted.seed)
    return Choice(training, validation, divide(weights, wanted.examples, wanted.seed))


def first_clusters(tasks: Iterable[Task], wanted: Render) -> list[str]:
    """The first `wanted.clusters` clusters of these tasks, or all: those of the most tasks, as FLAN adds them.

    Between equal ones the seed decides; a smaller number takes some of what a larger one takes.
    """
    sizes = Counter(task.cluster for task in tasks)
    order = sorted(sizes, key=lambda name: (-sizes[name], digest([wanted.seed, name, "cluster"])))
    return order[: wanted.clusters]


def set_aside(keys: NDArray[np.uint64], share: float) -> Mask:
    """Which records make up the validation set: a `share` of every task, the same ones in whatever mixture."""
    return np.asarray(keys < np.uint64(share * 2**64))


def weight(records: int, cap: int, temperature: float, factor: float) -> float:
    """How much a task of so many records weighs in the mixture."""
    return float(min(records, cap) ** (1 / temperature) * factor)


def shares(weights: Mapping[Name, float], available: Mapping[Name, int], budget: int, seed: int) -> dict[Name, int]:
    """How many of `budget` examples each task gets, in proportion to its weight and never above what it has.

    What a task cannot fill goes to the others. A task of weight 0 gets nothing.
    """
    given = dict.fromkeys(weights, 0)
    while (left := budget - sum(given.values())) > 0:
        open_ = {name: value for name, value in weights.items() if value > 0 and given[name] < available[name]}
        if not open_:
            break
        for name, count in divide(open_, left, seed).items():
            given[name] = min(available[name], given[name] + count)
    return given


def divide(weights: Mapping[Name, float], budget: int, seed: int) -> dict[Name, int]:
    """`budget` in whole parts in proportion to the weights; the largest remainders get what rounding leaves.

    Between equal remainders the seed decides, so that no name is favoured.
    """
    total = sum(weights.values())
    ideal = {name: budget * value / total for name, value in weights.items()}
    parts = {name: int(value) for name, value in ideal.items()}
    by_remainder = sorted(ideal, key=lambda name: (round(parts[name] - ideal[name], 9), digest([seed, str(name)])))
    for name in by_remainder[: budget - sum(parts.values())]:
        parts[name] += 1
    return parts


def _weights(catalogue: Catalogue, kept: Mask, wanted: Render) -> dict[Task, float]:
    weights = {}
    for task, count in zip(catalogue.tasks, catalogue.counts(kept).tolist(), strict=True):
        factor = wanted.weights.get(task.name, 1.0) * wanted.weights.get(task.cluster, 1.0)
        if count and factor:
            weights[task] = weight(count, wanted.cap, wanted.temperature, factor)
    return weights


def _first(catalogue: Catalogue, among: Mask, weights: Mapping[Task, float], budget: int, seed: int) -> Mask:
    available = dict(zip(catalogue.tasks, catalogue.counts(among).tolist(), strict=True))
    given = shares(weights, available, budget, seed)
    return catalogue.first(among, np.array([given.get(task, 0) for task in catalogue.tasks]))
