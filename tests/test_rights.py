"""Licences that are not allowed stop a run; what is forgotten stays out, without a trace of its text."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from tasks.errors import UserError
from tasks.ingest import __main__ as ingest
from tasks.ingest import rights
from tasks.ingest.clean import Cleaner
from tasks.ingest.origin import Usable
from tasks.params import Clean
from tasks.records import Record, Reject, person_digest
from tests.data_fixtures import write_params
from tests.test_ingest import GOOD, OTHER, lines, read


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_bytes(lines(GOOD, OTHER))


def run(allow: list[str], **source: Any) -> list[dict[str, Any]]:
    toy = {"path": "rows.jsonl", "format": "alpaca", **source}
    write_params(Path(), ingest={"licences": {"allow": allow}, "sources": {"toy": toy}})
    ingest.run("toy")
    return read("data/ingest/toy/records.parquet")


def owned(person: str) -> Record:
    return Record(
        "toy/toy/0123456789abcdef",
        "toy",
        "toy",
        "toy",
        "MIT",
        {"instruction": "a"},
        ["b"],
        person=person_digest(person),
    )


def test_a_licence_that_is_not_allowed_stops_the_run_and_tells_the_remedies() -> None:
    with pytest.raises(UserError) as stopped:
        run(["MIT"], licence="CC-BY-NC-4.0")
    message = str(stopped.value)
    assert re.search(r"source toy .*\n  CC-BY-NC-4\.0: 2 records, for instance toy/toy/\w{16}\n", message)
    assert "ingest.sources.toy.licence" in message
    assert "ingest.licences.allow" in message
    assert not list(Path("data/ingest").iterdir())


def test_a_source_without_a_licence_stops_the_run() -> None:
    with pytest.raises(UserError, match="unknown: 2 records"):
        run(["MIT"])


def test_an_allowed_licence_passes_in_any_case_of_letters() -> None:
    assert len(run(["mit"], licence="MIT")) == 2


def test_what_is_not_trained_on_may_be_under_any_licence() -> None:
    assert len(run(["MIT"], licence="CC-BY-NC-4.0", train=False)) == 2


def test_a_forgotten_record_is_left_out_of_the_next_run_without_its_text() -> None:
    first, second = run(["unknown"])
    rights.forget([first["id"]], [])
    assert run(["unknown"]) == [second]
    [reject] = read("data/ingest/toy/rejects.jsonl")
    assert (reject["reason"], reject["row"], reject["place"]) == ("forgotten: by id", "", "line 1")


def test_a_copy_in_another_source_is_forgotten_too() -> None:
    rights.forget(["other/task/0123456789abcdef"], [])
    assert rights.load().reason(owned("")) == "forgotten: by id"


def test_a_forgotten_person_s_records_are_left_out() -> None:
    rights.forget([], ["Ada Example"])
    cleaner = Cleaner(Clean(), rights.load())
    gone, kept = (cleaner.sort(Usable("row 1", owned(person))) for person in (" Ada Example", "Bo"))
    assert gone == Reject("toy", "row 1", "forgotten: by person", "")
    assert kept == Usable("row 1", owned("Bo"))


def test_a_person_s_records_are_forgotten_by_name_and_no_file_holds_it() -> None:
    Path("rows.jsonl").write_bytes(
        lines({**GOOD, "author": "Ada Example"}, {**OTHER, "author": "Bo"}, {"author": "Bo"})
    )
    first, second = run(["unknown"], person="author")
    done = CliRunner().invoke(ingest.app, ["forget", "--person", "Ada Example"])
    assert done.output.startswith(f"{first['id']}\n1 records of the last run are forgotten")
    written = [path.read_bytes() for folder in ("data", "tasks") for path in Path(folder).rglob("*") if path.is_file()]
    assert not [content for content in written if b"Ada" in content or b"Bo" in content]
    assert run(["unknown"], person="author") == [second]


def test_a_field_of_persons_that_no_row_has_is_refused_with_the_nearest_one() -> None:
    Path("rows.jsonl").write_bytes(lines({**GOOD, "author": "Ada Example"}, {**OTHER, "author": None}))
    with pytest.raises(UserError, match=r"^ingest\.sources\.toy\.person: no row of .* has a field autor; .* author\?"):
        run(["unknown"], person="autor")
    assert len(run(["unknown"], person="author")) == 2


def test_the_list_holds_no_name_and_grows() -> None:
    rights.forget([], ["Ada Example"])
    rights.forget(["toy/toy/0123456789abcdef"], ["Ada Example"])
    text = rights.FORGOTTEN.read_text()
    assert "Ada" not in text
    assert yaml.safe_load(text) == {"records": ["toy/toy/0123456789abcdef"], "persons": [person_digest("Ada Example")]}


def test_something_that_is_no_id_is_refused_and_nothing_is_written() -> None:
    with pytest.raises(UserError, match="--id toy: no id of a record"):
        rights.forget(["toy"], [])
    assert not rights.FORGOTTEN.exists()


def test_forgetting_tells_what_is_found_and_what_still_holds_it() -> None:
    [first, _] = run(["unknown"])
    done = CliRunner().invoke(ingest.app, ["forget", "--id", first["id"]])
    assert done.exit_code == 0, done.output
    assert done.output.startswith(first["id"] + "\n1 records of the last run")
    assert f"python -m tasks.register trained-on --id {first['id']}" in done.output
    assert "dvc gc" in done.output


def test_forgetting_counts_what_is_asked_for_now_and_says_when_that_is_nothing() -> None:
    [first, _] = run(["unknown"])
    CliRunner().invoke(ingest.app, ["forget", "--id", first["id"]])
    done = CliRunner().invoke(ingest.app, ["forget", "--person", "Nobody Here"])
    assert done.output.startswith("No record of the last run is meant by --person 'Nobody Here'")
    assert first["id"] not in done.output
