"""Format `alpaca`: rows of instruction, input (may be missing or empty) and output, as a JSON array or JSON lines.

The form of Stanford Alpaca's data file, https://github.com/tatsu-lab/stanford_alpaca.
"""

from collections.abc import Iterator

from tasks.ingest.origin import Origin, Row, Usable, read_rows, reject
from tasks.records import Reject


def read(origin: Origin) -> Iterator[Usable | Reject]:
    """A record or a reject for each row. Raises UserError where the file cannot be read."""
    for row in read_rows(origin):
        if isinstance(row, Reject):
            yield row
            continue
        fault = _fault(row)
        if fault:
            yield reject(origin, row.place, fault, row.value)
            continue
        fields = {"instruction": row.value["instruction"].strip(), "input": (row.value.get("input") or "").strip()}
        output = row.value["output"].strip()
        yield Usable(row.place, origin.record(origin.name, origin.cluster, fields, [output]))


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
