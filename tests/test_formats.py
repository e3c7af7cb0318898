"""Each format on a small file of its own in tests/golden, beside what a model would be shown of it.

After a change that is meant, `python -m tests.test_formats` writes the golden files anew; read their difference.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import UserError
from tasks.ingest import files, formats, licence
from tasks.ingest.formats import FORMATS
from tasks.ingest.formats.form import Format
from tasks.ingest.origin import Origin, Usable
from tasks.records import Record, Reject, person_digest, slug
from tasks.render.templates import Template, load_bank, render
from tests.data_fixtures import ROOT

GOLDEN = ROOT / "tests" / "golden"
FILES = sorted(path for path in GOLDEN.iterdir() if path.suffix != ".txt")
PLAIN = Template(id="plain", prompt="{{ instruction }}{% if input %}\n\n{{ input }}{% endif %}")
LABELLED = Template(id="labelled", prompt="{{ input }}\n{% if options %}{{ options_list }}{% endif %}")


def origin(path: Path, **more: Any) -> Origin:
    return Origin("made", path, "own", "CC0-1.0", task="made", **more)


def results(path: Path, **more: Any) -> list[Usable | Reject]:
    source = origin(path, **more)
    form = formats.choose(source)
    return [item for block in formats.blocks(form, source) for item in formats.read(form, block, source)]


def write(folder: Path, content: str, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8")
    return path


def conversation(folder: Path, *roles: str, **more: Any) -> Usable | Reject:
    said = ", ".join(f'{{"from": "{role}", "value": "{number} {role}"}}' for number, role in enumerate(roles))
    [result] = results(write(folder, f'{{"conversations": [{said}]}}\n'), **more)
    return result


def shown(item: Usable | Reject) -> Iterator[str]:
    """What a reader of the golden file reviews."""
    if isinstance(item, Reject):
        yield f"### {item.place}: REJECTED: {item.reason}"
        return
    record = item.record
    yield f"### {item.place}: {record.cluster} / {record.task} ({record.licence})"
    for speaker, text in turns(record):
        yield f"[{speaker}] {text}"
    yield from (f"[also accepted] {text}" for text in record.outputs[1:])
    yield from (
        f"[field {name}] {text}" for name, text in record.fields.items() if name not in ("instruction", "input")
    )


def turns(record: Record) -> Iterator[tuple[str, str]]:
    if record.system:
        yield "system", record.system
    said = [*record.turns, record.output]
    if not record.turns:
        example = render(record, PLAIN if "instruction" in record.fields else LABELLED)
        said = [example.prompt, example.completion]
    yield from zip(["user", "assistant"] * len(said), said, strict=False)


def golden(path: Path) -> str:
    return "\n".join(line for item in results(path) for line in shown(item)) + "\n"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_a_model_is_shown_of_a_format_is_what_was_reviewed(path: Path) -> None:
    assert golden(path) == path.with_suffix(".txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_auto_takes_the_format_and_says_why(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert formats.choose(origin(path)) == path.stem
    assert capsys.readouterr().out.startswith(f"format {path.stem}: ")


def test_every_format_of_rows_has_a_golden_file() -> None:
    assert {path.stem for path in FILES} == {name for name, form in FORMATS.items() if form.keys}


def test_where_no_format_fits_the_keys_of_each_are_told_and_the_nearest_is_first(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"has question, response, and .* nearest first:\n  \w+: \w+, response"
    ) as error:
        formats.choose(origin(write(tmp_path, '{"question": "a", "response": "b"}\n')))
    assert all(f"  {name}: {form.needs}" in str(error.value) for name, form in FORMATS.items() if form.keys)


def test_auto_on_rows_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no row of it can be read.*ingest\.sources\.made\.format"):
        formats.choose(origin(write(tmp_path, "{\n[]\n")))


def test_auto_takes_what_most_rows_fit(tmp_path: Path) -> None:
    rows = '{"messages": []}\n' + 2 * '{"prompt": "a", "response": "b"}\n'
    assert formats.choose(origin(write(tmp_path, rows))) == "prompt_response"


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_a_row_lacking_one_key_does_not_fit(form: Format) -> None:
    full = {group[0]: "" for group in form.keys}
    assert form.fits(full) == bool(full)
    assert not any(form.fits({key: "" for key in full if key != missing}) for missing in full)


@pytest.mark.parametrize(
    ("roles", "reason"),
    [
        (("gpt", "human", "gpt"), "turns: the conversation begins with the assistant"),
        (("human", "gpt", "human"), "turns: the conversation ends with the user, and nothing answers"),
        (("human", "human", "gpt"), "turns: user speaks twice in a row, at turn 2"),
        (("human", "gpt", "gpt"), "turns: assistant speaks twice in a row, at turn 3"),
        (("human", "gpt", "system", "human", "gpt"), "turns: a system message stands after the first turn"),
        (("system",), "turns: there are none"),
    ],
)
def test_a_conversation_that_cannot_be_used_is_rejected_whole(
    tmp_path: Path, roles: tuple[str, ...], reason: str
) -> None:
    result = conversation(tmp_path, *roles)
    assert isinstance(result, Reject)
    assert result.reason == reason


def test_a_question_with_its_answer_has_no_turns_and_a_longer_conversation_has(tmp_path: Path) -> None:
    single, longer = conversation(tmp_path, "human", "gpt"), conversation(tmp_path, "human", "gpt", "human", "gpt")
    assert isinstance(single, Usable)
    assert isinstance(longer, Usable)
    assert (single.record.fields, single.record.turns) == ({"instruction": "0 human", "input": ""}, [])
    assert (longer.record.fields, longer.record.turns) == ({}, ["0 human", "1 gpt", "2 human"])


def test_several_results_and_a_call_after_a_text_are_one_turn(tmp_path: Path) -> None:
    result = conversation(tmp_path, "human", "gpt", "function_call", "observation", "observation", "gpt")
    assert isinstance(result, Usable)
    assert result.record.turns == ["0 human", "1 gpt\n2 function_call", "3 observation\n4 observation"]


@pytest.mark.parametrize("roles", [("human", "function_call"), ("human", "gpt", "tool", "gpt")])
def test_a_source_may_refuse_tool_calls(tmp_path: Path, roles: tuple[str, ...]) -> None:
    result = conversation(tmp_path, *roles, tools="refuse")
    assert isinstance(result, Reject)
    assert result.reason.startswith("tool calls: ")


def test_a_source_that_refuses_tool_calls_refuses_a_list_of_tools_too(tmp_path: Path) -> None:
    said = '"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]'
    rows = f'{{{said}, "tools": "[]"}}\n{{{said}, "tools": [{{"name": "clock"}}]}}\n'
    assert [type(item) for item in results(write(tmp_path, rows), tools="refuse")] == [Usable, Reject]


def test_the_person_of_a_row_is_kept_as_a_digest_where_the_source_names_the_field(tmp_path: Path) -> None:
    rows = [{"author": "Ines"}, {"author": 7}, {"author": " "}, {}]
    lines = "\n".join(json.dumps({"prompt": "a", "response": "b", **row}) for row in rows)
    found = results(write(tmp_path, lines), person="author")
    persons = [person_digest("Ines"), person_digest("7"), "", ""]
    assert [item.record.person for item in found if isinstance(item, Usable)] == persons


def test_a_rejected_row_is_shown_without_its_person(tmp_path: Path) -> None:
    [item] = results(write(tmp_path, '{"prompt": "a", "response": "", "author": "Ines"}\n'), person="author")
    assert isinstance(item, Reject)
    assert item.row == '{"prompt": "a", "response": ""}'


def test_a_labelled_task_without_templates_is_told_where_to_write_them(tmp_path: Path) -> None:
    [item] = results(write(tmp_path, '{"input": "a", "label": "b"}\n'))
    assert isinstance(item, Usable)
    with pytest.raises(UserError, match=r"task 'made' has no templates: write .*templates/own/made\.yaml"):
        load_bank().for_record(item.record)


def test_a_file_of_superni_names_its_task(tmp_path: Path) -> None:
    (tmp_path / "tasks").mkdir()
    path = write(tmp_path / "tasks", (GOLDEN / "superni.json").read_text(), "task12_Some.Thing-made.json")
    [first, *_] = results(tmp_path)
    assert isinstance(first, Usable)
    assert first.record.task == "task12_some_thing-made"
    assert first.place == "tasks/task12_Some.Thing-made.json, object 1, instance 1 (made-1)"
    assert results(path)[0].place == "object 1, instance 1 (made-1)"


def test_a_format_reads_the_same_rows_in_any_process() -> None:
    source = origin(GOLDEN / "alpaca.jsonl")
    [block] = files.blocks(source)
    assert list(formats.read("alpaca", block, source)) == list(formats.read("alpaca", block, source))


@pytest.mark.parametrize(
    ("name", "spdx"),
    [
        ("CC BY 4.0", "CC-BY-4.0"),
        ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
        ("CC BY-NC-ND 4.0", "CC-BY-NC-ND-4.0"),
        ("Apache 2.0", "Apache-2.0"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("apache-2.0", "Apache-2.0"),
        ("BSD 2-Clause", "BSD-2-Clause"),
        ("mit", "MIT"),
        ("CC0 1.0", "CC0-1.0"),
        ("Unknown", "unknown"),
        ("GPL-3.0-or-later", "GPL-3.0-or-later"),
        ("Public Domain", "LicenseRef-Public-Domain"),
        ("Some Terms (https://example.org/terms)", "LicenseRef-Some-Terms"),
    ],
)
def test_a_licence_has_one_spelling(name: str, spdx: str) -> None:
    assert licence.spdx(name) == spdx


@pytest.mark.parametrize(
    ("text", "name"),
    [("Closed QA", "closed_qa"), ("new year's list", "new_year_s_list"), ("Café", "cafe"), ("a.b-c_d", "a_b-c_d")],
)
def test_a_name_is_made_of_a_text(text: str, name: str) -> None:
    assert slug(text) == name


def test_long_and_foreign_texts_give_names_of_their_own() -> None:
    names = [slug("a" * 70), slug("a" * 71), slug("情感"), slug("翻译")]
    assert len(set(names)) == len(names)
    assert all(0 < len(name) <= 60 for name in names)


if __name__ == "__main__":
    for source_file in FILES:
        source_file.with_suffix(".txt").write_text(golden(source_file), encoding="utf-8")
