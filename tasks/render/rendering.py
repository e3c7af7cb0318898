"""Chosen records as examples, row group by row group in processes of their own."""

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import polars as pl

from tasks import examples, parallel, tables
from tasks.examples import Example
from tasks.params import Render
from tasks.records import Record, from_frame, read_records
from tasks.render import draws, templates, wording
from tasks.render.catalogue import Catalogue, Group, Mask
from tasks.render.templates import Bank

POOL = 48
"""Training records of a task from which its exemplars are drawn: the first ones by key."""

Pools = dict[tuple[str, str], list[Record]]
"""Exemplars by cluster and task."""


def rendered(catalogue: Catalogue, chosen: Mask, exemplars: Path, wanted: Render) -> Iterator[pl.DataFrame]:
    """The chosen records as examples, in the catalogue's order, in tables with the columns of an examples file."""
    work = functools.partial(_render, wanted=wanted)
    return parallel.ordered(work, catalogue.parts(chosen), read=_read, files={"exemplars": exemplars})


def exemplars(catalogue: Catalogue, training: Mask, wanted: Render) -> Iterator[Record]:
    """The records from which exemplars are drawn: of the training side alone, and none where none are wanted."""
    most = np.full(len(catalogue.tasks), POOL if wanted.few_shot.share else 0)
    return catalogue.records(catalogue.first(training, most))


def pooled(exemplars: Iterable[Record]) -> Pools:
    """The exemplars of each task."""
    pools: Pools = defaultdict(list)
    for record in exemplars:
        pools[record.cluster, record.task].append(record)
    return dict(pools)


def example(record: Record, bank: Bank, wanted: Render, pool: list[Record]) -> Example:
    """The record in one of its templates and with its exemplars, both drawn by seed."""
    template = draws.draw_form(wanted.seed, record, wording.templates(record, bank, wanted), wanted)
    return templates.render(record, template, draws.draw_exemplars(wanted.seed, record, pool, wanted.few_shot))


def _read(part: tuple[Group, Mask]) -> pl.DataFrame:
    """The chosen records of a row group."""
    group, chosen = part
    return tables.read_group(group.path, group.number).filter(chosen)


def _render(records: pl.DataFrame, exemplars: Path, wanted: Render) -> pl.DataFrame:
    """Records as examples; runs in a process of its own."""
    bank, pools = _bank(), _pools(exemplars)
    rows = [example(row, bank, wanted, pools.get((row.cluster, row.task), [])) for row in from_frame(records)]
    return examples.to_frame(rows)


@cache
def _bank() -> Bank:
    return templates.load_bank()


@cache
def _pools(path: Path) -> Pools:
    return pooled(read_records(path))
