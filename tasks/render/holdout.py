"""The hold-out: which clusters are never trained on, and guards against reaching them under another name."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks import guards
from tasks.errors import UserError
from tasks.guards import GuardError
from tasks.params import Params, Render
from tasks.render.catalogue import Catalogue, Mask, Task

HOME = Path("tasks/render")
"""Where a list of held-out tasks must lie: among the stage's dependencies, so that a change of it is seen."""

SAME = 0.1
"""Share of a task's records that another task may have too; from there on they are one task under two names."""


class Side(NamedTuple):
    """The records that may be trained on, those that must not, why not by cluster, and how many were repeated."""

    training: Mask
    held: Mask
    excluded: dict[str, str]
    repeated: int


def split(catalogue: Catalogue, wanted: Params) -> Side:
    """The training side and what is held out.

    Raises UserError for an unknown name or where nothing is left to train on, GuardError where a held-out task or
    cluster is on the training side under another name.
    """
    reasons = excluded(catalogue.tasks, wanted.render)
    held = catalogue.of_clusters(reasons)
    training = catalogue.of_sources({name for name, source in wanted.ingest.sources.items() if source.train}) & ~held
    if not training.any():
        raise UserError("render: no record is left to train on: every cluster is held out, related, or train: false")
    names_are_apart(catalogue.tasks_of(training), catalogue.tasks_of(held))
    repeated = catalogue.repeated(training)
    return Side(training & ~repeated, held, reasons, int(repeated.sum()))


def excluded(tasks: list[Task], wanted: Render) -> dict[str, str]:
    """The clusters that must not be trained on, each with what excludes it: a held-out cluster, or a held-out task.

    Raises UserError for a name that no record has, and where the list of held-out tasks cannot be used.
    """
    clusters = {task.cluster for task in tasks}
    guards.all_known(
        [
            ("render.held_out", wanted.held_out, clusters),
            ("render.related", {name for names in wanted.related.values() for name in names}, clusters),
            ("render.weights", wanted.weights, {name for task in tasks for name in task}),
        ]
    )
    listed = held_out_tasks(wanted.held_out_tasks) if wanted.held_out_tasks else {}
    by_task = {task.cluster: listed[plain(task.name)] for task in tasks if plain(task.name) in listed}
    if listed and not by_task:
        raise UserError(f"{wanted.held_out_tasks}: none of its {len(listed)} tasks is in the data")
    return by_task | wanted.excluded()


def held_out_tasks(path: str) -> dict[str, str]:
    """The task names of a list, one a line, by their plain form. Raises UserError where there is no such list."""
    file = Path(path)
    if not file.resolve().is_relative_to(HOME.resolve()):
        raise UserError(f"render.held_out_tasks: {path} must lie in {HOME}, so that a change of it is seen")
    if not file.is_file():
        raise UserError(f"render.held_out_tasks: {path}: no such file")
    try:
        names = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from error
    if not names:
        raise UserError(f"{path}: names no task; write one a line")
    return {plain(name): name for name in names}


def plain(name: str) -> str:
    """A name without case, white space and punctuation: what two spellings of one name share."""
    return re.sub(r"[\W_]+", "", name.casefold())


def names_are_apart(trained: list[Task], held: list[Task]) -> None:
    """No task or cluster that is trained on has the name of a held-out one, however it is spelt."""
    clusters = {plain(task.cluster): task for task in held}
    names = {plain(task.name): task for task in held}
    faults = [
        f"{_called(task)} and {_called(other)}"
        for task in trained
        if (other := clusters.get(plain(task.cluster)) or names.get(plain(task.name)))
    ]
    if faults:
        raise GuardError(
            "what is held out is trained on under another name, the trained one first: " + "; ".join(faults)
            + "; hold both clusters out, or rename the one that is not the same"
        )  # fmt: skip


def contents_are_apart(catalogue: Catalogue, asked: NDArray[np.uint64], training: Mask, held: Mask) -> None:
    """No trained task consists of a held-out task's records; `asked` is a hash of what each record asks.

    Some few records in common are left to decontamination, which drops what a benchmark asks.
    """
    trained = pl.DataFrame({"asked": asked[training], "trained": catalogue.task[training]})
    unseen = pl.DataFrame({"asked": asked[held], "held": catalogue.task[held]}).unique("asked", maintain_order=True)
    shared = trained.join(unseen, on="asked").group_by("trained", "held").len().sort("trained", "held")
    sizes = catalogue.counts(training), catalogue.counts(held)
    faults = [
        f"{_called(catalogue.tasks[one])} has {count} of the records of {_called(catalogue.tasks[other])}"
        for one, other, count in shared.iter_rows()
        if count >= SAME * min(sizes[0][one], sizes[1][other])
    ]
    if faults:
        raise GuardError("what is held out is trained on under another name: " + "; ".join(faults))


def benchmarks_are_apart(benchmarks: Mapping[str, str], trained: list[Task]) -> None:
    """No included benchmark (its name -> its cluster) is of a cluster that is trained on, however it is spelt."""
    by_name = {plain(task.cluster): task.cluster for task in trained}
    faults = [
        f"benchmark {name} is of cluster {by_name[plain(cluster)]!r}, which is trained on"
        for name, cluster in sorted(benchmarks.items())
        if plain(cluster) in by_name
    ]
    if faults:
        raise GuardError("; ".join(faults) + "; add the cluster to render.held_out, or leave the suite out of evaluate")


def _called(task: Task) -> str:
    return f"task {task.name!r} of cluster {task.cluster!r}"
