"""What a format is."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tasks.ingest.origin import Origin, Row, Usable
from tasks.records import Reject


class Format(NamedTuple):
    """A form that rows come in."""

    name: str
    fits: Callable[[dict[str, Any]], bool]
    """Whether a row has this form; `auto` asks it."""
    convert: Callable[[Row, Origin], Iterator[Usable | Reject]]
    """The records or rejects of a row; a row that holds several instances gives several."""
    read: Callable[[Origin], Iterator[Usable | Reject]] | None = None
    """Reads the whole source by itself, for a form that is not rows in files."""
