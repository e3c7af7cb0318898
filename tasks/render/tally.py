"""The mixture as it came out: asked against got as numbers, as a table and as a picture."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import polars as pl

from tasks.render.catalogue import Task

_FORM = ["cluster", "task", "template", "kind", "options", "few_shot"]
_MOST_BARS = 70
_ASKED, _GOT = "#9aa5b1", "#1f6feb"


class Tally:
    """Counts examples while they pass by."""

    def __init__(self, listing: Iterable[str]) -> None:
        """`listing` are the hashes of the templates whose prompt lists the options."""
        self._listing = list(listing)
        self._parts: list[pl.DataFrame] = []
        self.clusters: dict[str, str] = {}
        """Each cluster with the id of one of its examples."""

    def passing(self, frames: Iterable[pl.DataFrame]) -> Iterator[pl.DataFrame]:
        """The same frames, counted."""
        for frame in frames:
            form = frame.with_columns(
                options=pl.col("template_hash").is_in(self._listing), few_shot=pl.col("shots").list.len() > 0
            )
            self._parts.append(form.group_by(_FORM).len("examples"))
            self.clusters |= dict(frame.unique("cluster").select("cluster", "id").iter_rows())
            yield frame

    @property
    def table(self) -> pl.DataFrame:
        """Examples by cluster, task, template, kind, and whether they list options and have exemplars."""
        empty = pl.DataFrame(schema=dict.fromkeys(_FORM[:4], pl.String) | dict.fromkeys(_FORM[4:], pl.Boolean))
        parts = self._parts or [empty.with_columns(examples=pl.lit(0, pl.UInt32))]
        return pl.concat(parts).group_by(_FORM).agg(pl.col("examples").sum()).sort(_FORM)


def numbers(table: pl.DataFrame, asked: Mapping[Task, int], **counts: int) -> dict[str, Any]:
    """Examples asked for and got, in all, by cluster, by task and by form; a few numbers for `dvc metrics diff`."""
    got = _sums(table, "task")
    wanted: dict[str, int] = {}
    for task, count in asked.items():
        wanted[task.name] = wanted.get(task.name, 0) + count
    return {
        "asked": sum(asked.values()),
        "got": int(table["examples"].sum()),
        "clusters": _sums(table, "cluster"),
        "tasks": {name: {"asked": wanted[name], "got": got.get(name, 0)} for name in sorted(wanted)},
        "kinds": _sums(table, "kind"),
        "options": int(table.filter("options")["examples"].sum()),
        "few_shot": int(table.filter("few_shot")["examples"].sum()),
        **counts,
    }


def draw(table: pl.DataFrame, asked: Mapping[Task, int], path: Path) -> None:
    """Bars of asked and got for each task, the tasks of a cluster together; for each cluster where they are many."""
    shown = bars(table, asked)
    figure, axis = plt.subplots(figsize=(9, 1.4 + 0.26 * len(shown)))
    for place, (_, wanted, got) in enumerate(shown):
        axis.barh(place - 0.2, wanted, 0.38, color=_ASKED, label="asked" if place == 0 else None)
        axis.barh(place + 0.2, got, 0.38, color=_GOT, label="got" if place == 0 else None)
    axis.set_yticks(range(len(shown)), [name for name, _, _ in shown], fontsize=8)
    axis.set(xlabel="examples", title="The mixture: asked against got")
    axis.margins(y=0.01)
    axis.invert_yaxis()
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=100, metadata={"Software": None})
    plt.close(figure)


def bars(table: pl.DataFrame, asked: Mapping[Task, int]) -> list[tuple[str, int, int]]:
    """A name, what was asked and what was got: of tasks, of clusters where tasks are too many, or of the largest."""
    wanted = pl.DataFrame([(*task, count) for task, count in asked.items()], ["cluster", "task", "asked"], orient="row")
    both = wanted.join(table.group_by("cluster", "task").agg(got=pl.col("examples").sum()), ["cluster", "task"], "left")
    if len(both) > _MOST_BARS:
        both = both.group_by("cluster").agg(pl.lit("all tasks").alias("task"), pl.col("asked", "got").sum())
    largest = both.sort("asked", "cluster", "task", descending=[True, False, False]).head(_MOST_BARS)
    shown = largest.with_columns(pl.col("got").fill_null(0)).sort("cluster", "task")
    return [(f"{cluster} / {task}", asked, got) for cluster, task, asked, got in shown.iter_rows()]


def _sums(table: pl.DataFrame, column: str) -> dict[str, int]:
    return dict(table.group_by(column).agg(pl.col("examples").sum()).sort(column).iter_rows())
