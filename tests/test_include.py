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
    assert told.startswith(f"{folder}/colours.yaml: task colours: document 0 (counted from 0): doc_to_target: ")
    assert told.endswith("the right answer 'wrong' is none of the choices (0 to 1, or one of blue, green)")


def lacking(folder: Path, **values: Any) -> Path:
    """The folder with other values in its third document; None takes the field away."""
    row = {key: value for key, value in (COLOURS[2] | values).items() if value is not None}
    rows = [*COLOURS[:2], row, COLOURS[3]]
    (folder / "colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"right": 3}, "doc_to_target: the right answer 3 is none of the choices (0 to 2, or one of red"),
        ({"right": None}, "doc_to_target: the right answer None is none of the choices"),
        ({"thing": None}, "a template prints a field that is missing or null"),
        ({"colours": None}, "doc_to_choice: a list of choices is expected, not None"),
    ],
)
def test_a_document_that_cannot_be_asked_or_scored_is_told_with_its_number(
    folder: Path, values: dict[str, Any], fault: str
) -> None:
    told = refused(lacking(folder, **values))
    assert told.startswith(f"{folder}/colours.yaml: task colours: document 2 (counted from 0): {fault}")


def test_templates_in_a_list_of_choices_are_refused_since_lm_eval_fills_in_none(folder: Path) -> None:
    told = refused(change(folder, doc_to_choice=["{{colours[0]}}", "{{colours[1]}}"], doc_to_target=0))
    assert "lm-eval fills in no template in a list, here '{{colours[0]}}'; write one template" in told
    assert included(change(folder, doc_to_choice="{{[colours[0], colours[1]]}}", doc_to_target=0)).is_dir()


def test_a_field_that_a_template_can_do_without_may_be_missing(folder: Path) -> None:
    change(folder, doc_to_text="What colour{% if thing %} is {{thing}}{% endif %}?")
    (folder / "saying.yaml").unlink()
    assert included(lacking(folder, thing=None)).is_dir()


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"metric_list": [{"metric": "accc"}]}, "metric_list: metric: accc: unknown; did you mean acc?"),
        ({"metric_list": [{"metric": "acc", "aggregation": "men"}]}, "aggregation: men: unknown; did you mean mean?"),
        ({"test_split": "tst"}, "test_split: tst: unknown; did you mean test?"),
        ({"test_split": None}, "test_split: missing; there are test"),
        ({"doc_to_text": "What is {{thng}}?"}, "doc_to_text: no document has a field thng; did you mean thing?"),
        ({"doc_to_text": "thng"}, "doc_to_text: no document has a field thng; did you mean thing?"),
        ({"doc_to_choice": "colors"}, "doc_to_choice: no document has a field colors; did you mean colours?"),
    ],
)
def test_what_lm_eval_does_not_know_is_told_with_the_nearest_name(
    folder: Path, values: dict[str, Any], fault: str
) -> None:
    told = refused(change(folder, **values))
    assert told.startswith(f"{folder}/colours.yaml: task colours: ")
    assert fault in told


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", ": holds no document"),
        ('{"thing": "a"}\n{"thing": \n', ":2: no valid JSON"),
        ("1\n2\n", ":1: a JSON object"),
    ],
)
def test_a_damaged_data_file_is_told_with_its_line(folder: Path, content: str, fault: str) -> None:
    (folder / "colours.jsonl").write_text(content)
    assert refused(folder).startswith(f"{folder}/colours.jsonl{fault}")


def test_a_yaml_that_includes_what_is_not_there_is_told(folder: Path) -> None:
    (folder / "saying.yaml").write_text(benchmark_folder.SAYING.replace("include: base", "include: bas"))
    assert f"{folder}/saying.yaml:1: include bas: no such file; did you mean base?" in refused(folder)


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
