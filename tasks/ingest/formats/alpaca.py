"""Format `alpaca`: rows of instruction, input (may be missing or empty) and output.

The form of Stanford Alpaca's data file, https://github.com/tatsu-lab/stanford_alpaca.
"""

from collections.abc import Iterator
from typing import Any

from tasks.ingest.formats.form import Format
from tasks.ingest.origin import Origin, Row, Usable, reject
from tasks.records import Reject


def fits(row: dict[str, Any]) -> bool:
    """Whether the row has an instruction and an output."""
    return {"instruction", "output"} <= row.keys()


def convert(row: Row, origin: Origin) -> Iterator[Usable | Reject]:
    """A record, or a reject."""
    fault = _fault(row)
    if fault:
        yield reject(origin, row.place, fault, row.value)
        return
    fields = {"instruction": row.value["instruction"].strip(), "input": (row.value.get("input") or "").strip()}
    yield Usable(row.place, origin.record(origin.task, origin.cluster, fields, [row.value["output"].strip()]))


def _fault(row: Row) -> str | None:
    for name in ("instruction", "output"):
        if name not in row.value:
            return f"no field {name!r}; the row has {', '.join(sorted(row.value)) or 'none'}"
    for name in ("instruction", "input", "output"):
        value = row.value.get(name)
        if value is not None and not isinstance(value, str):
            return f"field {name!r} is {type(value).__name__}, not text"
        if name != "input" and not (value or "").strip():
            return f"field {name!r} is empty"
    return None


FORMAT = Format("alpaca", fits, convert)
