"""The formats by name. A new format is a file here with a `FORMAT`, and its place in this list."""

from collections.abc import Iterable, Iterator

from tasks import guards
from tasks.ingest import files
from tasks.ingest.formats import alpaca, starter
from tasks.ingest.formats.form import Format
from tasks.ingest.origin import Origin, Usable
from tasks.records import Reject

FORMATS: dict[str, Format] = {form.name: form for form in (starter.FORMAT, alpaca.FORMAT)}
"""In the order in which `auto` tries them: the more particular first."""


def choose(origin: Origin) -> str:
    """The name of the source's format. Raises UserError where it is unknown, or where `auto` fits none."""
    guards.known(f"ingest.sources.{origin.name}.format", [origin.format], [*FORMATS, "auto"])
    return origin.format


def blocks(form: str, origin: Origin) -> Iterable[files.Block | None]:
    """The source in parts that processes can share; a form that reads by itself is one part."""
    return [None] if FORMATS[form].read else files.blocks(origin)


def read(form: str, block: files.Block | None, origin: Origin) -> Iterator[Usable | Reject]:
    """What becomes of each row of a block in this format."""
    if (whole := FORMATS[form].read) is not None:
        yield from whole(origin)
    for row in files.rows(block, origin) if block else ():
        if isinstance(row, Reject):
            yield row
        else:
            yield from FORMATS[form].convert(row, origin)
