"""The pipeline through its real tools: `dvc repro` in one checkout, the flow in another, and a real Prefect server."""

import csv
import functools
import io
import json
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient

from tasks import tracking
from tests import prefect_server, tiny
from tests.checkout import Checkout, checkout, outside, ran

pytestmark = pytest.mark.timeout(600)

ALL = {
    "fetch", "ingest@starter", "include@following", "render", "pack", "train",
    "evaluate@base-inference", "evaluate@tuned-inference", "report", "register",
}  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Prefect server with a data base of its own."""
    with prefect_server.started(tmp_path_factory.mktemp("prefect")) as address:
        yield address


@pytest.fixture(scope="module")
def by_dvc(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Checkout:
    made = checkout(tmp_path_factory.mktemp("by_dvc"), model)
    made.run("dvc", "repro")
    return made


@pytest.fixture(scope="module")
def by_flow(tmp_path_factory: pytest.TempPathFactory, model: Path, server: str) -> tuple[Checkout, str]:
    made = checkout(tmp_path_factory.mktemp("by_flow"), model)
    graph = made.root / "dvc.yaml"
    graph.write_text(graph.read_text().replace("meta: {limit_minutes: 60, artifact", "meta: {tags: [alone], artifact"))
    return made, made.flow(PREFECT_API_URL=server)


def test_the_flow_runs_every_stage_and_ends_with_the_table_and_the_version(by_flow: tuple[Checkout, str]) -> None:
    made, output = by_flow
    assert ran(output) == ALL
    assert "rank accuracy" in output
    assert "/#/models/instructflow/versions/1" in output
    assert made.versions() == ["1"]


def test_the_log_holds_neither_dvc_s_hints_nor_git_s_complaints(by_flow: tuple[Checkout, str]) -> None:
    _, output = by_flow
    assert not [line for line in output.splitlines() if re.search(r"git add|autostage|dvc push|fatal: ", line)]
    assert "Updating lock file 'dvc.lock'" in output


def test_dvc_and_the_flow_give_the_same_bytes(by_dvc: Checkout, by_flow: tuple[Checkout, str]) -> None:
    made, _ = by_flow
    adapters = [(root / "models/tuned/adapter_model.safetensors").read_bytes() for root in (by_dvc.root, made.root)]
    locks = [yaml.safe_load((root / "dvc.lock").read_text()) for root in (by_dvc.root, made.root)]
    assert adapters[0] == adapters[1]
    assert locks[0] == locks[1]


def test_no_declared_output_names_a_path_of_this_machine(by_flow: tuple[Checkout, str]) -> None:
    made, _ = by_flow
    declared = [
        path for top in ("data", "models", "reports") for path in (made.root / top).rglob("*") if path.is_file()
    ]
    assert not [path for path in declared if str(made.root).encode() in path.read_bytes()]


@pytest.fixture(scope="module")
def task_runs(by_flow: tuple[Checkout, str], server: str) -> dict[str, tuple[datetime, datetime]]:
    """When each stage began and ended, by the server's own clock."""
    runs = [run for run in ask(server, "task_runs") if run["start_time"] and run["end_time"]]
    times = {run["name"]: (run["start_time"], run["end_time"]) for run in runs}
    return {name: (datetime.fromisoformat(start), datetime.fromisoformat(end)) for name, (start, end) in times.items()}


def ask(server: str, what: str) -> list[dict[str, Any]]:
    """All of a kind that the server knows of."""
    request = urllib.request.Request(  # noqa: S310
        f"{server}/{what}/filter", data=b"{}", headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        found: list[dict[str, Any]] = json.load(answer)
    return found


def test_each_stage_is_a_task_run_of_its_name(task_runs: dict[str, tuple[datetime, datetime]]) -> None:
    assert set(task_runs) == ALL | {"ensure register", "gate behind register"}


def test_a_stage_s_tags_are_those_of_its_task_run(by_flow: tuple[Checkout, str], server: str) -> None:
    tags = {run["name"]: run["tags"] for run in ask(server, "task_runs")}
    assert (tags["report"], tags["train"]) == (["alone"], [])


def test_base_evaluation_runs_beside_the_making_of_the_adapter(task_runs: dict[str, tuple[datetime, datetime]]) -> None:
    begin, end = task_runs["pack"][0], task_runs["train"][1]  # which of the two it meets depends on the machine's load
    evaluation = task_runs["evaluate@base-inference"]
    assert max(begin, evaluation[0]) < min(end, evaluation[1])


def test_the_table_and_the_links_are_on_prefect_s_page(by_flow: tuple[Checkout, str], server: str) -> None:
    kinds = {(item["key"], item["type"]) for item in ask(server, "artifacts")}
    assert {
        ("report", "markdown"),
        ("train-mlflow-run", "markdown"),
        ("register-mlflow-model-version", "markdown"),
        ("register-report", "markdown"),
        ("decision", "markdown"),
    } <= kinds


def test_a_second_run_executes_nothing_and_says_so(by_flow: tuple[Checkout, str], server: str) -> None:
    made, _ = by_flow
    output = made.flow(PREFECT_API_URL=server)
    assert ran(output) == set()
    assert "No stage was executed." in output


def test_an_emptied_registry_is_filled_again_without_running_a_stage(
    by_flow: tuple[Checkout, str], server: str
) -> None:
    made, _ = by_flow
    (made.root / "mlflow.db").unlink()
    output = made.flow(PREFECT_API_URL=server)
    assert ran(output) == set()
    assert made.versions() == ["1"]


def test_a_changed_training_value_reaches_training_and_what_depends_on_it(by_dvc: Checkout) -> None:
    by_dvc.commit("first")
    by_dvc.change("train", "weight_decay", 0.01)
    assert ran(by_dvc.run("dvc", "repro")) == {"train", "evaluate@tuned-inference", "report", "register"}
    assert sorted(by_dvc.versions()) == ["1", "2"]


def test_a_changed_benchmark_runs_no_other_suite_and_no_training(by_dvc: Checkout) -> None:
    path = by_dvc.root / "tasks/include/following/instructions.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    executed = ran(by_dvc.run("dvc", "repro"))
    assert {"include@following", "render"} <= executed <= {"include@following", "render", "report", "register"}


def test_dvc_tells_what_changed_since_the_commit_and_draws_it(by_dvc: Checkout) -> None:
    assert "train.weight_decay" in by_dvc.run("dvc", "params", "diff")
    assert "models/tuned/training.json" in by_dvc.run("dvc", "metrics", "diff")
    assert "index.html" in by_dvc.run("dvc", "plots", "show")
    page = (by_dvc.root / "dvc_plots" / "index.html").read_text()
    assert all(title in page for title in ("Loss in training and validation", "Base against tuned"))


@pytest.mark.long
def test_the_variants_of_a_sweep_compare_in_dvc_and_in_mlflow_and_only_the_applied_one_is_registered(
    by_dvc: Checkout,
) -> None:
    by_dvc.commit("swept")
    registered = by_dvc.versions()
    by_dvc.run("dvc", "exp", "run", "--queue", "-S", "train.lora.r=4,16")  # the second is as committed: nothing runs
    printed = by_dvc.run("dvc", "exp", "run", "--run-all")
    assert "is a variant; dvc exp apply" in printed
    shown = csv.DictReader(io.StringIO(by_dvc.run("dvc", "exp", "show", "--csv")))
    variants = {row["train.lora.r"]: row for row in shown if row["typ"].startswith("branch")}
    assert variants.keys() == {"4", "16"}
    assert variants["4"]["last_loss"] != variants["16"]["last_loss"]
    assert all(any("tuned" in name and row[name] for name in row) for row in variants.values())
    api = MlflowClient(f"sqlite:///{by_dvc.root / 'mlflow.db'}")
    runs = api.search_runs(["1"], max_results=2)  # the newest
    assert {run.data.params["train.lora.r"]: run.data.tags.get(tracking.VARIANT) for run in runs} == {
        "4": variants["4"]["Experiment"], "16": None,
    }  # fmt: skip
    assert by_dvc.versions() == registered
    by_dvc.run("dvc", "exp", "apply", variants["4"]["Experiment"])
    by_dvc.run(sys.executable, "-m", "tasks.register", "ensure")  # as every flow ends
    assert len(by_dvc.versions()) == len(registered) + 1


def test_the_temporary_server_does_not_hear_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import pipeline

    blocked: list[set[signal.Signals]] = []
    here = functools.partial(signal.pthread_sigmask, signal.SIG_BLOCK, [])
    monkeypatch.setattr(pipeline.SubprocessASGIServer, "start", lambda _: blocked.append(here()))
    monkeypatch.setattr(pipeline, "PREFECT_API_URL", SimpleNamespace(value=lambda: None))
    pipeline.start_server()
    assert signal.SIGINT in blocked[0]  # and so in the process that would have been started
    assert signal.SIGINT not in here()


def test_a_failing_stage_is_named_and_nothing_behind_it_runs(by_flow: tuple[Checkout, str], server: str) -> None:
    made, _ = by_flow
    made.change("pack", "row_tokens", 16)
    done = subprocess.run(
        [sys.executable, "-m", "flows.pipeline"],
        cwd=made.root,
        env={**outside(), "PREFECT_API_URL": server},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "no example of data/render/examples.parquet fits into 16 tokens" in done.stdout + done.stderr
    assert "stages failed or were not reached: pack, train" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
