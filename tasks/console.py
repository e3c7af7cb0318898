"""What a stage shows a person: a progress bar while it works, one screen of summary when it ends, and its timing."""

import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tasks import outputs, params, settings

Item = TypeVar("Item")

console = Console(highlight=False, soft_wrap=not sys.stdout.isatty())


def track(items: Iterable[Item], what: str, total: int | None = None) -> Iterator[Item]:
    """Pass `items` on under a progress bar; where no terminal is attached, one line for each tenth."""
    if not console.is_terminal:
        yield from _tenths(items, what, total)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        yield from bar.track(items, total=total, description=what)


def _tenths(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    count = total if total is not None else len(items) if isinstance(items, list) else None
    shown = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        if count and done * 10 // count > (done - 1) * 10 // count and time.monotonic() - shown > 2:
            shown = time.monotonic()
            print(f"{what}: {done} of {count}", flush=True)


def summary(title: str, rows: Mapping[str, object]) -> None:
    """Print the one-screen summary of a stage."""
    table = Table(title=title, show_header=False, title_justify="left", title_style="bold")
    for name, value in rows.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.print(table)


@dataclass
class Timing:
    """A stage's timing; `whole` is false where the run took up what an earlier one had done."""

    whole: bool = True


@contextmanager
def timed(stage: str) -> Iterator[Timing]:
    """Note the stage's wall seconds, peak memory and params in build/timings; never in what the stage declares."""
    start, timing = time.monotonic(), Timing()
    asked = params.dotted(params.load().model_dump(mode="json", by_alias=True))
    yield timing
    if not timing.whole:
        return
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    folder = settings.BUILD / "timings"
    folder.mkdir(parents=True, exist_ok=True)
    outputs.write_json(
        folder / f"{stage}.json",
        {"peak_gib": round(peak, 3), "seconds": round(time.monotonic() - start, 2), "params": asked},
    )
