"""Format `prompt_response`: rows of a prompt and its response or completion, taken as they are."""

from tasks.ingest.formats.form import Format, first_key, text
from tasks.ingest.origin import Origin, Row
from tasks.records import Record

_ANSWERS = ("response", "completion")


def record(row: Row, origin: Origin) -> Record:
    """The record of a row: the prompt is the instruction."""
    fields = {"instruction": text(row.value, "prompt"), "input": ""}
    return origin.record(origin.task, origin.cluster, fields, [text(row.value, first_key(row.value, _ANSWERS))])


FORMAT = Format("prompt_response", (("prompt",), _ANSWERS), record)
