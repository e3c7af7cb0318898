"""Everything that a report tells, gathered from files: the numbers of one training and its evaluation."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks import outputs
from tasks.records import digest
from tasks.report import answers, compare, data_card, spread
from tasks.report.answers import Answer
from tasks.report.compare import Comparison
from tasks.report.spread import Spread

Json = dict[str, Any]


@dataclass(frozen=True)
class Places:
    """The folders that a report is made of, and the suites that it tells of."""

    results: Path
    benchmarks: Path
    mixture: Path
    models: Path
    ingested: Path
    suites: list[str]

    @property
    def contamination(self) -> Path:
        """What render wrote about overlaps with benchmarks."""
        return self.mixture.parent / "contamination"


@dataclass(frozen=True)
class Story:
    """What happened, in numbers.

    `comparisons` are of each benchmark and measure, `means` of each suite and measure. `source` describes the base,
    `trained` and `history` the training, `inputs` what went into it. `marks` are the benchmark documents that training
    records shared text with.
    """

    comparisons: list[Comparison]
    means: list[Comparison]
    answers: list[Answer]
    spreads: list[Spread]
    source: Json
    trained: Json
    history: list[dict[str, float]]
    inputs: Json
    mixture: Json
    cards: list[Json]
    totals: Json
    marks: dict[str, list[str]]
    digests: dict[str, str]

    @property
    def base(self) -> str:
        """The base model's name for people."""
        return str(self.source["file"] or self.source["name"])


def gather(places: Places) -> Story:
    """Read it all. Raises UserError where evaluations are missing or do not fit each other."""
    base, tuned = (places.results / model for model in ("base", "tuned"))
    suites = [places.benchmarks / suite for suite in places.suites]
    pairs = [pair for suite in suites for pair in compare.pairs(base, tuned, suite)]
    cards, mixture = data_card.read_cards(places.ingested), _read(places.mixture)
    adapter, inputs = places.models / "tuned", _read(places.models / "tuned" / "inputs.json")
    marks = places.contamination / "marks.json"
    return Story(
        comparisons=compare.compare(pairs, places.benchmarks, marks),
        means=compare.by_suite(pairs),
        answers=answers.choose(base, tuned, suites),
        spreads=spread.of_all(pairs),
        source=_read(places.models / "base" / "source.json"),
        trained=_read(adapter / "training.json"),
        history=_read(adapter / "history.json"),
        inputs=inputs,
        mixture=mixture,
        cards=cards,
        totals=data_card.profile(cards, mixture["got"], data_card.dropped(places.contamination)),
        marks=_read(marks),
        digests={
            "records": outputs.digest_path(places.ingested),
            "token shards": inputs["shards"],
            "base model": inputs["base"],
            "adapter": outputs.digest_path(adapter / "adapter_model.safetensors"),
            "benchmarks": outputs.digest_path(places.benchmarks),
            "training code": digest(inputs["code"], 64),
            "params of training": digest(inputs["params"], 64),
        },
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
