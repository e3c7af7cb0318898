"""YAML files that people write: read safely, checked against a type, and refused with the file and the key."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from tasks.errors import UserError

Value = TypeVar("Value")

# libyaml's loader is some ten times as fast as the one in Python, where it is there.
_FASTEST: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_FASTEST):  # type: ignore[misc]
    """Refuses a key that stands twice in a mapping; PyYAML takes the last one in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """The mapping. Raises YAMLError at the second of two equal keys."""
        lines: dict[tuple[str, str], int] = {}
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            line = key.start_mark.line + 1
            if (name := (key.tag, key.value)) in lines:
                raise yaml.YAMLError(f"line {line}: the key {key.value!r} stands in line {lines[name]} already")
            lines[name] = line
        return super().construct_mapping(node, deep)


def read(path: Path) -> Any:
    """The content of a YAML file. Raises UserError where it is no readable YAML."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: no valid YAML: {error}") from error


def read_as(kind: Callable[..., Value], path: Path) -> Value:
    """The content of a YAML file as `kind`. Raises UserError that names each faulty key."""
    try:
        value: Value = _adapter(kind).validate_python(read(path))
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors())
        raise UserError(f"{path}: {faults}") from error
    return value


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)
