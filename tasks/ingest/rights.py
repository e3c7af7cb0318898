"""Rights in the data: which licences may be trained on, and which records must not be used any more.

What is forgotten stands in a file in git that every source depends on, so the next run leaves it out and everything
after it runs again. Persons stand there as digests: a reader sees no name, and who knows a name can still check it.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow.parquet as pq
import yaml
from pydantic import BaseModel, ConfigDict

from tasks import outputs, sheets
from tasks.errors import UserError
from tasks.ingest.origin import Origin
from tasks.records import Record, content_of, person_digest

FORGOTTEN = Path("tasks/ingest/forgotten.yaml")

_HEAD = (
    "# What no run may use any more: ids of records, and digests of persons' names.\n"
    "# `python -m tasks.ingest forget` adds to it; commit it.\n"
)

AFTERWARDS = """\
{count:,} records of the last run are forgotten; {path} says so, commit it.
- The next run (make run) leaves them out, and all that was made from them is made anew.
- Which registered versions trained on them: python -m tasks.register trained-on{names}
  Those versions are as they were, until you delete them in MLflow.
- DVC's cache still holds the old bytes. When every branch that needs them is gone: dvc gc --workspace
  (dvc gc --workspace --cloud for the remote). It deletes what the checked-out dvc.lock does not name.
- The source's own file is yours: delete the rows there too."""
"""What `forget` tells; the parts are the count, the file and the options to ask with."""


NOTHING = """\
No record of the last run is meant by{names}: is it spelt right, and does `person` of its source name the field?
{path} holds it now, for runs to come; take it out there if it was a slip."""
"""What `forget` tells where the last run holds nothing of what was asked for."""


class ForgottenFile(BaseModel):
    """The file of what is forgotten."""

    model_config = ConfigDict(extra="forbid")
    records: list[str] = []
    persons: list[str] = []


class Forgotten(NamedTuple):
    """The contents of the forgotten records' ids, and the digests of persons."""

    contents: frozenset[str]
    persons: frozenset[str]

    @classmethod
    def of(cls, ids: Iterable[str], persons: Iterable[str]) -> "Forgotten":
        """Records by their ids, and persons by their names."""
        return cls(frozenset(map(content_of, ids)), frozenset(map(person_digest, persons)))

    def __bool__(self) -> bool:
        return bool(self.contents or self.persons)

    def reason(self, record: Record) -> str | None:
        """Why a record is left out. The same text under another source or task is left out with it."""
        if content_of(record.id) in self.contents:
            return "forgotten: by id"
        return "forgotten: by person" if record.person in self.persons else None


def load(path: Path = FORGOTTEN) -> Forgotten:
    """What is forgotten. Raises UserError where the file is wrong."""
    listed = _read(path)
    return Forgotten(frozenset(map(content_of, listed.records)), frozenset(listed.persons))


def forget(ids: Iterable[str], persons: Iterable[str], path: Path = FORGOTTEN) -> None:
    """Add records and persons to the file. Raises UserError where an id has not the form of one."""
    wanted = list(ids)
    for name in wanted:
        if name.count("/") < 2 or not _is_digest(content_of(name)):
            raise UserError(f"--id {name}: no id of a record; it is SOURCE/TASK/ and 16 hex digits")
    listed = _read(path)
    merged = {
        "records": sorted({*listed.records, *wanted}),
        "persons": sorted({*listed.persons, *map(person_digest, persons)}),
    }
    with outputs.whole(path) as scratch:
        scratch.write_text(_HEAD + yaml.safe_dump(merged, sort_keys=False), encoding="utf-8")


def affected(folder: Path, forgotten: Forgotten) -> Iterator[str]:
    """The ids of the records below `folder`, as the last run wrote them, that `forgotten` means."""
    for path in sorted(folder.glob("*/records.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(columns=["id", "person"]):
                frame = pl.DataFrame(batch)
                for identity, person in frame.iter_rows():
                    if content_of(identity) in forgotten.contents or person in forgotten.persons:
                        yield identity


def check_licences(origin: Origin, counts: Mapping[str, int], examples: Mapping[str, str], allowed: list[str]) -> None:
    """Raises UserError where records are under a licence that is not allowed, all such licences at once.

    `counts` are records and `examples` an id by licence. SPDX ids are compared without case, as SPDX 2.3 annex D says.
    """
    known = {name.casefold() for name in allowed}
    faults = [
        f"  {licence}: {count:,} record{'s' if count > 1 else ''}, for instance {examples[licence]}"
        for licence, count in sorted(counts.items())
        if licence.casefold() not in known
    ]
    if faults:
        raise UserError(
            f"{origin.path}: source {origin.name} has records under a licence that may not be trained on\n"
            + "\n".join(faults)
            + f"\nName it in params.yaml (ingest.sources.{origin.name}.licence) where the rows do not say it,"
            " or list it in ingest.licences.allow\nafter reading what it asks for."
        )


def _read(path: Path) -> ForgottenFile:
    return sheets.read_as(ForgottenFile, path) if path.is_file() else ForgottenFile()


def _is_digest(text: str) -> bool:
    return len(text) == 16 and set(text) <= set("0123456789abcdef")
