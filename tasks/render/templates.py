"""The template bank: YAML files, one per task, that turn a record into an instruction and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import jinja2
from pydantic import BaseModel, ConfigDict, Field

from tasks import sheets
from tasks.errors import UserError
from tasks.examples import Example
from tasks.params import FewShot, Render
from tasks.records import Record, digest
from tasks.sandbox import names_in, render_text

BANK = Path(__file__).parent / "templates"

OWN_INSTRUCTION = "instruction"
"""The file for records that bring an instruction of their own."""


class Template(BaseModel):
    """One wording of a task. `prompt` may use the record's fields, `output`, `options` and `options_list`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    kind: Literal["direct", "inverted"] = "direct"
    prompt: str
    completion: str = "{{ output }}"

    @cached_property
    def lists_options(self) -> bool:
        """Whether the prompt shows the options to choose from."""
        return bool(names_in(self.prompt) & {"options", "options_list"})

    @cached_property
    def hash(self) -> str:
        """What the template says, as a hash."""
        return digest([self.kind, self.prompt, self.completion])


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    templates: Annotated[list[Template], Field(min_length=1)]


@dataclass(frozen=True)
class Bank:
    """The templates of each task."""

    folder: Path
    templates: dict[str, list[Template]]

    def for_record(self, record: Record) -> list[Template]:
        """The templates that fit a record. Raises UserError where its task has none."""
        own = self.templates.get(record.task)
        if own is None and "instruction" in record.fields:
            own = self.templates[OWN_INSTRUCTION]
        if own is None:
            place = self.folder / record.cluster / f"{record.task}.yaml"
            raise UserError(f"task {record.task!r} has no templates: write {place}")
        fitting = [template for template in own if record.options or not template.lists_options]
        if not fitting:
            raise UserError(f"task {record.task!r}: every template lists options, and record {record.id} has none")
        return fitting


def load_bank(folder: Path = BANK) -> Bank:
    """Read all template files. Raises UserError that names the file and the faulty key."""
    bank: dict[str, list[Template]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        if path.stem in bank:
            raise UserError(f"{path}: another template file is named {path.stem} too; task names are unique")
        bank[path.stem] = _load(path)
    return Bank(folder, bank)


def render(record: Record, template: Template, exemplars: Sequence[Record] = ()) -> Example:
    """The example of a record in a template, with solved exemplars in the same one before it.

    Raises UserError where the template asks for what is not there.
    """
    values: dict[str, object] = {
        **record.fields,
        "output": record.output,
        "options": record.options,
        "options_list": "OPTIONS:\n" + "\n".join(f"- {option}" for option in record.options),
    }
    try:
        prompt, completion = render_text(template.prompt, values), render_text(template.completion, values)
    except jinja2.TemplateError as error:
        fields = ", ".join(sorted(values))
        raise UserError(f"template {record.task}/{template.id}: {error}; a record has {fields}") from error
    identity = f"{record.id}/{template.id}"
    return Example(
        identity,
        record.id,
        record.task,
        record.cluster,
        template.id,
        template.hash,
        template.kind,
        [prompt, completion],
        ["\n".join(render(exemplar, template).turns) for exemplar in exemplars],
        record.system,
    )


def draw_form(seed: int, record: Record, templates: Sequence[Template], wanted: Render) -> Template:
    """One of the templates in the form that is wanted."""
    return draw(seed, record, templates)


def draw(seed: int, record: Record, templates: Sequence[Template]) -> Template:
    """One of the templates, by seed and record alone, so that other records change nothing."""
    return templates[int(digest([seed, record.id, "template"]), 16) % len(templates)]


def draw_exemplars(seed: int, record: Record, pool: Sequence[Record], wanted: FewShot) -> list[Record]:
    """The exemplars of a record: none, or some of the pool other than itself, by seed and record alone."""
    number = int(digest([seed, record.id, "exemplars"]), 16)
    if number % 10_000 >= wanted.share * 10_000:
        return []
    others = sorted(
        (row for row in pool if row.fields != record.fields), key=lambda row: digest([seed, record.id, row.id])
    )
    return others[: 1 + number // 10_000 % wanted.most]


def _load(path: Path) -> list[Template]:
    templates = sheets.read_as(_File, path).templates
    for template in templates:
        try:
            names_in(template.prompt), names_in(template.completion)
        except jinja2.TemplateError as error:
            raise UserError(f"{path}: {template.id}: {error}") from error
    ids = [template.id for template in templates]
    if len(set(ids)) < len(ids):
        raise UserError(f"{path}: a template id stands twice among {', '.join(ids)}")
    return templates
