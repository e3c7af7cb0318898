import json
from pathlib import Path

import pytest
import yaml

from infra import superni
from tasks import suites
from tasks.errors import UserError
from tasks.include import documents


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder as the command expects it, with made-up rows."""
    folder = tmp_path / "data"
    for name in ("train/superni_test", "eval"):
        (folder / name).mkdir(parents=True)
    for number, (category, answers) in enumerate([("Title Generation", 12), ("Textual Entailment", 2)]):
        instances = [{"id": f"{one}", "input": f"Text {one}.", "output": [f"A {one % answers}"]} for one in range(12)]
        task = {"Categories": [category], "Definition": ["Do it."], "Positive Examples": [], "Instances": instances}
        (folder / f"train/superni_test/task{number}.json").write_text(json.dumps(task))
    rte = [{"sentence1": f"One {one}.", "sentence2": f"Two {one}.", "label": one % 2} for one in range(12)]
    copa = [
        {"premise": f"It {one}.", "choice1": f"a {one}", "choice2": f"b {one}", "question": "cause", "label": one % 2}
        for one in range(12)
    ]
    for name, rows in (("rte", rte), ("copa", copa)):
        (folder / f"eval/{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def suite(data: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "superni"
    folder.mkdir()
    superni.write_suite(data, folder)
    return folder


def test_tasks_with_options_are_asked_in_every_form_and_others_by_generation(suite: Path) -> None:
    forms = {name for task in ("task1", "rte", "copa") for name in (f"{task}_{form}" for form in superni.FORMS)}
    assert {path.stem for path in suite.glob("*.yaml")} == forms | {"task0_generate"}


def test_each_says_its_cluster_so_that_none_is_trained_on(suite: Path) -> None:
    told = {path.stem: path.read_text() for path in suite.glob("*.yaml")}
    assert "cluster: title_generation" in told["task0_generate"]
    assert "cluster: textual_entailment" in told["rte_named"]
    assert "cluster: cause_effect_classification" in told["copa_rank"]


def test_the_suite_loads_and_its_right_answers_are_those_of_the_data(
    suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(suite)
    tasks = suites.find(suite).load()
    ranked = {document["id"]: document for document in tasks["superni_rte_rank"].eval_docs}
    assert {(one["answer"], one["choices"][one["gold"]]) for one in ranked.values()} == {("yes", "yes"), ("no", "no")}
    assert documents.describe("superni", tasks["superni_copa_named"]).sizes["chance"] == 0.5
    [named] = {document["prompt"][:29] for document in tasks["superni_copa_named"].eval_docs}
    assert named == "[cause effect classification:"
    free = tasks["superni_task0_generate"]
    assert free.process_results(free.eval_docs[0], [free.eval_docs[0]["answers"][0]]) == {"rouge_l": 1.0}


def test_the_grid_gets_the_paths(data: Path, tmp_path: Path) -> None:
    grid = yaml.safe_load(superni.write_grid(data, tmp_path).read_text())
    assert grid["common"]["ingest"]["sources"]["superni"]["path"] == str(data / "train/superni")


def test_a_folder_without_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no task files of Super-NaturalInstructions"):
        superni.write_suite(tmp_path, tmp_path)
