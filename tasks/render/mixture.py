"""The mixture: how many examples of each task are trained on, and which.

Examples-proportional mixing with a cap: a task of n records weighs min(n, cap) / sum of these (Wei et al. 2021,
arXiv 2109.01652, section 2.1, after Raffel et al. 2019).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from tasks.examples import Example
from tasks.records import Record, digest


def shares(available: Mapping[str, int], budget: int, cap: int) -> dict[str, int]:
    """How many examples each task gets of `budget`, in proportion to min(records, cap) and never above its records.

    Largest remainders get what rounding leaves; what a task cannot fill goes to the others.
    """
    given = dict.fromkeys(available, 0)
    while (left := budget - sum(given.values())) > 0:
        weights = {task: min(count, cap) for task, count in available.items() if given[task] < count}
        if not weights:
            break
        ideal = {task: left * weight / sum(weights.values()) for task, weight in weights.items()}
        extra = {task: int(value) for task, value in ideal.items()}
        by_remainder = sorted(ideal, key=lambda task: (extra[task] - ideal[task], task))
        for task in by_remainder[: left - sum(extra.values())]:
            extra[task] += 1
        for task, count in extra.items():
            given[task] = min(available[task], given[task] + count)
    return given


def choose(records: Iterable[Record], budget: int, cap: int, seed: int) -> list[Record]:
    """The records to train on, in an order that depends on the seed and each record's id alone."""
    tasks: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        tasks[record.task].append(record)
    given = shares({task: len(rows) for task, rows in sorted(tasks.items())}, budget, cap)

    def place(record: Record) -> str:
        return digest([seed, record.id])

    return sorted((row for task, count in given.items() for row in sorted(tasks[task], key=place)[:count]), key=place)


def realised(examples: Iterable[Example], asked: int) -> dict[str, object]:
    """The mixture as it came out: examples asked for and got, by cluster, task and kind."""
    rows = list(examples)
    return {
        "asked": asked,
        "got": len(rows),
        "clusters": dict(sorted(Counter(row.cluster for row in rows).items())),
        "tasks": dict(sorted(Counter(row.task for row in rows).items())),
        "kinds": dict(sorted(Counter(row.kind for row in rows).items())),
    }
