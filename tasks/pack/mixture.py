"""The mixture as training sees it: in tokens, by cluster, task, template and kind."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
import polars as pl

from tasks import tables

_BY = ["cluster", "task", "template", "kind"]
_SIZES = ["examples", "tokens", "supervised_tokens"]
_READ, _LEARNT = "#9aa5b1", "#1f6feb"

TASKS_SHOWN = 60
"""Bars in the picture at most, the largest tasks; all are in the table."""


def count(sequences: Path, trained: npt.NDArray[np.bool_]) -> pl.DataFrame:
    """Examples, tokens and supervised tokens of each template of each task, among the `trained` (sequences,)."""
    counted = pl.DataFrame(schema=dict.fromkeys(_BY, pl.String()) | dict.fromkeys(_SIZES, pl.Int64()))
    start = 0
    for frame in tables.read_frames(sequences, [*_BY, "tokens", "supervised_tokens"]):
        mine = frame.filter(trained[start : start + len(frame)]).with_columns(examples=pl.lit(1))
        start += len(frame)
        columns = [*_BY, *(pl.col(size).cast(pl.Int64) for size in _SIZES)]
        counted = pl.concat([counted, mine.select(columns)]).group_by(_BY).sum()
    return counted.sort(_BY)


def draw(counted: pl.DataFrame, path: Path) -> None:
    """A bar of tokens for each task, with the part that is learnt."""
    tasks = counted.group_by("cluster", "task").agg(pl.col("tokens", "supervised_tokens").sum())
    shown = tasks.sort(["tokens", "cluster", "task"], descending=[True, False, False]).head(TASKS_SHOWN)
    figure, axis = plt.subplots(figsize=(9, 1.2 + 0.26 * len(shown)))
    names = [f"{cluster} / {task}" for cluster, task in shown.select("cluster", "task").iter_rows()]
    axis.barh(names, shown["tokens"].to_list(), color=_READ, label="read")
    axis.barh(names, shown["supervised_tokens"].to_list(), color=_LEARNT, label="learnt")
    axis.set(xlabel="tokens", title="The mixture in tokens" + (", largest tasks" if len(tasks) > len(shown) else ""))
    axis.invert_yaxis()
    axis.legend(frameon=False)
    axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)
