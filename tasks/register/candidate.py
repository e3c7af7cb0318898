"""What is about to become a version."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A trained model: its folders, its records, its lineage, its scores and its report."""

    name: str
    base: Path
    adapter: Path
    report: Path
    results: Path
    benchmarks: Path
    trained_on: Path
    lineage: dict[str, Any]
    scores: dict[str, float]

    @property
    def fingerprint(self) -> str:
        """The hash over everything that went into the model."""
        return str(self.lineage["fingerprint"])
