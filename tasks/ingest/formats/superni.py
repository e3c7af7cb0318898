"""Format `superni`: a JSON file is one task with its definition, examples, categories and instances.

The form of Super-NaturalInstructions, https://github.com/allenai/natural-instructions. Each instance is a record with
all its accepted answers; the file's name is the task and the first category the cluster.
"""

from collections.abc import Iterator
from typing import Any

from tasks.ingest import licence
from tasks.ingest.formats.form import Format, Unusable, instances, optional, part, text
from tasks.ingest.origin import Origin, Row
from tasks.records import Record, slug

_EXAMPLES = 2
"""Positive examples that are shown with an instruction, as in the original's prompts."""


def record(row: Row, origin: Origin) -> Record:
    """The record of an instance."""
    instance, task = part(row), row.value
    fields = {"instruction": _first(task, "Definition"), "input": optional(instance, "input")}
    if examples := _examples(task.get("Positive Examples") or []):
        fields["positive_examples"] = examples
    cluster = slug(_first(task, "Categories")) if task.get("Categories") else origin.cluster
    licences = [licence.spdx(name) for name in _texts(task, "Instance License")]
    named: dict[str, Any] = {"licence": " AND ".join(dict.fromkeys(licences))} if licences else {}
    return origin.record(slug(row.file or origin.task), cluster, fields, _outputs(instance), **named)


def every(row: Row) -> Iterator[Row]:
    """The task's instances; their places tell their ids."""
    for each in instances(row, "Instances"):
        item = each.value["instance"]
        known = item.get("id") if isinstance(item, dict) else None
        yield each._replace(place=f"{each.place} ({known})") if isinstance(known, str) else each


def _first(task: dict[str, Any], name: str) -> str:
    """The text of a field, or the first of its list."""
    found = _texts(task, name)
    return text({name: found[0] if found else ""}, name)


def _texts(values: dict[str, Any], name: str) -> list[str]:
    found = values.get(name) or []
    listed = found if isinstance(found, list) else [found]
    if not all(isinstance(item, str) for item in listed):
        raise Unusable(f"field {name!r} is neither text nor a list of texts")
    return listed


def _outputs(instance: dict[str, Any]) -> list[str]:
    accepted = [output.strip() for output in _texts(instance, "output")]
    found = [output for output in dict.fromkeys(accepted) if output]
    if not found:
        raise Unusable("field 'output' is empty")
    return found


def _examples(examples: object) -> str:
    if not isinstance(examples, list) or not all(isinstance(example, dict) for example in examples):
        raise Unusable("field 'Positive Examples' is no list of objects")
    shown = [
        f"Input: {optional(example, 'input')}\nOutput: {', '.join(_texts(example, 'output'))}"
        for example in examples[:_EXAMPLES]
    ]
    return "\n\n".join(shown)


FORMAT = Format("superni", (("Definition",), ("Instances",)), record, every, whole_file=True, names_clusters=True)
