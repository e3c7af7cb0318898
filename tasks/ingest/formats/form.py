"""What a format is, and how formats read the texts of a row."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from tasks.ingest.origin import Origin, Row, Usable
from tasks.records import Record, Reject


class Unusable(Exception):  # noqa: N818 - a verdict on a row, not a fault of the program
    """A row that gives no record; the message is the reason."""


class Format(NamedTuple):
    """A form that rows come in."""

    name: str
    keys: tuple[tuple[str, ...], ...]
    """What a row of this form has: of each group one key at least; `auto` goes by it."""
    record: Callable[[Row, Origin], Record] | None = None
    """The record of a row. Raises Unusable with the reason where it gives none."""
    instances: Callable[[Row], Iterator[Row]] | None = None
    """The parts of a row that holds several records, each with a place of its own. May raise Unusable."""
    whole_file: bool = False
    """Whether a file may be one JSON object, which is then its only row."""
    names_clusters: bool = False
    """Whether a row may say itself of which cluster it is."""
    read: Callable[[Origin], Iterator[Usable | Reject]] | None = None
    """Reads the whole source by itself, for a form that is not rows in files."""

    @property
    def needs(self) -> str:
        """Its keys in words."""
        return ", ".join(" or ".join(group) for group in self.keys)

    def fits(self, row: Mapping[str, Any]) -> bool:
        """Whether a row has this form."""
        return bool(self.keys) and all(any(key in row for key in group) for group in self.keys)


def text(values: Mapping[str, Any], name: str) -> str:
    """The field's text without white space around it. Raises Unusable where it is missing, empty or no text."""
    if name not in values:
        raise Unusable(f"no field {name!r}; the row has {', '.join(sorted(map(str, values))) or 'none'}")
    found = optional(values, name)
    if not found:
        raise Unusable(f"field {name!r} is empty")
    return found


def optional(values: Mapping[str, Any], name: str) -> str:
    """The field's text, empty where it is missing or null. Raises Unusable where it is something else."""
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unusable(f"field {name!r} is {type(value).__name__}, not text")
    return value.strip()


def first_key(values: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The first of the names that the row has; where it has none, the first, which is then missed."""
    return next((name for name in names if name in values), names[0])


def triple(row: Row, origin: Origin, *, context: str, answer: str, **more: Any) -> Record:
    """The record of a row with an instruction, an input in the field `context` and an output in the field `answer`."""
    instruction, output = text(row.value, "instruction"), text(row.value, answer)
    fields = {"instruction": instruction, "input": optional(row.value, context)}
    return origin.record(more.pop("task", origin.task), more.pop("cluster", origin.cluster), fields, [output], **more)


def instances(row: Row, key: str, noun: str = "instance") -> Iterator[Row]:
    """The items of the row's list `key`, each as a row of its own: the item as `noun`, beside the row's other fields.

    Raises Unusable where it is no list or holds nothing.
    """
    items = row.value.get(key)
    if not isinstance(items, list):
        raise Unusable(f"field {key!r} is {type(items).__name__}, not a list of {noun}s")
    if not items:
        raise Unusable(f"field {key!r} is empty")
    shared = {name: value for name, value in row.value.items() if name != key}
    for number, item in enumerate(items, start=1):
        yield Row(f"{row.place}, {noun} {number}", {noun: item, **shared}, row.file)


def part(row: Row, noun: str = "instance") -> dict[str, Any]:
    """The item of a row that `instances` made. Raises Unusable where it is no object."""
    item = row.value[noun]
    if not isinstance(item, dict):
        raise Unusable(f"a JSON object is expected as {noun}, not {type(item).__name__}")
    return item
