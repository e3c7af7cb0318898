"""Jinja2 in its sandbox: the only way in which this project turns a template into text."""

from functools import cache

from jinja2 import StrictUndefined, Template, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined)


@cache
def compile_text(source: str) -> Template:
    """A template, compiled once for each source; an unknown name raises when it renders."""
    return _ENVIRONMENT.from_string(source)


@cache
def names_in(source: str) -> frozenset[str]:
    """The names that a template reads."""
    if "{" not in source:
        return frozenset()
    return frozenset(meta.find_undeclared_variables(_ENVIRONMENT.parse(source)))


def render_text(source: str, values: dict[str, object]) -> str:
    """`source` filled with `values`, without white space around it.

    Raises jinja2.TemplateError for a syntax error, an unknown name or an unsafe operation.
    """
    return (compile_text(source).render(values) if "{" in source else source).strip()


def holds(condition: str, values: dict[str, object]) -> bool:
    """Whether a boolean expression, for instance `a > b`, is true of `values`."""
    return bool(_ENVIRONMENT.compile_expression(condition, undefined_to_none=False)(values))
