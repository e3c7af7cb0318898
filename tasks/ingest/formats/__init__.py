"""The formats by name. A new format is a file here with a function `read`, and a line in this table."""

from collections.abc import Callable, Iterator

from tasks.ingest.formats import alpaca, starter
from tasks.ingest.origin import Origin, Reject, Usable

Reader = Callable[[Origin], Iterator[Usable | Reject]]

FORMATS: dict[str, Reader] = {"alpaca": alpaca.read, "starter": starter.read}
