"""The files of a source, read in blocks of rows, so that memory stays bounded and every core has work."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from tasks.errors import UserError
from tasks.ingest.containers import hub, json_array, json_lines, parquet, sheet
from tasks.ingest.containers.block import Block, Fault
from tasks.ingest.containers.stream import COMPRESSIONS
from tasks.ingest.origin import Origin, Row, reject
from tasks.records import Reject

_TEXTS: dict[str, Callable[[Path, str], Iterator[Block]]] = {
    ".jsonl": json_lines.blocks,
    ".ndjson": json_lines.blocks,
    ".json": json_array.blocks,
    ".csv": sheet.blocks,
    ".tsv": sheet.blocks,
}

CONTAINERS = {
    **_TEXTS,
    **{text + packed: read for packed in COMPRESSIONS for text, read in _TEXTS.items()},
    ".parquet": parquet.blocks,
    hub.SUFFIX: hub.blocks,
}
"""What the end of a file's name says about how to read it."""


def blocks(origin: Origin) -> Iterator[Block]:
    """The source in blocks, file after file. Raises UserError where a file as a whole cannot be read."""
    for path in find(origin):
        file = path.relative_to(origin.path).as_posix() if path != origin.path else ""
        yield from CONTAINERS[_ending(origin, path)](path, file)


def rows(block: Block, origin: Origin) -> Iterator[Row | Reject]:
    """The rows of a block, or a reject for each row that is no JSON object."""
    name = _stem(block.file or origin.path.name)
    before = f"{block.file}, " if block.file else ""
    for number, value in _values(block, origin):
        place = f"{before}{block.unit} {number}"
        if isinstance(value, dict):
            yield Row(place, value, name)
        elif isinstance(value, Fault):
            yield reject(origin, place, *value)
        else:
            yield reject(origin, place, f"a JSON object is expected, not {type(value).__name__}", value)


def find(origin: Origin) -> list[Path]:
    """The source's files: the one file, or those of the folder that its pattern matches, sorted by their paths.

    Hidden files are passed over. Raises UserError where there is none, or where one lies outside the folder.
    """
    if origin.path.is_file():
        return [origin.path]
    if not origin.path.is_dir():
        raise UserError(f"{origin.path}: no such file (params.yaml, ingest.sources.{origin.name}.path)")
    key = f"params.yaml, ingest.sources.{origin.name}.files"
    if PurePosixPath(origin.files).is_absolute() or ".." in PurePosixPath(origin.files).parts:
        raise UserError(f"{origin.files!r} leaves the folder {origin.path} ({key})")
    try:
        matched = sorted(origin.path.glob(origin.files), key=lambda path: path.relative_to(origin.path).as_posix())
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"{origin.files!r} is no pattern: {error} ({key})") from error
    seen = (path for path in matched if not _is_hidden(path.relative_to(origin.path)))
    found = [path for path in seen if _is_own_file(path, origin.path)]
    if not found:
        raise UserError(f"{origin.path}: no file in this folder matches {origin.files!r} ({key})")
    return found


def _values(block: Block, origin: Origin) -> Iterable[tuple[int, Any]]:
    if not isinstance(block.content, bytes):
        return block.content
    if block.unit == "line":
        return json_lines.parse(block.content, block.first)
    return [(1, json_array.parse_object(origin.path / block.file, block.content))]


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_own_file(path: Path, folder: Path) -> bool:
    """Whether it is a file of the folder; links that lead out, and what can be no data, are refused."""
    try:
        inside = path.resolve(strict=True).is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:
        raise UserError(f"{path}: a link that leads to no file") from error
    if not inside:
        raise UserError(f"{path}: a link out of the folder {folder}; put the file itself there")
    if not path.is_file() and not path.is_dir():
        raise UserError(f"{path}: neither a file nor a folder")
    return path.is_file()


def _ending(origin: Origin, path: Path) -> str:
    ending = _known_ending(path.name)
    if ending is None:
        others = f"; ingest.sources.{origin.name}.files says which files to read" if path != origin.path else ""
        raise UserError(f"{path}: not known how to read it; its name must end in {', '.join(CONTAINERS)}{others}")
    return ending


def _known_ending(name: str) -> str | None:
    fitting = [ending for ending in CONTAINERS if name.lower().endswith(ending)]
    return max(fitting, key=len, default=None)


def _stem(name: str) -> str:
    name = PurePosixPath(name).name
    return name[: -len(_known_ending(name) or "") or None]
