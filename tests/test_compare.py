"""A comparison through its real tools, at the size of a tiny model: killed, gone on with, and kept."""

import csv
import io
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml
from mlflow import MlflowClient

from tasks import tracking
from tests import prefect_server, tiny
from tests.checkout import Checkout, checkout, outside, ran

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

GRID = {
    "reference": "instructions",
    "seeds": [17],
    "leave_out": ["inference"],
    "common": {
        "render": {"forms": ["generate", "named"], "validation": 0.1},
        "train": {"epochs": 3, "tokens": 2_000, "validate_steps": 1_000},
    },
    "variants": {
        "instructions": {},
        "bare": {"render": {"wording": "none"}},
        "wrong": {"ingest": {"sources": {"starter": {"path": "nowhere"}}}},
    },
}
LAST = {"evaluate@tuned-inference", "report", "register"}
RUNS = ["tiny-inference-instructions-s17", "tiny-inference-bare-s17"]


@dataclass(frozen=True)
class Compared:
    """A checkout in which a grid is compared, and what each of its comparisons printed."""

    made: Checkout
    server: str
    killed: str
    finished: str

    @property
    def home(self) -> Path:
        """Where the runs' checkouts are."""
        return self.made.root / "build/compare/tiny"

    def log(self, name: str) -> str:
        """What a run said at its last time."""
        return (self.home / f"{name}.log").read_text()

    def lock(self) -> dict[str, object]:
        """The stages in the checkout's dvc.lock."""
        stages: dict[str, object] = yaml.safe_load((self.made.root / "dvc.lock").read_text())["stages"]
        return stages


def compare(made: Checkout, server: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "flows.compare", "tiny.yaml"],
        cwd=made.root,
        env={**outside(), "PREFECT_API_URL": server, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def until(process: subprocess.Popen[str], sign: str) -> str:
    """What the process prints up to a line that holds the sign."""
    lines: list[str] = []
    for line in process.stdout or ():
        lines.append(line)
        if sign in line:
            return "".join(lines)
    raise AssertionError("".join(lines)[-4000:])


def ended(process: subprocess.Popen[str], status: int) -> str:
    """What the process prints until it ends, which it does with this status."""
    with process:
        output = process.stdout.read() if process.stdout else ""
    assert process.returncode == status, output[-4000:]
    return output


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with prefect_server.started(tmp_path_factory.mktemp("prefect")) as address:
        yield address


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, server: str) -> Compared:
    """A comparison that was killed in its first training, and then let be."""
    made = checkout(tmp_path_factory.mktemp("compared"), tiny.write(tmp_path_factory.mktemp("model") / "tiny"))
    (made.root / "tiny.yaml").write_text(yaml.safe_dump(GRID, sort_keys=False))
    made.commit("first")
    process = compare(made, server)
    killed = until(process, "Running stage 'train'")
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]:
        one.kill()
    ended(process, -signal.SIGKILL)
    return Compared(made, server, killed, ended(compare(made, server), 1))


def test_after_a_kill_only_what_was_missing_is_computed(compared: Compared) -> None:
    assert "Running stage 'fetch'" in compared.killed
    assert ran(compared.log(RUNS[0])) <= LAST | {"train", "evaluate@base-inference"}


def test_what_variants_share_is_computed_by_the_first_one_alone(compared: Compared) -> None:
    assert ran(compared.log(RUNS[1])) == LAST | {"render", "pack", "train"}


def test_one_that_fails_costs_no_other_and_is_told_at_the_end(compared: Compared) -> None:
    last = compared.finished[compared.finished.index("1 of 3 runs failed, the others are kept") :]
    assert "tiny-inference-wrong-s17: params.yaml: 1 fault ingest.sources.starter.path: nowhere: no such file" in last
    assert "Traceback" not in last
    assert "1 run of this grid failed" in (compared.made.root / "reports/compare/tiny/answer.md").read_text()


def test_each_variant_has_the_same_budget_and_a_loss_on_its_own_kind_of_data(compared: Compared) -> None:
    text = (compared.made.root / "reports/compare/tiny/answer.md").read_text()
    losses, budgets = (
        {cells[1]: cells[place] for line in part.splitlines() if len(cells := re.split(r"\s*\|\s*", line)) > 5}
        for part, place in ((text.split("## Tested")[0], -2), (text.split("## What each")[1], 5))
    )
    assert all(re.fullmatch(r"\d\.\d{3}", losses[name]) for name in ("instructions", "bare"))
    assert losses["base"] == "–"
    assert all(1_200 < float(budgets[name].replace(",", "")) <= 2_000 for name in ("instructions", "bare"))


def test_variants_are_experiments_and_comparable_runs_and_no_versions(compared: Compared) -> None:
    made = compared.made
    shown = csv.DictReader(io.StringIO(made.run("dvc", "exp", "show", "--csv")))
    wordings = {row["Experiment"]: row["render.wording"] for row in shown if row["typ"].startswith("branch")}
    assert wordings == {RUNS[0]: "", RUNS[1]: "none"}
    api = MlflowClient(f"sqlite:///{made.root / 'mlflow.db'}")
    found = {run.data.tags[tracking.VARIANT]: run for run in api.search_runs(["1"])}
    assert sorted(found) == sorted(RUNS)
    assert {run.data.params["variant"] for run in found.values()} == {"instructions", "bare"}
    assert all("held_out_exact_answer" in run.data.metrics for run in found.values())
    assert made.versions() == []


def test_a_second_call_computes_nothing(compared: Compared) -> None:
    made = compared.made
    (made.root / "tiny.yaml").write_text(
        yaml.safe_dump(GRID | {"variants": {"instructions": {}, "bare": {"render": {"wording": "none"}}}})
    )
    output = ended(compare(made, compared.server), 0)
    assert "2 runs: 2 are kept already, 0 to compute\nNothing was computed.\n" in output


def test_a_variant_is_repeated_to_the_byte_from_its_experiment(compared: Compared) -> None:
    made = compared.made
    made.run("dvc", "exp", "apply", RUNS[1])
    assert yaml.safe_load((made.root / "params.yaml").read_text())["render"]["wording"] == "none"
    lock = compared.lock()
    assert ran(made.run("dvc", "repro")) == set()
    made.run("dvc", "repro", "--force", "--single-item", "train")
    assert compared.lock() == lock
