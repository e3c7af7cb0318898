"""A file's bytes in parts, decompressed on the way."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from tasks.errors import UserError
from tasks.ingest.containers.block import LONGEST, Fault

COMPRESSIONS = {".gz": "gzip", ".zst": "zstd"}
"""What the last suffix of a compressed file says."""

_PART = 4 * 2**20
_SHOWN = 2_000
_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def parts(path: Path) -> Iterator[bytes]:
    """The text file's bytes, about 4 MB at a time, without a byte order mark.

    Raises UserError where it is empty, broken, or in an encoding that its first bytes tell to be no UTF-8.
    """
    empty = True
    try:
        with pa.input_stream(str(path), compression=COMPRESSIONS.get(path.suffix.lower())) as stream:
            part = stream.read(_PART)
            if (encoding := _MARKS.get(part[:2])) is not None:
                raise UserError(f"{path}: the text is {encoding}; convert the file to UTF-8")
            part = part.removeprefix(b"\xef\xbb\xbf")
            while part:
                empty = empty and part.isspace()
                yield part
                part = stream.read(_PART)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    if empty:
        raise UserError(f"{path}: the file is empty")


def lines(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes | Fault]]:
    """Whole lines, as many as stand in a part, with the number of the first; only a line feed ends a line.

    A line longer than `LONGEST` is passed over and comes as a fault.
    """
    first, rest, overlong = 1, b"", False
    for chunk in chunks:
        cut = chunk.rfind(b"\n") + 1
        head, tail = chunk[:cut], chunk[cut:]
        if overlong and head:
            yield first, _too_long(rest)
            first, rest, overlong = first + 1, b"", False
            head = head[head.index(b"\n") + 1 :]
        if head:
            yield first, rest + head
            first, rest = first + head.count(b"\n"), b""
        if not overlong:
            rest += tail
            if overlong := len(rest) > LONGEST:
                rest = rest[:_SHOWN]
    if rest:
        yield first, _too_long(rest) if overlong else rest


def _too_long(line: bytes) -> Fault:
    return Fault(f"too long: a row of more than {LONGEST // 2**20} MB", line.decode(errors="replace"))
