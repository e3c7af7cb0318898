"""The formats by name. A new format is a file here with a function `read`, and a line in this table."""

from collections.abc import Callable, Iterator

from tasks.ingest.formats import alpaca, starter
from tasks.ingest.origin import Origin, Usable
from tasks.records import Reject

Reader = Callable[[Origin], Iterator[Usable | Reject]]

FORMATS: dict[str, Reader] = {"alpaca": alpaca.read, "starter": starter.read}
