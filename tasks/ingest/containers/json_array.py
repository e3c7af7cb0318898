"""A JSON file: an array of rows, parsed as it streams through a window, or one object that is the whole file."""

import codecs
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.errors import UserError
from tasks.ingest.containers import stream
from tasks.ingest.containers.block import LONGEST, Block, Fault, batches
from tasks.ingest.containers.json_lines import HALF_A_PAIR, NO_TEXT

_DECODER = json.JSONDecoder()
_SPACE = re.compile(r"[ \t\n\r]*")
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")
_LITERAL = len("-Infinity")


def blocks(path: Path, file: str) -> Iterator[Block]:
    """The array's rows in blocks, or the object as one block.

    Raises UserError with line and column where it is no JSON.
    """
    chunks = stream.parts(path)
    first = next(chunks)
    chunks = itertools.chain([first], chunks)
    if first.lstrip()[:1] == b"[":
        yield from batches(_rows(_Window(path, chunks)), file, "row")
    else:
        yield Block(file, "object", _whole(path, chunks))


def parse_object(path: Path, data: bytes) -> object:
    """The value of a file that is no array. Raises UserError where it is no JSON."""
    window = _Window(path, iter([data]))
    value, _ = window.value()
    if window.peek():
        raise window.fault("Extra data; is it one object a line? then name it .jsonl")
    if not isinstance(value, dict | Fault):
        raise no_array(path, value)
    return value


def no_array(path: Path, value: object) -> UserError:
    """What is wrong with a file that holds one value where rows are expected."""
    kind = type(value).__name__
    return UserError(f"{path}: a JSON array of rows is expected, not {kind}; one object a line is .jsonl")


def _whole(path: Path, chunks: Iterator[bytes]) -> bytes:
    data = b""
    for chunk in chunks:
        data += chunk
        if len(data) > LONGEST:
            raise UserError(
                f"{path}: one JSON object of more than {LONGEST // 2**20} MB;"
                " is it one object a line? then name it .jsonl"
            )
    return data


def _rows(window: "_Window") -> Iterator[tuple[int, object, int]]:
    """Number, value and size of each row of the array."""
    window.take()
    if window.peek() == "]":
        window.take()
    else:
        for number in itertools.count(1):
            yield number, *window.value()
            if (mark := window.peek()) not in (",", "]"):
                raise window.fault("Expecting ',' delimiter")
            window.take()
            if mark == "]":
                break
    if window.peek():
        raise window.fault("Extra data after the array")


class _Window:
    """The part of a JSON text that is in memory, and where in the file it stands."""

    def __init__(self, path: Path, chunks: Iterator[bytes]) -> None:
        self._path, self._chunks = path, chunks
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at = "", 0
        self._line, self._column = 1, 1
        self._ended = False

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            self._at = _SPACE.match(self._text, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._text) or not self._more():
                return self._text[self._at : self._at + 1]

    def take(self) -> None:
        """Pass over the next character."""
        self.peek()
        self._at += 1

    def value(self) -> tuple[object, int]:
        """The next value, or its fault, and its length. Raises UserError where there is none."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if self._is_broken(error) or not self._more():
                    raise self.fault(error.msg, error.pos) from error
            except (ValueError, RecursionError) as error:
                raise UserError(f"{self._place(self._at)}: cannot be held in memory as JSON: {error}") from error
            else:
                # A number may go on in the next part of the file.
                if end < len(self._text) or not self._more():
                    return self._pass(value, end)

    def fault(self, message: str, at: int | None = None) -> UserError:
        """What is wrong, with line and column; here, where `at` does not say."""
        return UserError(f"{self._place(self._at if at is None else at)}: {message}")

    def _pass(self, value: object, end: int) -> tuple[object, int]:
        start, self._at = self._at, end
        escaped = _ESCAPED.search(self._text, start, end)
        if escaped and HALF_A_PAIR.search(json.dumps(value, ensure_ascii=False)):
            value = Fault(NO_TEXT, value)
        return value, end - start

    def _is_broken(self, error: json.JSONDecodeError) -> bool:
        """Whether more of the file could not mend it: it is no string and no literal that breaks off at the end."""
        return error.pos + _LITERAL < len(self._text) and not error.msg.startswith("Unterminated string")

    def _more(self) -> bool:
        """Read on in the file, and forget what was passed; False at its end."""
        if self._ended:
            return False
        if len(self._text) - self._at > LONGEST:
            raise self.fault(f"too long: a row of more than {LONGEST // 2**20} MB begins here")
        chunk = next(self._chunks, None)
        self._ended = chunk is None
        self._line, self._column = self._position(self._at)
        self._text, self._at = self._text[self._at :], 0
        try:
            self._text += self._decoder.decode(chunk or b"", final=self._ended)
        except UnicodeDecodeError as error:
            line = self._line + self._text.count("\n") + error.object[: error.start].count(b"\n")
            raise UserError(
                f"{self._path}: line {line}: not UTF-8 ({error.reason}); convert the file to UTF-8"
            ) from error
        return True

    def _position(self, at: int) -> tuple[int, int]:
        breaks = self._text.count("\n", 0, at)
        if breaks:
            return self._line + breaks, at - self._text.rfind("\n", 0, at)
        return self._line, self._column + at

    def _place(self, at: int) -> str:
        line, column = self._position(at)
        return f"{self._path}: line {line}, column {column}"
