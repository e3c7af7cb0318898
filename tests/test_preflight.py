"""A run that a later stage would refuse is refused before any work."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks import preflight
from tasks.errors import UserError
from tasks.evaluate import extra
from tests.data_fixtures import ROOT, write_params

TOY = {"path": "rows.jsonl", "format": "alpaca", "cluster": "inference"}
INGEST: dict[str, Any] = {"seed": 1, "licences": {}, "clean": {}, "sources": {"toy": TOY}}
RENDER: dict[str, Any] = {"examples": 1, "held_out": ["inference"]}
EVALUATE: dict[str, Any] = {"include": {"mine": "."}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text("{}")
    return tmp_path


def faults(source: dict[str, Any], evaluate: dict[str, Any] = EVALUATE, **render: object) -> list[str]:
    sections = {"ingest": {**INGEST, "sources": {"toy": source}}, "render": {**RENDER, **render}, "evaluate": evaluate}
    write_params(Path(), **sections)
    with pytest.raises(UserError) as caught:
        preflight.load()
    return str(caught.value).splitlines()


def test_what_is_there_is_passed() -> None:
    write_params(Path(), ingest=INGEST, evaluate=EVALUATE)
    assert preflight.load().ingest.sources["toy"].path == "rows.jsonl"


def test_all_faults_are_told_at_once_each_with_the_nearest_right_value() -> None:
    head, unknown, missing, split = faults({"path": "row.jsonl", "format": "alpacca"}, held_out_tasks="lists/tasks.txt")
    assert head == "params.yaml: 3 faults"
    assert unknown.startswith("  ingest.sources.toy.format: alpacca: unknown; did you mean alpaca?")
    assert missing.startswith("  ingest.sources.toy.path: row.jsonl: no such file; did you mean rows.jsonl?")
    assert split == "  render.held_out_tasks: lists/tasks.txt: no such file, nor a folder lists"


def test_a_folder_of_benchmarks_that_is_not_there_is_told_and_one_is_needed() -> None:
    Path("benchmarks").mkdir()
    told = faults({"path": "rows.jsonl"}, {"include": {"mine": "benchmark"}})[1]
    assert told == (
        "  evaluate.include.mine: benchmark: no such file; did you mean benchmarks? there are benchmarks, params.yaml,"
        " rows.jsonl"
    )
    told = faults({"path": "rows.jsonl"}, {"include": {}})[1]
    assert told.startswith("  evaluate.include: must name a suite; write `following: tasks/include/following`")


def test_a_cluster_s_engine_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "find_spec", lambda name: None)
    write_params(Path(), ingest=INGEST, evaluate=EVALUATE, compute={"engine": "ray"})
    with pytest.raises(
        UserError, match=r"\n  compute\.engine: ray: Ray is not installed; run: make ray, or write local$"
    ):
        preflight.load()


def test_a_backend_that_is_not_installed_is_told_unless_a_cluster_s_nodes_compute(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    write_params(Path(), ingest=INGEST, evaluate=EVALUATE | {"backend": "vllm"})
    told = r"\n  evaluate\.backend: vllm: vLLM is not installed here \(README tells how\), or write own$"
    with pytest.raises(UserError, match=told):
        preflight.load()
    monkeypatch.setattr(preflight, "find_spec", lambda name: True)
    write_params(Path(), ingest=INGEST, evaluate=EVALUATE | {"backend": "vllm"}, compute={"engine": "ray"})
    assert preflight.load().evaluate.backend == "vllm"


def test_a_misspelt_held_out_cluster_is_told_first_and_beside_all_else() -> None:
    held, related, suites = faults(TOY, held_out=["infrence"], related={"inference": ["tpoic"]})[1:4]
    assert (
        held == "  render.held_out: infrence: no source has such a cluster; did you mean inference? there are inference"
    )
    assert related.startswith("  render.related: tpoic: no source has such a cluster")
    assert suites.startswith("  render.related: 'inference' is no held-out cluster of render.held_out")


def test_clusters_that_rows_name_themselves_are_left_to_render() -> None:
    for form in ("auto", "dolly"):
        write_params(Path(), ingest={**INGEST, "sources": {"toy": {**TOY, "format": form}}}, evaluate=EVALUATE,
                     render={"held_out": ["inference", "closed_qa"]})  # fmt: skip
        assert preflight.load().render.held_out == ["inference", "closed_qa"]


def test_a_folder_in_which_no_file_fits_is_told() -> None:
    Path("rows").mkdir()
    Path("rows/one.txt").write_text("x")
    assert faults({"path": "rows", "files": "*.json"})[1] == "  ingest.sources.toy.files: no file in rows fits *.json"


def asked_of_the_gate(measure: str, task: str) -> None:
    Path("mine").mkdir(exist_ok=True)
    Path("mine/task.yaml").write_text(task)
    evaluate = {"include": {"mine": "mine"}, "suites": ["mine"]}
    write_params(Path(), ingest=INGEST, evaluate=evaluate, gate={"measures": [measure]})
    preflight.load()


def test_a_measure_that_no_benchmark_can_have_is_told_with_the_nearest_one() -> None:
    task = "task: mine\nmetric_list:\n  - metric: letters\n"
    for measure in ("exact_match", "letters", "letters_strict"):
        asked_of_the_gate(measure, task)
    for measure, near in (("exact_mach", "exact_match"), ("leters", "letters")):
        told = rf"gate\.measures: {measure}: no benchmark has this measure; did you mean {near}\?"
        with pytest.raises(UserError, match=told):
            asked_of_the_gate(measure, task)


@pytest.mark.parametrize(
    "task", ["group: mine\ntask: [arc_easy]", "task: mine", "metric_list: [metric: !function a.b]"]
)
def test_where_a_task_leaves_its_measures_to_others_any_may_be_one(task: str) -> None:
    asked_of_the_gate("acc_nrom", task)


@pytest.mark.parametrize("flow", ["plan", "pipeline"])
def test_plan_and_pipeline_refuse_before_any_work(flow: str, folder: Path) -> None:
    write_params(Path(), ingest={**INGEST, "sources": {"toy": {"path": "gone.jsonl"}}}, evaluate=EVALUATE)
    command = [sys.executable, "-m", f"flows.{flow}"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: params.yaml: 1 fault\n  ingest.sources.toy.path: gone.jsonl: no such file")
    assert {path.name for path in folder.iterdir()} == {"params.yaml", "rows.jsonl"}
