"""What evaluate wrote of each document, and what render wrote of the same document."""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tasks.errors import UserError

NAMES = {
    "accuracy": ("rank accuracy", "the option that the model finds most likely is the right one"),
    "exact_match": ("exact answer", "the text that it generates is the right answer"),
    "valid_answer": ("valid answer", "the text that it generates is one of the options at all"),
    "stopped": ("ended by itself", "the model ended its answer, no limit and no stop text did"),
    "consistency": ("same answer in other wordings", "the share of the other wordings in which it answers the same"),
    "followed": ("all demands met", "the answer does all that the prompt demands of its form, as a program finds"),
    "share_followed": ("share of demands met", "how many of the prompt's demands on its form the answer meets"),
}
"""Measures that have a name for people beside their own, and what it means. Others go by their own."""

EVERY_WORDING = "templates"
"""The form that asks a few documents in every wording."""

FORMS = {
    "rank": "",
    "generate": "",
    "unlisted": "options not listed",
    EVERY_WORDING: "",
    "named": "asked by the task's name",
}
"""How a held-out cluster's task is asked, the last part of a benchmark's name, and what of it is worth saying."""

_LESS_IS_BETTER = ("bits_per_byte", "brier_score", "byte_perplexity", "perplexity", "ter", "word_perplexity")
"""Measures of lm-eval that fall when a model improves."""

Sample = dict[str, Any]
"""A document's result: `benchmark`, `document` (the record), `template`, `answer`, `expected`, and its measures: every
number that it holds."""

Key = tuple[str, str]
"""A document of a benchmark: the record and the template."""


def scores(samples: Iterable[Sample]) -> dict[tuple[str, str], dict[Key, float]]:
    """(benchmark, measure) -> document -> score."""
    found: dict[tuple[str, str], dict[Key, float]] = defaultdict(dict)
    for row in samples:
        for measure in measures(row):
            found[row["benchmark"], measure][key(row)] = float(row[measure])
    return found


def backend(folder: Path) -> str:
    """What answered the benchmarks of a folder of results; results from before there were two say nothing of it."""
    path = folder / "results.json"
    told = json.loads(path.read_text(encoding="utf-8"))["measured"] if path.is_file() else {}
    return str(told.get("backend", "own"))


def key(row: Sample) -> Key:
    """What tells a document of a benchmark from the others."""
    return row["document"], row.get("template", "")


def measures(row: Sample) -> list[str]:
    """The measures of a document, in the order of its evaluation."""
    return [name for name, value in row.items() if isinstance(value, int | float)]


def spoken(measure: str) -> str:
    """A measure's name for people."""
    return NAMES[measure][0] if measure in NAMES else measure.replace("_", " ")


def rises(measure: str) -> bool:
    """Whether a higher score is a better one; a filter's name may stand behind the measure's."""
    return not any(measure == name or measure.startswith(f"{name}_") for name in _LESS_IS_BETTER)


def asked(benchmark: str, suite: str) -> tuple[str, str]:
    """The task that a benchmark of a suite asks, and the form; a foreign benchmark has none."""
    name = benchmark.removeprefix(f"{suite}_")
    task, _, form = name.rpartition("_")
    return (task, form) if task and form in FORMS else (name, "")


def meaning(measure: str) -> str:
    """What a measure measures, where it is known here."""
    return NAMES[measure][1] if measure in NAMES else ""


def check(folder: Path, suites: Iterable[str]) -> None:
    """That a folder holds a model's results on these suites. Raises UserError that says what such a folder is."""
    missing = [suite for suite in suites if not (folder / suite / "samples.jsonl").is_file()]
    if missing:
        raise UserError(
            f"{folder}: holds no results on {', '.join(missing)}: name a folder in which each suite of params.yaml has"
            " a folder with samples.jsonl, as reports/evaluate/tuned is once evaluated"
            " (python -m tasks.evaluate run MODEL SUITE)"
        )


def read_samples(folder: Path) -> list[Sample]:
    """The documents' results that evaluate wrote. Raises UserError where there are none."""
    path = folder / "samples.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no results yet; run: dvc repro evaluate")
    return [_sample(place, row) for place, row in _lines(path)]


def documents(suite: Path) -> dict[Key, Sample]:
    """The documents of a suite's benchmarks, with their prompt and choices, as far as render wrote them."""
    rows = [row for path in sorted(suite.glob("*.jsonl")) for _, row in _lines(path) if isinstance(row, dict)]
    return {(row["id"], row["template"]): row for row in rows if {"id", "template"} <= row.keys()}


def groups(keys: Iterable[Key], known: dict[Key, Sample]) -> list[int]:
    """A number for each document; equal ones belong together: one record, or the same choices to choose from.

    Choices are no sign of it where they are labels, that is where most documents share them.
    """
    keys = list(keys)
    choices = [tuple(sorted(known.get(place, {}).get("choices", ()))) for place in keys]
    told = 2 * len(set(choices)) >= len({record for record, _ in keys})
    numbers: dict[object, int] = {}
    names = [(told and own) or place[0] for place, own in zip(keys, choices, strict=True)]
    return [numbers.setdefault(name, len(numbers)) for name in names]


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    """The values of a file of JSON lines, each with its place. Raises UserError at a line that is none."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield f"{path}:{number}", json.loads(line)
            except ValueError as error:
                raise UserError(f"{path}:{number}: no valid JSON ({error}): the file is damaged") from error


def _sample(place: str, row: Any) -> Sample:
    if not isinstance(row, dict) or not {"benchmark", "document"} <= row.keys():
        raise UserError(f"{place}: no result of a document, which has `benchmark` and `document`: the file is damaged")
    return row
