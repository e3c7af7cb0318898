"""Public data as people bring it, where it lies beside the repository; none of it is part of the project."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import params
from tasks.records import Record, read_records
from tasks.shards import read_shards
from tests import project
from tests.data_fixtures import write_params

DATA = Path(__file__).resolve().parent.parent.parent / "shared" / "data" / "train"

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not here"),
]


SOURCES = {
    "alpaca_en_demo.json": "alpaca",
    "glaive_toolcall_en_demo.json": "sharegpt",
    "gpteacher_roleplay.json": "gpteacher",
    "identity.json": "alpaca",
    "openai_messages_demo.jsonl": "messages",
    "prompt_response_dolly_hhrlhf.jsonl": "prompt_response",
    "rasbt_instruction_data.json": "alpaca",
    "self_instruct_seed_tasks.jsonl": "self_instruct",
    "sharegpt_fastchat_dummy.json": "sharegpt",
    "superni": "superni",
    "superni_test": "superni",
}


def parsed(path: Path) -> list[dict[str, Any]]:
    """The rows of a source by Python's own means, to count against."""
    if path.is_dir():
        return [json.loads(file.read_text(encoding="utf-8")) for file in sorted(path.iterdir())]
    text = path.read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = (
        json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.split("\n") if line]
    )
    return rows


def count(path: Path) -> int:
    """Rows, or the instances in them."""
    return sum(len(row.get("instances", row.get("Instances", [row]))) for row in parsed(path))


def ingested(name: str, folder: Path, patch: pytest.MonkeyPatch) -> tuple[list[Record], list[dict[str, str]]]:
    patch.chdir(folder)
    write_params(folder, ingest={"sources": {"toy": {"path": str(DATA / name), "format": "auto", "train": False}}})
    project.ingest.run("toy")
    lines = (folder / "data/ingest/toy/rejects.jsonl").read_text(encoding="utf-8").split("\n")
    return list(read_records(folder / "data/ingest/toy/records.parquet")), [json.loads(line) for line in lines if line]


def test_every_training_file_is_looked_at() -> None:
    assert {path.name for path in DATA.iterdir()} == set(SOURCES)


@pytest.mark.parametrize("name", SOURCES)
def test_every_row_of_every_file_is_a_record_a_reject_or_a_duplicate(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records, rejects = ingested(name, tmp_path, monkeypatch)
    assert f"format {SOURCES[name]}: " in capsys.readouterr().out
    assert len(records) + len(rejects) == count(DATA / name)
    assert len({record.id for record in records}) == len(records)
    assert {reject["reason"].split(":")[0] for reject in rejects} <= {"duplicate"}


@pytest.mark.parametrize("name", SOURCES)
def test_what_counts_as_a_duplicate_says_the_same_as_another_row(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, rejects = ingested(name, tmp_path, monkeypatch)
    rows = parsed(DATA / name)
    said = Counter(json.dumps({**row, "id": None}, sort_keys=True) for row in rows)
    assert len(rejects) == (0 if "superni" in name else len(rows) - len(said))


def test_every_answer_of_a_conversation_file_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records, _ = ingested("glaive_toolcall_en_demo.json", tmp_path, monkeypatch)
    kept = {text for record in records for text in [*record.fields.values(), *record.turns, *record.outputs] if text}
    rows = parsed(DATA / "glaive_toolcall_en_demo.json")
    assert kept == {message["value"].strip() for row in rows for message in row["conversations"]}


def test_accepted_answers_and_licences_of_the_task_files_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, _ = ingested("superni_test", tmp_path, monkeypatch)
    tasks = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in (DATA / "superni_test").iterdir()}
    assert {record.task for record in records} == set(tasks)
    for name, task in tasks.items():
        answers = sum(len({answer.strip() for answer in item["output"]}) for item in task["Instances"])
        assert sum(len(record.outputs) for record in records if record.task == name) == answers
    assert {record.licence for record in records if record.task.startswith("task1393")} == {"BSD-2-Clause"}


def test_changing_params_alone_trains_on_an_alpaca_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = project.make(tmp_path, "with_bos")
    values = yaml.safe_load((tmp_path / "params.yaml").read_text())
    values["ingest"]["sources"]["starter"]["train"] = False
    values["ingest"]["sources"]["mine"] = {
        "format": "alpaca",
        "path": str(DATA / "alpaca_en_demo.json"),
        "licence": "Apache-2.0",
    }
    values["render"]["examples"] = 30
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values))
    params.load(tmp_path / "params.yaml")
    with monkeypatch.context() as patch:
        made.enter(patch)
        project.ingest.run("mine")
    made.run_all()
    assert {name.split("/")[0] for name in read_shards(tmp_path / "data/pack").examples(0)} == {"mine"}
    assert (tmp_path / "models/tuned/adapter_model.safetensors").is_file()
