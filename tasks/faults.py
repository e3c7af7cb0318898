"""How the faults of params.yaml are told: all of them at once, each at its dotted path, with what would be right."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from tasks.errors import UserError

_UNION_TAGS = ("str", "list[str]")
"""pydantic names the branch of a value of several types in its path, though params.yaml has no such key."""


def told(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """A line for each fault that pydantic found against `schema`, the model of the whole file."""
    # A value of several types gives a fault for each of them; one is enough.
    return list({_path(fault): _describe(fault, schema) for fault in reversed(error.errors())}.values())[::-1]


def refusal(path: Path, faults: list[str]) -> UserError:
    """The error that tells all faults of a file at once."""
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    return UserError("\n  ".join([f"{path}: {count}", *faults]))


def keys(section: type[BaseModel]) -> list[str]:
    """The keys of a section, as they are written in the file."""
    return [field.alias or name for name, field in section.model_fields.items()]


def _path(fault: Any) -> str:
    return ".".join(str(part) for part in fault["loc"] if str(part) not in _UNION_TAGS)


def _describe(fault: Any, schema: type[BaseModel]) -> str:
    where = _path(fault)
    if fault["type"] == "extra_forbidden":
        *sections, key = fault["loc"]
        near = difflib.get_close_matches(str(key), keys(_section_at(sections, schema)), n=1, cutoff=0.5)
        prefix = "".join(f"{part}." for part in sections)
        return f"{where}: unknown" + (f"; did you mean {prefix}{near[0]}?" if near else "")
    if fault["type"] == "missing":
        return f"{where}: missing"
    message = fault["msg"].removeprefix("Value error, ")
    if not where or fault["type"] == "value_error":
        return f"{where}: {message}" if where else message
    return f"{where}: {message} (it is {fault['input']!r})"


def _section_at(location: Sequence[int | str], schema: type[BaseModel]) -> type[BaseModel]:
    """The schema of the section at a dotted path; steps through mappings such as `ingest.sources.NAME`."""
    section = schema
    for part in location:
        fields = {field.alias or name: field for name, field in section.model_fields.items()}
        if part in fields:
            annotation = fields[str(part)].annotation
            candidates = [annotation, *get_args(annotation)]
            section = next(
                (item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)), section
            )
    return section
