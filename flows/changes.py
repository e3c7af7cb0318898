"""Params as a scheduled run takes them: any value of params.yaml by its name, typed as there, and none of them needed.

Prefect keeps the schema with a deployment: its page makes a form of it, and its server refuses a wrong value before a
run begins.
"""

import copy
from functools import cache
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, create_model, model_serializer

from tasks.params import Params


def _without_defaults(schema: dict[str, Any]) -> None:
    """The form would send them."""
    for told in schema["properties"].values():
        told.pop("default", None)


class Part(BaseModel):
    """Values of which only those that are given count, in what is written of it too."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=(), json_schema_extra=_without_defaults)

    @model_serializer(mode="wrap")
    def _given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any] | None:
        if not isinstance(self, Part):
            return None  # a section that is not given
        names = {type(self).model_fields[name].alias or name for name in self.model_fields_set}
        return {name: value for name, value in write(self).items() if name in names or name.rstrip("_") in names}


@cache
def optional(section: type[BaseModel]) -> Any:
    """A section, and the sections in it, with every value left out by default."""
    fields: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        own = copy.copy(field)
        own.default, own.default_factory = None, None
        fields[name] = (_kind(field.annotation), own)
    return create_model(section.__name__, __base__=Part, __doc__=section.__doc__, **fields)


def _kind(kind: Any) -> Any:
    """A value's type, or another where the form sends what nobody chose: no for a switch, null for a mapping."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return optional(kind)
    if kind is bool:
        return Literal["true", "false"]
    return kind | None if get_origin(kind) is dict else kind


if TYPE_CHECKING:
    Changes = BaseModel
else:
    Changes = optional(Params)


NONE = Changes()
"""The values of params.yaml as they are."""


def told(changes: Changes) -> dict[str, Any]:
    """The values that are given, section by section; null only where params.yaml may have it."""
    return _possible(Params, changes.model_dump(mode="json", by_alias=True, exclude_unset=True))


def _possible(section: type[BaseModel], values: dict[str, Any]) -> dict[str, Any]:
    found = {}
    for name, field in section.model_fields.items():
        key, kind = field.alias or name, field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel) and values.get(key):
            found[key] = _possible(kind, values[key])
        elif key in values and (values[key] is not None or NoneType in get_args(kind)):
            found[key] = values[key] == "true" if kind is bool else values[key]
    return found
