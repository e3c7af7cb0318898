"""A record: one raw row made uniform; a reject: one that could not be; and the files that hold many of them."""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """One row of a source.

    `fields` are the named texts that a template may use (`instruction` and `input` for a row that brings its
    own instruction; `premise` and `hypothesis` for an inference row). `outputs` are the accepted answers, the
    first of which is trained on. `options` are the answers to choose from; empty when the answer is free text.
    """

    id: str
    task: str
    cluster: str
    source: str
    licence: str
    fields: dict[str, str]
    outputs: list[str]
    options: list[str] = field(default_factory=list)

    @property
    def output(self) -> str:
        """The answer that is trained on."""
        return self.outputs[0]


@dataclass(frozen=True)
class Reject:
    """A row that cannot be used: where it stands (a line, or a row of an array), why, and how it begins."""

    source: str
    place: str
    reason: str
    row: str


def digest(value: object, length: int = 12) -> str:
    """The first `length` hex digits of the SHA-256 over the canonical JSON of `value`."""
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def write_lines(path: Path, rows: Iterable[object]) -> int:
    """Write one JSON object a line to `path` and return how many."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        return sum(bool(file.write(json.dumps(row, ensure_ascii=False) + "\n")) for row in rows)


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write records as JSON lines and return how many."""
    return write_lines(path, (asdict(record) for record in records))


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file that `write_records` wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield Record(**json.loads(line))
