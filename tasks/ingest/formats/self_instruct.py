"""Format `self_instruct`: rows of a task's name, its instruction and instances of input and output.

The form of Self-Instruct's seed tasks, https://github.com/yizhongw/self-instruct. Each instance is a record.
"""

import functools

from tasks.ingest.formats.form import Format, instances, optional, part, text
from tasks.ingest.origin import Origin, Row
from tasks.records import Record, slug


def record(row: Row, origin: Origin) -> Record:
    """The record of an instance; its task is the row's name."""
    instance = part(row)
    fields = {"instruction": text(row.value, "instruction"), "input": optional(instance, "input")}
    return origin.record(slug(text(row.value, "name")), origin.cluster, fields, [text(instance, "output")])


FORMAT = Format(
    "self_instruct",
    (("name",), ("instruction",), ("instances",)),
    record,
    functools.partial(instances, key="instances"),
)
