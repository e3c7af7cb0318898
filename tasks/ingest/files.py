"""The files of a source, read in blocks of rows, so that memory stays bounded and every core has work."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tasks.errors import UserError
from tasks.ingest.origin import Origin, Row, reject
from tasks.records import Reject

_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Block:
    """A part of a source that one process turns into records."""

    data: bytes
    array: bool


def blocks(origin: Origin) -> Iterator[Block]:
    """The source in blocks. Raises UserError where the file as a whole cannot be read."""
    if not origin.path.is_file():
        raise UserError(f"{origin.path}: no such file (params.yaml, ingest.sources.{origin.name}.path)")
    data = origin.path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    if not data.strip():
        raise UserError(f"{origin.path}: the file is empty")
    yield Block(data, origin.path.suffix != ".jsonl")


def rows(block: Block, origin: Origin) -> Iterator[Row | Reject]:
    """The rows of a block, or a reject for each row that is no JSON object."""
    for place, value in _array(origin, block.data) if block.array else _lines(origin, block.data):
        if isinstance(value, Reject):
            yield value
        elif not isinstance(value, dict):
            yield reject(origin, place, f"a JSON object is expected, not {type(value).__name__}", value)
        elif _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
            yield reject(origin, place, "no valid text: half of a surrogate pair stands alone", value)
        else:
            yield Row(place, value)


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
