"""The linter of template files: what is wrong in them, found before a run and told with the remedy."""

import difflib
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

from tasks.errors import UserError
from tasks.records import Record
from tasks.render.templates import Template, gives_away, missing, read_templates, render
from tasks.sandbox import names_in

ALIKE = 0.9
"""Share of words in common, in order, from which two wordings count as one."""

LEAST = 8
"""Templates of a task; with fewer their wording is learnt by heart, so that fewer get a note."""

_MARKUP = re.compile(r"""{{(?:'[^']*'|"[^"]*"|[^{}'"])*}}|{%.*?%}|{#.*?#}""", re.DOTALL)
"""Jinja2's expressions, with texts that may hold braces, its statements and its comments."""


class Finding(NamedTuple):
    """What is wrong in a template (or in its file, where that is empty) and what would be right."""

    template: str
    fault: str
    remedy: str
    error: bool = True


def lint(folder: Path, samples: Mapping[str, list[Record]]) -> Iterator[tuple[Path, Finding]]:
    """The findings in each template file of `folder`, judged by sample records of each task.

    Raises UserError where the folder holds no template file.
    """
    paths = sorted(folder.rglob("*.yaml"))
    if not paths:
        raise UserError(f"{folder}: no template file; a bank is a folder of CLUSTER/TASK.yaml")
    for path in paths:
        try:
            templates = read_templates(path)
        except UserError as error:
            yield path, Finding("", str(error).removeprefix(f"{path}: "), "write what the message asks for")
            continue
        for finding in check(templates, samples.get(path.stem, [])):
            yield path, finding


def check(templates: Sequence[Template], records: Sequence[Record]) -> Iterator[Finding]:
    """The findings in the templates of one task."""
    for template in templates:
        yield from _written(template)
    yield from _doubled(templates)
    sound = [template for template in templates if not _syntax_fault(template)]
    for template in sound:
        yield from _sides(template)
    if records:
        yield from _fields(sound, records)
        yield from itertools.chain.from_iterable(_rendered(template, records) for template in sound)
    else:
        yield Finding("", "no record of this task is known, so nothing was rendered", "ingest its source first", False)
    if len(templates) < LEAST:
        yield Finding("", f"{len(templates)} templates", f"write {LEAST}, so that no wording is learnt by heart", False)


def _written(template: Template) -> Iterator[Finding]:
    """Faults of the text: marks of line breaks, braces, syntax."""
    text = f"{template.prompt}\n{template.completion}"
    if r"\n" in text:
        remedy = "begin the text with |- and break the line there"
        yield Finding(template.id, r"a backslash and an n (\n) stand in the text", remedy)
    stray = re.search("[{}]", _MARKUP.sub(lambda found: " " * len(found[0]), text))
    if stray:
        before = text[: stray.start()].rpartition("\n")[2][-12:]
        after = text[stray.start() :].partition("\n")[0][:12]
        yield Finding(
            template.id, f"a stray brace in {before + after!r}", "a field is {{ name }}, a brace as such {{ '{' }}"
        )
    elif fault := _syntax_fault(template):
        yield Finding(template.id, fault, "write fields, filters and conditions of Jinja2")


def _syntax_fault(template: Template) -> str:
    try:
        names_in(template.prompt), names_in(template.completion)
    except jinja2.TemplateError as error:
        return str(error)
    return ""


def _sides(template: Template) -> Iterator[Finding]:
    """The answer belongs in the completion of a direct template, and in the prompt of an inverted one."""
    asked, given = names_in(template.prompt), names_in(template.completion)
    if template.kind == "direct" and "output" in asked:
        yield Finding(template.id, "its prompt tells the answer (`output`)", "leave it out, or say kind: inverted")
    if template.kind == "direct" and "output" not in given:
        yield Finding(template.id, "its completion is not the answer", "write {{ output }}, or kind: inverted")
    if template.kind == "inverted" and given <= {"output"}:
        yield Finding(template.id, "its completion is the answer", "write the field to ask for, or kind: direct")


def _fields(templates: Sequence[Template], records: Sequence[Record]) -> Iterator[Finding]:
    """Names that no record has, and fields that no template reads."""
    fields = {name for record in records for name in record.fields}
    known = fields | {"output"} | ({"options", "options_list"} if any(record.options for record in records) else set())
    for template in templates:
        for name in sorted(template.names - known):
            near = difflib.get_close_matches(name, known, n=1)
            remedy = f"did you mean `{near[0]}`?" if near else f"there are {', '.join(sorted(known))}"
            yield Finding(template.id, f"reads `{name}`, which no record of the task has", remedy)
    for name in sorted(fields.difference(*(template.names for template in templates))):
        yield Finding("", f"no template reads the field `{name}`", f"show it: {{{{ {name} }}}}")


def _rendered(template: Template, records: Sequence[Record]) -> Iterator[Finding]:
    """What shows only when the template is filled: it fails, gives no text, or tells what it asks for."""
    fitting = [record for record in records if not missing(record, template)]
    try:
        telling = [record.id for record in fitting if _tells(template, record)]
    except UserError as error:
        fault = str(error).split(": ", 1)[1]
        yield Finding(template.id, fault, "read what every record has, and let every record give a text")
        return
    # A label that an inverted template asks for may stand in its prompt by chance.
    if telling and (template.kind == "direct" or 2 * len(telling) > len(fitting)):
        fault = f"its prompt tells what it asks for, in record {telling[0]} and {len(telling) - 1} more"
        yield Finding(template.id, fault, "leave it out of the prompt")


def _tells(template: Template, record: Record) -> bool:
    prompt, completion = render(record, template).turns
    if template.kind == "inverted":
        return bool(re.search(rf"(?<!\w){re.escape(completion)}(?!\w)", prompt))
    own = [*record.fields.values(), *record.options]
    return gives_away(prompt, completion) and not any(completion in text for text in own)


def _doubled(templates: Sequence[Template]) -> Iterator[Finding]:
    """Pairs of one kind that say the same, whatever case, punctuation and the list of options."""
    for first, second in itertools.combinations(templates, 2):
        alike = difflib.SequenceMatcher(None, _words(first), _words(second), autojunk=False).ratio()
        if first.kind == second.kind and alike >= ALIKE:
            fault = f"says the same as {first.id} ({alike:.0%} of the words)"
            yield Finding(second.id, fault, "word it anew, or leave it out")


def _words(template: Template) -> list[str]:
    return re.findall(r"\w+", re.sub(r"{{ *options_list *}}|{%.*?%}", "", template.prompt.lower(), flags=re.DOTALL))
