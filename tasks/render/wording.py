"""What a record can be asked in: the templates of its task, or one of FLAN's controls without an instruction.

Wei et al. 2021 (arXiv 2109.01652, section 4.3): `none` trains on inputs and outputs only, `name` puts the names of
task and data set before each input.
"""

from collections.abc import Sequence
from functools import cache

from tasks.params import Render
from tasks.records import Record, digest
from tasks.render.templates import Bank, Template

INSTRUCTING = ("instruction", "positive_examples")
"""Fields that tell what to do, as records bring them; all others are input."""


def templates(record: Record, bank: Bank, wanted: Render) -> Sequence[Template]:
    """The templates that one is drawn from; a control has its own.

    Raises UserError where the task has none that fits.
    """
    if wanted.wording == "templates" or record.turns:
        return limited(record.task, bank.for_record(record), wanted)
    return [named(record) if wanted.wording == "name" else bare(record)]


def limited(task: str, fitting: Sequence[Template], wanted: Render) -> Sequence[Template]:
    """The first `wanted.templates` of a task's templates, the direct ones first; fewer are some of more."""
    if wanted.templates is None or len(fitting) <= wanted.templates:
        return fitting
    return sorted(fitting, key=lambda one: (one.kind != "direct", digest([wanted.seed, task, one.id])))[
        : wanted.templates
    ]


def bare(record: Record) -> Template:
    """The record's input alone, one field a line; the instruction where there is no input beside it."""
    return _plain("none", _inputs(record), "")


def named(record: Record) -> Template:
    """The names of cluster and task, and the input."""
    return _plain("name", _inputs(record), f"[{record.cluster}: {record.task}] ".replace("_", " "))


def _inputs(record: Record) -> tuple[str, ...]:
    """The names of the fields that are no instruction and not empty, else of the instruction."""
    told = tuple(name for name, text in record.fields.items() if text.strip() and name not in INSTRUCTING)
    return told or ("instruction",)


@cache
def _plain(name: str, fields: tuple[str, ...], before: str) -> Template:
    return Template(id=name, prompt=before + "\n".join(f"{{{{ {field} }}}}" for field in fields))
