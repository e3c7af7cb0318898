"""Where rows come from, what becomes of one, and how rows are read from a JSON or JSON-lines file."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.records import Record, Reject, digest

_SURROGATE = re.compile("[\ud800-\udfff]")

_SHOWN = 500
"""Characters of a rejected row that are kept with the reason."""


@dataclass(frozen=True)
class Origin:
    """A source as a format reads it: its name, path, seed, and the cluster and licence of rows that name none."""

    name: str
    path: Path
    cluster: str
    licence: str
    seed: int = 0

    def record(
        self, task: str, cluster: str, fields: dict[str, str], outputs: list[str], options: list[str] | None = None
    ) -> Record:
        """A record of this source; its id depends on what it says, not on where in the source it stands."""
        identity = digest([fields, outputs, sorted(options or [])])
        return Record(
            f"{self.name}/{task}/{identity}", task, cluster, self.name, self.licence, fields, outputs, options or []
        )


@dataclass(frozen=True)
class Usable:
    """A row that became a record, and its place."""

    place: str
    record: Record


@dataclass(frozen=True)
class Row:
    """A parsed row and its place."""

    place: str
    value: dict[str, Any]


def read_rows(origin: Origin) -> Iterator[Row | Reject]:
    """The rows of a JSON array or a JSON-lines file (`.jsonl`), or a reject for each row that is no JSON object.

    Raises UserError where the file as a whole cannot be read.
    """
    if not origin.path.is_file():
        raise UserError(f"{origin.path}: no such file (params.yaml, ingest.sources.{origin.name}.path)")
    data = origin.path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise UserError(f"{origin.path}: the file is empty")
    rows = _lines(origin, data) if origin.path.suffix == ".jsonl" else _array(origin, data)
    for place, value in rows:
        if isinstance(value, Reject):
            yield value
        elif not isinstance(value, dict):
            yield reject(origin, place, f"a JSON object is expected, not {type(value).__name__}", value)
        elif _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            yield reject(origin, place, "no valid text: half of a surrogate pair stands alone", value)
        else:
            yield Row(place, value)


def reject(origin: Origin, place: str, reason: str, value: object) -> Reject:
    """A rejected row of `origin`."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Reject(origin.name, place, reason, text[:_SHOWN].encode(errors="replace").decode())


def _array(origin: Origin, data: bytes) -> Iterator[tuple[str, object]]:
    try:
        values = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise UserError(f"{origin.path}: line {line}: not UTF-8 ({error.reason}); convert the file to UTF-8") from error
    except json.JSONDecodeError as error:
        hint = "; is it one object a line? then name it .jsonl" if error.msg == "Extra data" else ""
        raise UserError(f"{origin.path}: line {error.lineno}, column {error.colno}: {error.msg}{hint}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin.path}: cannot be held in memory as JSON: {error}") from error
    if not isinstance(values, list):
        kind = type(values).__name__
        raise UserError(f"{origin.path}: a JSON array of rows is expected, not {kind}; one object a line is .jsonl")
    yield from ((f"row {number}", value) for number, value in enumerate(values, start=1))


def _lines(origin: Origin, data: bytes) -> Iterator[tuple[str, object]]:
    for number, line in enumerate(data.split(b"\n"), start=1):
        place = f"line {number}"
        if not line.strip():
            continue
        try:
            yield place, json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            shown = line.decode("utf-8", errors="replace")
            yield place, reject(origin, place, f"not UTF-8: {error.reason} at byte {error.start}", shown)
        except json.JSONDecodeError as error:
            shown = line.decode("utf-8")
            yield place, reject(origin, place, f"no valid JSON: {error.msg} at column {error.colno}", shown)
        except (ValueError, RecursionError) as error:
            yield place, reject(origin, place, f"cannot be held in memory as JSON: {error}", line.decode("utf-8"))
