"""The card of a source: what it holds, under which licences, how long and in which languages, and what was left out."""

from collections import Counter
from typing import Any

import numpy as np
import polars as pl

from tasks.ingest import languages

SAMPLE = 100
"""Records whose language is determined; more would make a small source wait."""

_QUANTILES = {"least": 0.0, "median": 0.5, "ninth_tenth": 0.9, "most": 1.0}


class Card:
    """Counts a source's records as they are written, in bounded memory: eight bytes a record."""

    def __init__(self) -> None:
        self.licences: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.rejects: Counter[str] = Counter()
        self.masked: Counter[str] = Counter()
        self.records = 0
        self.persons = 0
        self._tasks: set[str] = set()
        self._clusters: Counter[str] = Counter()
        self._conversations = 0
        self._asked: list[np.ndarray] = []
        self._answers: list[np.ndarray] = []
        self._sample = pl.DataFrame()

    def add(self, frame: pl.DataFrame) -> None:
        """Count the records of a table with the columns of tasks.records.SCHEMA."""
        self.records += len(frame)
        self.persons += int((frame["person"] != "").sum())
        for licence, count, identity in frame.group_by("licence").agg(pl.len(), pl.col("id").first()).iter_rows():
            self.licences[licence] += count
            self.examples.setdefault(licence, identity)
        self._tasks.update(frame["task"].unique())
        for cluster, count in frame["cluster"].value_counts().iter_rows():
            self._clusters[cluster] += count
        self._conversations += int((frame["turns"].list.len() > 0).sum())
        self._asked.append(_lengths(frame))
        self._answers.append(frame["outputs"].list.first().str.len_chars().to_numpy().astype(np.int32))
        self._draw(frame)

    def content(self, source: str, form: str) -> dict[str, Any]:
        """The card as it is written to card.json."""
        rejects = self.rejects.total()
        return {
            "source": source,
            "format": form,
            "rows": self.records + rejects,
            "records": self.records,
            "rejects": dict(self.rejects),
            "masked": dict(self.masked),
            "licences": dict(self.licences),
            "tasks": len(self._tasks),
            "clusters": dict(self._clusters),
            "conversations": self._conversations,
            "characters": {"asked": _spread(self._asked), "answer": _spread(self._answers)},
            "languages": {"sample": len(self._sample), "found": self._languages()},
        }

    def _draw(self, frame: pl.DataFrame) -> None:
        # The digest at an id's end is as good as a random number, and the same in every run.
        columns = [pl.col("id").str.tail(16).alias("draw"), "field_texts", pl.col("outputs").list.first()]
        self._sample = pl.concat(
            [self._sample, frame.select(columns)], how="vertical" if len(self._sample) else "diagonal"
        )
        self._sample = self._sample.sort("draw").head(SAMPLE)

    def _languages(self) -> dict[str, int]:
        rows = self._sample.iter_rows()
        return dict(Counter(languages.language(" ".join([*texts, answer])) for _, texts, answer in rows))


def _lengths(frame: pl.DataFrame) -> np.ndarray:
    """Characters of what is asked, for each record: its fields and the turns before the answer."""
    texts = frame.select(
        pl.sum_horizontal(
            pl.col(name).list.eval(pl.element().str.len_chars()).list.sum() for name in ("field_texts", "turns")
        )
    )
    return texts.to_series().to_numpy().astype(np.int32)


def _spread(lengths: list[np.ndarray]) -> dict[str, int]:
    values = np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int32)
    if not len(values):
        return {}
    return {name: int(np.quantile(values, share, method="lower")) for name, share in _QUANTILES.items()}
