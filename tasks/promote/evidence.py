"""What a version showed in its evaluation, as it was stored with it, and two versions paired document by document."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from tasks.register import files
from tasks.report import compare, samples
from tasks.report.compare import Paired

RESULTS = "instructflow.results"
"""The tag of a version with the digest of its results."""


@dataclass(frozen=True)
class Evidence:
    """A version's results: `folder` holds base/SUITE, tuned/SUITE and benchmarks/SUITE."""

    version: str
    folder: Path

    @property
    def suites(self) -> list[str]:
        """The suites that it was evaluated on."""
        return sorted(path.name for path in (self.folder / "tuned").iterdir())

    def conditions(self, suite: str) -> dict[str, Any]:
        """How each benchmark of a suite was measured, by the benchmark's name in lm-eval, with its content's hash."""
        folder = self.folder / "tuned" / suite
        told = json.loads((folder / "results.json").read_text(encoding="utf-8"))["measured"]["benchmarks"]
        return {name: {**own, "backend": samples.backend(folder)} for name, own in told.items()}

    def against_base(self) -> list[Paired]:
        """The version beside its own base."""
        base, tuned, benchmarks = (self.folder / name for name in ("base", "tuned", "benchmarks"))
        return [pair for suite in self.suites for pair in compare.pairs(base, tuned, benchmarks / suite)]

    def answers(self) -> Iterator[str]:
        """The texts that it generated."""
        for suite in self.suites:
            rows = samples.read_samples(self.folder / "tuned" / suite)
            yield from (str(row["answer"]) for row in rows if "stopped" in row)


def read(client: MlflowClient, version: ModelVersion, scratch: Path) -> Evidence | None:
    """A version's evidence, downloaded to `scratch`; None where it was registered without."""
    folder = scratch / str(version.version)
    folder.mkdir()
    place = files.evaluation(version.tags.get(RESULTS, ""))
    try:
        whole = client.download_artifacts(str(version.run_id), place, str(folder))
    except (MlflowException, OSError):
        return None
    return Evidence(str(version.version), Path(whole))


def against(champion: Evidence, candidate: Evidence) -> tuple[list[Paired], list[str]]:
    """The candidate beside the champion on every benchmark that both were given alike; and which ones were not.

    Alike means the same documents in the same prompts, the same right answers, limits and backend: the hash and the
    settings that evaluation stores. Only then may documents be paired.
    """
    found: list[Paired] = []
    shared = [suite for suite in candidate.suites if suite in champion.suites]
    left_out = sorted({*candidate.suites, *champion.suites} - {*shared})
    for suite in shared:
        ours, theirs = candidate.conditions(suite), champion.conditions(suite)
        alike = {name for name in ours if ours[name] == theirs.get(name)}
        left_out += [f"{suite} / {name}" for name in sorted(ours.keys() ^ theirs.keys() | ours.keys() - alike)]
        found += _pairs(champion, candidate, suite, alike)
    return found, left_out


def _pairs(champion: Evidence, candidate: Evidence, suite: str, alike: set[str]) -> Iterator[Paired]:
    """The measures that both have on the benchmarks that are alike."""
    known = samples.documents(candidate.folder / "benchmarks" / suite)
    before, after = (
        samples.scores(samples.read_samples(version.folder / "tuned" / suite)) for version in (champion, candidate)
    )
    for place in sorted(before.keys() & after.keys()):
        benchmark, measure = place
        keys = sorted(after[place])
        if _is_among(benchmark, suite, alike) and before[place].keys() == after[place].keys():
            one, other = (np.array([scores[place][key] for key in keys]) for scores in (before, after))
            groups = np.array(samples.groups(keys, known))
            yield Paired(suite, *samples.asked(benchmark, suite), measure, keys, one, other, groups)


def _is_among(benchmark: str, suite: str, names: set[str]) -> bool:
    """Whether a benchmark is one of lm-eval's tasks of these names; a foreign one's name has the suite around it."""
    return any(benchmark in (name, f"{suite}_{name}_rank", f"{suite}_{name}_generate") for name in names)
