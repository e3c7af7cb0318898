"""Jinja2 in its sandbox: the only way in which this project turns a template into text."""

import re
from functools import cache

from jinja2 import StrictUndefined, Template, TemplateError, TemplateRuntimeError, Undefined, meta
from jinja2.runtime import new_context
from jinja2.sandbox import ImmutableSandboxedEnvironment


def _printable(value: object) -> object:
    """A value that has a text of its own; of any other, Python would print how it is kept."""
    if not isinstance(value, str | int | float | Undefined):
        raise TypeError(f"a {type(value).__name__} is no text; join its parts, or name one")
    return value


_ENVIRONMENT = ImmutableSandboxedEnvironment(undefined=StrictUndefined, finalize=_printable)


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

    Raises jinja2.TemplateError for a syntax error, an unknown name, an unsafe or a failing operation.
    """
    if "{" not in source:
        return source.strip()
    value = values.get(_lone_name(source))
    return (value if isinstance(value, str) else _run(compile_text(source), values)).strip()


@cache
def _lone_name(source: str) -> str:
    """The name, where a template is nothing but one (`{{ output }}`), so that it need not run; else nothing."""
    found = re.fullmatch(r"\{\{ *(\w+) *\}\}", source)
    return found[1] if found else ""


def _run(template: Template, values: dict[str, object]) -> str:
    """The text of a template without Jinja's globals: a context that knows of them looks them all through first."""
    context = new_context(_ENVIRONMENT, template.name, template.blocks, values, shared=True)
    try:
        return "".join(template.root_render_func(context))
    except TemplateError:
        raise
    except Exception as error:  # whatever an expression in a template does wrong: 1 / 0, a text plus a number
        raise TemplateRuntimeError(f"{type(error).__name__}: {error}") from error


def holds(condition: str, values: dict[str, object]) -> bool:
    """Whether a boolean expression, for instance `a > b`, is true of `values`."""
    return bool(_ENVIRONMENT.compile_expression(condition, undefined_to_none=False)(values))
