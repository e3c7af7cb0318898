"""Twenty generated answers of both models side by side, chosen by a hash: what improved, what got lost, what stayed."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tasks.records import digest
from tasks.report import samples
from tasks.report.samples import Sample

SHOWN = 20

_SEED = 17

_GENERATED = {"stopped", "valid_answer", "exact_match"}
"""Measures that a generated answer alone has, one of them at least."""


class Kind(StrEnum):
    """How a pair of answers was scored."""

    LOST = "right before, wrong now"
    GAINED = "wrong before, right now"
    WRONG = "wrong before and now"
    RIGHT = "right before and now"


@dataclass(frozen=True)
class Answer:
    """What both models generated for a document; `prompt` is empty where the benchmark's own file does not tell it."""

    benchmark: str
    document: str
    template: str
    kind: Kind
    prompt: str
    expected: str
    base: str
    tuned: str


def choose(base: Path, tuned: Path, suites: Sequence[Path]) -> list[Answer]:
    """The first by a hash of the document; kinds take turns, and within a kind benchmarks."""
    drawn = sorted(
        (answer for suite in suites for answer in generated(base / suite.name, tuned / suite.name, suite)),
        key=lambda answer: digest([_SEED, answer.benchmark, answer.document, answer.template]),
    )
    kinds = [_by_benchmark([answer for answer in drawn if answer.kind is kind]) for kind in Kind]
    # Each kind begins with another benchmark, so that the first answers are of several.
    return _in_turn([_in_turn([*own[place:], *own[:place]]) for place, own in enumerate(kinds)])[:SHOWN]


def _in_turn(queues: Iterable[list[Answer]]) -> list[Answer]:
    """The first of each queue, then the second of each, and so on until all are empty."""
    return [answer for turn in itertools.zip_longest(*queues) for answer in turn if answer is not None]


def _by_benchmark(answers: list[Answer]) -> list[list[Answer]]:
    found: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        found[answer.benchmark].append(answer)
    return [found[name] for name in sorted(found)]


def generated(base: Path, tuned: Path, suite: Path) -> Iterator[Answer]:
    """The pairs of generated answers of a suite."""
    known = samples.documents(suite)
    before = {(row["benchmark"], samples.key(row)): row for row in samples.read_samples(base)}
    for row in samples.read_samples(tuned):
        told = samples.measures(row)
        if _GENERATED.intersection(told):
            earlier = before[row["benchmark"], samples.key(row)]
            yield Answer(
                benchmark=row["benchmark"],
                document=row["document"],
                template=row.get("template", ""),
                kind=_kind(earlier, row, told[0]),
                prompt=known.get(samples.key(row), {}).get("prompt", ""),
                expected=str(row["expected"]),
                base=str(earlier["answer"]),
                tuned=str(row["answer"]),
            )


def _kind(before: Sample, after: Sample, measure: str) -> Kind:
    """By the benchmark's first measure; half a point counts as right."""
    right = before[measure] >= 0.5, after[measure] >= 0.5
    return {(True, False): Kind.LOST, (False, True): Kind.GAINED, (False, False): Kind.WRONG}.get(right, Kind.RIGHT)
