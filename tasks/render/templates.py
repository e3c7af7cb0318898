"""The template bank: YAML files, one per task, that turn a record into an instruction and its answer."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import jinja2
from pydantic import BaseModel, ConfigDict, Field

from tasks import sheets
from tasks.errors import UserError
from tasks.examples import Example
from tasks.records import Record, digest
from tasks.sandbox import names_in, render_text

BANK = Path(__file__).parent / "templates"

OWN_INSTRUCTION = "instruction"
"""The file for records that bring an instruction of their own."""

LONG_ANSWER = 5
"""Words from which an answer is no label any more, so that it must not stand in what comes before it."""


class Template(BaseModel):
    """One wording of a task. `prompt` may use the record's fields, `output`, `options` and `options_list`."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]
    kind: Literal["direct", "inverted"] = "direct"
    prompt: str
    completion: str = "{{ output }}"

    @cached_property
    def names(self) -> frozenset[str]:
        """The names that the template reads: fields, `output`, `options`, `options_list`."""
        return names_in(self.prompt) | names_in(self.completion)

    @cached_property
    def lists_options(self) -> bool:
        """Whether the prompt shows the options to choose from."""
        return bool(names_in(self.prompt) & {"options", "options_list"})

    @cached_property
    def hash(self) -> str:
        """What the template says, as a hash."""
        return digest([self.kind, self.prompt, self.completion])


CONVERSATION = Template(id="conversation", prompt="")
"""What stands for a template where a record is a conversation: its turns are taken as they are."""


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")
    templates: Annotated[list[Template], Field(min_length=1)]


_Shape = tuple[str, tuple[str, ...], bool, bool]
"""What the fitting templates depend on: a record's task, its fields, whether it has options, and turns."""


@dataclass(frozen=True)
class Bank:
    """The templates of each task."""

    folder: Path
    templates: dict[str, list[Template]]
    _fitting: dict[_Shape, list[Template]] = field(default_factory=dict, compare=False, repr=False)

    def for_record(self, record: Record) -> list[Template]:
        """The templates whose fields the record has. Raises UserError where there is none."""
        shape = (record.task, tuple(record.fields), bool(record.options), bool(record.turns))
        if shape not in self._fitting:
            self._fitting[shape] = self._find(record)
        return self._fitting[shape]

    def _find(self, record: Record) -> list[Template]:
        if record.turns:
            return [CONVERSATION]
        templates = self.templates.get(record.task)
        if templates is None and "instruction" in record.fields:
            templates = self.templates.get(OWN_INSTRUCTION)
        if templates is None:
            place = self.folder / record.cluster / f"{record.task}.yaml"
            raise UserError(f"task {record.task!r} has no templates: write {place}")
        fitting = [template for template in templates if not missing(record, template)]
        if not fitting:
            raise _unfitting(record, templates)
        return fitting


def read_templates(path: Path) -> list[Template]:
    """The templates of a file as they are written. Raises UserError that names the faulty key."""
    return sheets.read_as(_File, path).templates


def load_bank(folder: Path = BANK) -> Bank:
    """Read all template files. Raises UserError that names the file and the faulty key."""
    bank: dict[str, list[Template]] = {}
    for path in sorted(folder.rglob("*.yaml")):
        if path.stem in bank:
            raise UserError(f"{path}: another template file is named {path.stem} too; task names are unique")
        bank[path.stem] = _load(path)
    return Bank(folder, bank)


def missing(record: Record, template: Template) -> frozenset[str]:
    """The names that the template reads and the record has not."""
    options = {"options", "options_list"} if record.options else set()
    return template.names - record.fields.keys() - {"output"} - options


def render(record: Record, template: Template, exemplars: Sequence[Record] = ()) -> Example:
    """The example of a record in a template, after the exemplars in the same template.

    An exemplar that has not the template's fields, or in whose text a long answer of the record stands, is left out.
    A conversation is taken as it is, without exemplars. Raises UserError where the template fails or gives no text.
    """
    if record.turns:
        template, turns, exemplars = CONVERSATION, [*record.turns, record.output], ()
    else:
        turns = _fill(record, template)
    shots = _shots(exemplars, template, turns[-1])
    return Example(
        f"{record.id}/{template.id}",
        record.id,
        record.task,
        record.cluster,
        template.id,
        template.hash,
        template.kind,
        turns,
        list(shots.values()),
        record.system,
        list(shots),
    )


def gives_away(text: str, answer: str) -> bool:
    """Whether an answer that is too long to stand there by chance stands in the text."""
    return len(answer.split()) >= LONG_ANSWER and answer in text


def _fill(record: Record, template: Template) -> list[str]:
    """The prompt and the completion. Raises UserError where the template fails or leaves one of them empty."""
    values: dict[str, object] = {**record.fields, "output": record.output, "options": record.options}
    if "options_list" in template.names:
        values["options_list"] = "OPTIONS:\n" + "\n".join(f"- {option}" for option in record.options)
    try:
        turns = [render_text(template.prompt, values), render_text(template.completion, values)]
    except jinja2.TemplateError as error:
        fields = ", ".join(sorted(values))
        raise UserError(f"template {record.task}/{template.id}: {error}; a record has {fields}") from error
    if not all(turns):
        empty = "completion" if turns[0] else "prompt"
        raise UserError(f"template {record.task}/{template.id}: record {record.id} gives an empty {empty}")
    return turns


def _shots(exemplars: Sequence[Record], template: Template, answer: str) -> dict[str, str]:
    """The rendered exemplars by their records' ids, in order."""
    fitting = (one for one in exemplars if not one.turns and not missing(one, template))
    shots = {one.id: "\n".join(_fill(one, template)) for one in fitting}
    return {name: shot for name, shot in shots.items() if not gives_away(shot, answer)}


def _unfitting(record: Record, templates: Sequence[Template]) -> UserError:
    nearest = min(templates, key=lambda template: len(missing(record, template)))
    wanted = ", ".join(sorted(missing(record, nearest)))
    return UserError(
        f"task {record.task!r}: none of its {len(templates)} templates fits record {record.id}:"
        f" {nearest.id!r} comes nearest and needs {wanted}; the record has {', '.join(sorted(record.fields))}"
        f"{' and options' if record.options else ' and no options'}"
    )


def _load(path: Path) -> list[Template]:
    templates = read_templates(path)
    for template in templates:
        try:
            names_in(template.prompt), names_in(template.completion)
        except jinja2.TemplateError as error:
            raise UserError(f"{path}: {template.id}: {error}") from error
    ids = [template.id for template in templates]
    if len(set(ids)) < len(ids):
        raise UserError(f"{path}: a template id stands twice among {', '.join(ids)}")
    return templates
