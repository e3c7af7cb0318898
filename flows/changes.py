"""Params as a scheduled run takes them: any value of params.yaml by its name, typed as there, and none of them needed.

Prefect keeps the schema with a deployment: its page makes a form of it, and its server refuses a wrong value before a
run begins.
"""

import copy
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, create_model

from tasks.params import Params


@cache
def optional(section: type[BaseModel]) -> Any:
    """A section, and the sections in it, with every value left out by default."""
    fields: dict[str, Any] = {}
    for name, field in section.model_fields.items():
        kind, own = field.annotation, copy.copy(field)
        own.default, own.default_factory = None, None  # not among the kind's values, so that the form asks for those
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            kind = optional(kind)
        fields[name] = (kind, own)
    config = ConfigDict(extra="forbid", protected_namespaces=())
    return create_model(section.__name__, __config__=config, __doc__=section.__doc__, **fields)


if TYPE_CHECKING:
    Changes = BaseModel
else:
    Changes = optional(Params)


NONE = Changes()
"""The values of params.yaml as they are."""


def told(changes: Changes) -> dict[str, Any]:
    """The values that are given, section by section."""
    return changes.model_dump(mode="json", by_alias=True, exclude_unset=True)
