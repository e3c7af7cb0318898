from pathlib import Path

import pytest
from typer.testing import CliRunner

from tasks.errors import UserError
from tasks.records import write_records
from tasks.render.__main__ import app
from tasks.render.lint import LEAST, Finding, check, lint
from tasks.render.samples import MOST, samples
from tasks.render.templates import BANK, OWN_INSTRUCTION, Template
from tests.data_fixtures import ROOT, record, starter_records

ASK = "Does {{ premise }} imply {{ hypothesis }}"
LONG = "It does not follow from the text at all."
RECORDS = [record(number) for number in range(4)]


def faults(*templates: Template, long: bool = False) -> list[Finding]:
    records = [one._replace(outputs=[LONG], options=[]) for one in RECORDS] if long else RECORDS
    return [found for found in check(templates, records) if found.error]


def direct(prompt: str, completion: str = "{{ output }}", name: str = "one") -> Template:
    return Template(id=name, prompt=prompt, completion=completion)


def inverted(prompt: str, completion: str) -> Template:
    return Template(id="one", kind="inverted", prompt=prompt, completion=completion)


def write(folder: Path, text: str, name: str = "follows.yaml") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize("prompt", [ASK + "{{ '{' }}", ASK + "{% if premise == '}' %}!{% endif %}", ASK + "{# {x #}"])
def test_braces_that_are_meant_are_no_fault(prompt: str) -> None:
    assert faults(direct(prompt)) == []


def test_sound_templates_give_no_finding() -> None:
    other = direct("Say whether this can be concluded: {{ hypothesis }} What is known: {{ premise }}", name="other")
    assert faults(direct(ASK), other) == []


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (direct(ASK + "{{ premisse }}"), "reads `premisse`, which no record of the task has"),
        (direct(ASK + r"\nAnswer:"), "a backslash and an n"),
        (direct(ASK + " { premise }"), "a stray brace in '"),
        (direct("{{ hypothesis }} {{premise}"), "a stray brace in 'pothesis }} {{premise}'"),
        (direct(ASK + " {{ premise }}}"), "a stray brace in '{ premise }}}'"),
        (direct(ASK + "{% if premise %}"), "Unexpected end of template"),
        (direct(ASK + "{{ premise | shout }}"), "No filter named 'shout'"),
        (direct(ASK + "{{ output }}"), "its prompt tells the answer"),
        (direct(ASK, "yes"), "its completion is not the answer"),
        (inverted(ASK, "{{ output }}"), "its completion is the answer"),
        (inverted(ASK + "{{ output }}", "{{ premise }}"), "its prompt tells what it asks for, in record toy/follows/0"),
        (direct(ASK + "{{ premise.__class__.__mro__ }}"), "access to attribute '__class__'"),
        (direct(ASK + "{{ premise.format.__globals__ }}"), "access to attribute '__globals__'"),
        (direct(ASK + "{{ options }}"), "TypeError: a list is no text"),
        (direct(ASK + "{{ options[7] }}"), "list object has no element 7"),
        (direct("{% if not premise %}{{ hypothesis }}{% endif %}"), "record toy/follows/0 gives an empty prompt"),
        (inverted(ASK + "{{ output }}", "{{ premise[:0] }}"), "record toy/follows/0 gives an empty completion"),
        (direct(" \n "), "record toy/follows/0 gives an empty prompt"),
    ],
)
def test_a_faulty_template_gives_one_error_with_its_id(template: Template, fault: str) -> None:
    [found] = [found for found in faults(template) if found.template]
    assert found.template == "one"
    assert fault in found.fault
    assert found.error
    assert found.remedy


def test_an_unknown_field_is_told_with_the_nearest() -> None:
    assert faults(direct(ASK + "{{ premisse }}"))[0].remedy == "did you mean `premise`?"


def test_options_of_a_task_without_them_are_unknown() -> None:
    [found] = faults(direct(ASK + "{{ options_list }}"), long=True)
    assert found.fault == "reads `options_list`, which no record of the task has"


def test_a_field_that_no_template_reads_is_an_error_of_the_file() -> None:
    [found] = faults(direct("Is {{ premise }} so?"))
    assert found == Finding("", "no template reads the field `hypothesis`", "show it: {{ hypothesis }}")


def test_a_long_answer_in_the_wording_is_told_and_one_in_the_record_is_not() -> None:
    [found] = faults(direct(f"{ASK} {LONG}"), long=True)
    assert "its prompt tells what it asks for" in found.fault
    quoting = [one._replace(fields=one.fields | {"premise": f"He said: {LONG}"}, outputs=[LONG]) for one in RECORDS]
    assert not [found for found in check([direct(ASK)], quoting) if found.error]


def test_a_label_that_an_inverted_prompt_names_by_chance_is_no_fault() -> None:
    asking = inverted("{{ hypothesis }} {{ output }}. One of them", "{{ premise }}")
    chance = [
        one._replace(fields=one.fields | {"premise": name})
        for one, name in zip(RECORDS, ["One", "A", "B", "C"], strict=True)
    ]
    assert [found for found in check([asking], chance) if found.template] == []


@pytest.mark.parametrize(
    "doubled",
    [
        ASK,
        "does {{premise}}\n\nimply: {{hypothesis}}?",
        ASK + "\n{{ options_list }}",
        ASK + " And now say it in one word or in at most two.",
    ],
)
def test_the_same_wording_twice_is_an_error(doubled: str) -> None:
    longer = ASK + " And now say it in one word or in at most three."
    found = faults(direct(ASK), direct(doubled, name="two"), direct(longer, name="three"))
    assert [(one.template, one.fault.split(" (")[0]) for one in found] in (
        [("two", "says the same as one")],
        [("three", "says the same as two")],
    )


def test_few_templates_are_a_note() -> None:
    templates = [direct(f"{ASK} {number * 'again '}", name=f"n{number}") for number in range(LEAST)]
    assert [found.fault for found in check(templates, RECORDS) if not found.error] == []
    [found] = [found for found in check(templates[1:], RECORDS) if not found.error]
    assert found.fault == f"{LEAST - 1} templates"


def test_a_task_of_which_no_record_is_known_is_a_note() -> None:
    unknown, _ = check([direct(ASK)], [])
    assert (unknown.fault.split(",")[0], unknown.error) == ("no record of this task is known", False)


def test_a_file_that_cannot_be_read_is_a_finding_and_the_others_are_checked(tmp_path: Path) -> None:
    write(tmp_path, "templates: [{id: a, promt: x}]", "a.yaml")
    write(tmp_path, "templates: [{id: b, prompt: '{ x'}]", "b.yaml")
    found = [(path.name, one.fault) for path, one in lint(tmp_path, {}) if one.error]
    assert [name for name, _ in found] == ["a.yaml", "b.yaml"]
    assert "templates.0.prompt: Field required" in found[0][1]


def test_a_folder_without_template_files_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no template file"):
        list(lint(tmp_path, {}))


def test_the_samples_are_the_ingested_records_some_of_each_task(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    own = record(1, task="mine")._replace(fields={"instruction": "Add.", "input": "1"})
    rows = [*map(record, range(MOST + 20)), record(1, task="rare"), own, own._replace(turns=["Hello."])]
    write_records(tmp_path / "toy" / "records.parquet", rows)
    found = samples(tmp_path, {"follows", "rare"})
    assert (len(found["follows"]), len(found["rare"])) == (MOST, 1)
    assert own in found[OWN_INSTRUCTION]


def test_without_ingested_records_the_starter_s_texts_are_the_samples(tmp_path: Path) -> None:
    found = samples(tmp_path, set())
    for task, records in starter_records().items():
        assert found[task][0].fields.keys() == records[0].fields.keys()
        assert bool(found[task][0].options) == bool(records[0].options)


def test_the_shipped_bank_has_no_finding(tmp_path: Path) -> None:
    assert list(lint(BANK, samples(tmp_path, {path.stem for path in BANK.rglob("*.yaml")}))) == []


def test_the_shipped_bank_has_no_finding_on_the_composed_records() -> None:
    found = list(lint(BANK, starter_records()))
    assert [one for path, one in found if path.stem != OWN_INSTRUCTION] == []


def test_the_command_tells_file_template_fault_and_remedy(tmp_path: Path) -> None:
    bank = write(tmp_path, r"templates: [{id: a, prompt: '{{ premise }} {{ hypothesis }}\n'}]")
    done = CliRunner().invoke(app, ["lint", str(bank)])
    assert done.exit_code == 1
    assert "follows.yaml: a: a backslash and an n" in done.output
    assert "1 files: 1 errors, 1 notes" in done.output


def test_the_command_passes_a_bank_without_errors(tmp_path: Path) -> None:
    bank = write(tmp_path, "templates: [{id: a, prompt: '{{ premise }} {{ hypothesis }}'}]")
    assert CliRunner().invoke(app, ["lint", str(bank)]).exit_code == 0


def test_make_lint_checks_the_bank() -> None:
    assert "python -m tasks.render lint" in (ROOT / "Makefile").read_text(encoding="utf-8")
