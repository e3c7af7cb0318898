"""Format `labelled`: rows of a text and its label, for a task whose wordings stand in the template bank.

The text is in `input`, `text` or `sentence`; the labels to choose from may stand in a list `options` or `labels`, and
`label` is then one of them or its place among them, from 0. Render says where to write the task's template file.
"""

from typing import Any

from tasks.ingest.formats.form import Format, Unusable, first_key, text
from tasks.ingest.origin import Origin, Row
from tasks.records import Record

_TEXTS = ("input", "text", "sentence")
_OPTIONS = ("options", "labels")


def record(row: Row, origin: Origin) -> Record:
    """The record of a row: the field `input`, and the label as the answer."""
    options = _options(row.value)
    fields = {"input": text(row.value, first_key(row.value, _TEXTS))}
    return origin.record(origin.task, origin.cluster, fields, [_label(row.value, options)], options)


def _options(values: dict[str, Any]) -> list[str]:
    name = first_key(values, _OPTIONS)
    options = values.get(name) or []
    if not isinstance(options, list) or not all(isinstance(option, str) and option.strip() for option in options):
        raise Unusable(f"field {name!r} is no list of texts")
    options = [option.strip() for option in options]
    if len(set(options)) < len(options):
        raise Unusable(f"field {name!r} holds an option twice")
    return options


def _label(values: dict[str, Any], options: list[str]) -> str:
    place = values.get("label")
    if options and isinstance(place, int) and not isinstance(place, bool):
        if not 0 <= place < len(options):
            raise Unusable(f"field 'label' is {place}, and there are {len(options)} options")
        return options[place]
    label = text(values, "label")
    if options and label not in options:
        raise Unusable(f"field 'label' is none of the options: {label[:80]!r}")
    return label


FORMAT = Format("labelled", (_TEXTS, ("label",)), record)
