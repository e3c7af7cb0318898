"""JSON lines: one object a line. The lines are cut here and parsed where they become records."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from tasks.ingest.containers import stream
from tasks.ingest.containers.block import Block, Fault

HALF_A_PAIR = re.compile("[\ud800-\udfff]")
"""Half of a surrogate pair: no text, though JSON can write it."""

NO_TEXT = "no valid text: half of a surrogate pair stands alone"


def blocks(path: Path, file: str) -> Iterator[Block]:
    """The file's lines in blocks of about 4 MB."""
    for first, lines in stream.lines(stream.parts(path)):
        yield Block(file, "line", [(first, lines)]) if isinstance(lines, Fault) else Block(file, "line", lines, first)


def parse(lines: bytes, first: int) -> Iterator[tuple[int, Any]]:
    """Each line's number and value, or its fault; blank lines are no rows."""
    for number, line in enumerate(lines.split(b"\n"), start=first):
        try:
            yield number, orjson.loads(line)
        except orjson.JSONDecodeError:
            if line.strip():
                yield number, _parse_slowly(line)


def _parse_slowly(line: bytes) -> Any:
    """What Python's own parser makes of a line, with a message that says what is wrong and where."""
    shown = line.decode("utf-8", errors="replace")
    try:
        value = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Fault(f"not UTF-8: {error.reason} at byte {error.start}", shown)
    except json.JSONDecodeError as error:
        return Fault(f"no valid JSON: {error.msg} at column {error.colno}", shown)
    except (ValueError, RecursionError) as error:
        return Fault(f"cannot be held in memory as JSON: {error}", shown)
    return Fault(NO_TEXT, value) if HALF_A_PAIR.search(json.dumps(value, ensure_ascii=False)) else value
