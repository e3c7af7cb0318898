"""A folder of lm-eval tasks becomes a suite."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from tasks.errors import UserError
from tasks.guards import GuardError
from tasks.include import folders
from tasks.include.__main__ import run
from tasks.records import Record
from tests import benchmark_folder
from tests.benchmark_folder import COLOURS
from tests.data_fixtures import record, write_params
from tests.rendered import own, render

HELD = [record(number, ("yes", "no")[number % 2]) for number in range(12)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder beside the working folder."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return benchmark_folder.write(tmp_path / "outside")


def included(folder: Path) -> Path:
    write_params(Path(), evaluate={"include": {"mine": str(folder)}, "suites": ["mine"]})
    run("mine")
    return Path("data/include/mine")


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        included(folder)
    assert not Path("data/include/mine").exists()
    return str(caught.value)


def change(folder: Path, **values: Any) -> Path:
    text = yaml.safe_dump(benchmark_folder.CHOICE | values)
    (folder / "colours.yaml").write_text(text, encoding="utf-8")
    return folder


def test_the_copy_names_its_own_data_and_is_otherwise_the_same(folder: Path) -> None:
    copy = included(folder)
    told = yaml.safe_load((copy / "colours.yaml").read_text())
    assert told["dataset_kwargs"]["data_files"] == {"test": "data/render/benchmarks/mine/colours.jsonl"}
    assert told | {"dataset_kwargs": 0} == benchmark_folder.CHOICE | {"dataset_kwargs": 0}
    assert (copy / "saying.yaml").read_text() == benchmark_folder.SAYING
    assert (copy / "scores.py").is_file()


def test_sizes_and_the_scores_that_need_no_model_are_told(folder: Path) -> None:
    copy = included(folder)
    told = json.loads((copy / "suite.json").read_text())
    assert told["colours"] == {
        "documents": 4, "chance": 0.4583, "majority_class": 0.5, "first_option": 0.5, "licence": "CC0-1.0",
        "measures": ["acc", "acc_norm"],
    }  # fmt: skip
    assert (told["saying"]["documents"], told["saying"]["chance"]) == (4, 0.0)
    page = (copy / "README.md").read_text()
    assert "| colours | acc, acc_norm | 4 | 0.458 | CC0-1.0 |" in page


def test_a_readme_of_the_folder_s_own_is_kept(folder: Path) -> None:
    (folder / "README.md").write_text("mine")
    assert (included(folder) / "README.md").read_text() == "mine"


def test_what_documents_say_is_told_with_their_places(folder: Path) -> None:
    lines = (included(folder) / "asked.jsonl").read_text().splitlines()
    first = next(row for row in map(json.loads, lines) if row["benchmark"] == "mine/colours")
    assert (first["document"], first["prompt"]) == ("0", f"What is the colour of {COLOURS[0]['thing']}?")
    assert first["texts"] == [COLOURS[0]["thing"], "blue", "green"]


def test_the_same_folder_gives_the_same_bytes(folder: Path) -> None:
    first = {path.name: path.read_bytes() for path in included(folder).iterdir()}
    assert {path.name: path.read_bytes() for path in included(folder).iterdir()} == first


def test_a_link_beside_the_yaml_brings_data_from_elsewhere(folder: Path, tmp_path: Path) -> None:
    (folder / "colours.jsonl").rename(tmp_path / "elsewhere.jsonl")
    (folder / "colours.jsonl").symlink_to(tmp_path / "elsewhere.jsonl")
    assert (included(folder) / "colours.jsonl").read_bytes() == (tmp_path / "elsewhere.jsonl").read_bytes()


def test_data_outside_the_folder_is_refused_with_the_remedy(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.jsonl").write_text("{}")
    named = {"data_files": [str(tmp_path / "elsewhere.jsonl")]}
    assert "put it, or a link to it, beside the YAML" in refused(change(folder, dataset_kwargs=named))


def test_a_missing_data_file_is_told_with_its_line_and_the_nearest_one(folder: Path) -> None:
    told = refused(change(folder, dataset_kwargs={"data_files": {"test": "colors.jsonl"}}))
    assert ": data file colors.jsonl: no such file; did you mean colours.jsonl?" in told
    assert f"{folder}/colours.yaml:" in told


def test_a_missing_folder_a_broken_yaml_and_a_folder_without_tasks_are_told(folder: Path, tmp_path: Path) -> None:
    assert refused(tmp_path / "gone") == f"evaluate.include: {tmp_path / 'gone'}: no such folder"
    (tmp_path / "empty").mkdir()
    assert "no YAML here defines an lm-eval task" in refused(tmp_path / "empty")
    (folder / "colours.yaml").write_text("task: [")
    assert f"{folder}/colours.yaml: no valid YAML" in refused(folder)


def test_a_task_that_fails_to_load_is_named_in_one_line(folder: Path) -> None:
    told = refused(change(folder, doc_to_target="wrong"))
    assert "task colours cannot be loaded: ValueError: the right answer 'wrong' is none of blue, green" in told
    assert "\n" not in told


def test_a_hub_that_cannot_be_reached_is_told_with_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    change(folder, dataset_path="owner/name", dataset_kwargs={})
    told = refused(folder)
    assert "Couldn't reach 'owner/name' on the Hub" in told
    assert "run it once where it can, or take the suite out of evaluate.include" in told


def test_a_task_of_lm_eval_that_does_not_exist_is_told_with_the_nearest_one(folder: Path) -> None:
    (folder / "standard.yaml").write_text("group: standard\ntask: [colours, arc_eazy]\n")
    assert "task: arc_eazy: unknown; did you mean arc_easy?" in refused(folder)


def test_paths_in_any_form_are_found_and_others_left(folder: Path, tmp_path: Path) -> None:
    files = {"test": ["colours.jsonl", "https://example.org/rows.jsonl"], "dev": str(folder / "colours.jsonl")}
    copied = folders.copy(change(folder, dataset_kwargs={"data_files": files}), tmp_path / "copy", Path("home"))
    told = yaml.safe_load((copied / "colours.yaml").read_text())["dataset_kwargs"]["data_files"]
    assert told == {"test": ["home/colours.jsonl", "https://example.org/rows.jsonl"], "dev": "home/colours.jsonl"}


def rendered(folder: Path, rows: list[Record]) -> Path:
    home = Path("home")
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        included(folder)
    return render(home, rows, include={"mine": str(folder)}, suites=["mine"])


def test_a_training_record_that_shares_text_with_an_included_document_is_dropped(folder: Path) -> None:
    planted = own(99, f"What is the colour of {COLOURS[0]['thing']}? Please tell me.")
    home = rendered(folder, [*HELD, *(own(number) for number in range(9)), planted])
    marks = json.loads((home / "contamination" / "marks.json").read_text())
    assert marks == {"mine/colours": ["0"], "mine/saying": ["0"]}
    assert (home / "benchmarks" / "mine" / "colours.jsonl").is_file()
    assert not (home / "benchmarks" / "mine" / "asked.jsonl").exists()


def test_a_benchmark_of_a_trained_cluster_stops_the_run(folder: Path) -> None:
    change(folder, metadata={"cluster": "General"})
    with pytest.raises(GuardError, match="benchmark mine / colours is of cluster 'general', which is trained on; add"):
        rendered(folder, [*HELD, *(own(number) for number in range(9))])


def test_a_benchmark_of_a_held_out_cluster_passes(folder: Path) -> None:
    change(folder, metadata={"cluster": "inference"})
    assert (rendered(folder, [*HELD, own(1)]) / "benchmarks" / "mine").is_dir()


def test_a_suite_that_is_not_included_yet_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match="this suite is not included yet; run: dvc repro include@mine"):
        render(Path("home"), [*HELD, own(1)], include={"mine": str(folder)}, suites=["mine"])
