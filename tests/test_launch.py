"""Several processes train what one trains, stop together, and fail with one message."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from mlflow import MlflowClient
from safetensors.torch import load_file

from tasks import params
from tasks.errors import UserError
from tasks.train import launch, processes
from tasks.train.together import LostError
from tests.course import Course


@pytest.fixture(scope="module")
def alone(prepared: Course, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """A training by one process: nine rows in steps of two, with dropout and validation."""
    made = prepared.copy(tmp_path_factory.mktemp("alone"))
    made.change(learning_rate=0.005)
    made.train()
    return made


@pytest.fixture(scope="module")
def two(prepared: Course, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The same training, about to be done by two processes."""
    made = prepared.copy(tmp_path_factory.mktemp("two"))
    made.change(learning_rate=0.005, launch={"processes": 2})
    return made


@pytest.fixture(scope="module")
def together(two: Course, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The same training by two processes."""
    made = two.copy(tmp_path_factory.mktemp("together"))
    ended(made)
    return made


def ended(made: Course) -> str:
    """Train in processes of their own; returns what they print."""
    with made.started() as process:
        printed = str(process.communicate()[0])
    assert process.returncode == 0, printed
    return printed


def read(made: Course, name: str) -> Any:
    return json.loads((made.root / "models/tuned" / name).read_text())


def test_two_processes_learn_what_one_learns(alone: Course, together: Course) -> None:
    one, other = (read(made, "history.json") for made in (alone, together))
    assert len(one) == len(other) == 10
    for point, same in zip(one, other, strict=True):
        assert same == pytest.approx(point, rel=1e-5)
    adapters = [load_file(made.root / "models/tuned/adapter_model.safetensors") for made in (alone, together)]
    for name, weight in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], weight, rtol=1e-4, atol=1e-5)


def test_an_epoch_holds_each_row_once_and_its_last_step_is_filled_up_with_none() -> None:
    order = list(processes.Order(rows=9, per_step=2, seed=17, epoch=lambda: 0))
    assert (sorted(order[:-1]), order[-1]) == (list(range(9)), processes.FILL)


def test_the_number_of_processes_is_in_the_fingerprint(alone: Course, together: Course) -> None:
    assert read(alone, "training.json")["fingerprint"] != read(together, "training.json")["fingerprint"]


def test_two_processes_of_which_one_is_killed_and_both_are_stopped_end_with_the_same_bytes(
    two: Course, together: Course
) -> None:
    with two.started() as process:
        trained(process, two, checkpoints=1)
        [other] = psutil.Process(process.pid).children()
        other.kill()
        printed = str(process.communicate()[0])
    assert process.returncode == 1
    assert printed.splitlines()[-1] == "error: process 2 of 2 failed: it was ended by SIGKILL"
    assert "Traceback" not in printed
    api = MlflowClient(f"sqlite:///{two.root / 'mlflow.db'}")
    assert [run.info.status for run in api.search_runs(["1"])] == ["FAILED"]
    with two.started() as process:
        trained(process, two, checkpoints=2)
        process.send_signal(signal.SIGTERM)
        printed = str(process.communicate()[0])
    assert process.returncode == 1
    assert printed.splitlines()[-1].startswith("error: stopped by SIGTERM after step ")
    assert "going on from" in ended(two)
    assert two.result() == together.result()


def trained(process: subprocess.Popen[str], made: Course, checkpoints: int) -> None:
    """Wait until so many more steps have their checkpoint."""
    seen: set[Path] = set()
    wanted = checkpoints + len(made.checkpoints())
    while len(seen) < wanted and process.poll() is None:
        seen |= set(made.root.glob("build/checkpoints/*/checkpoint-*"))
        time.sleep(0.01)


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that is as before when the test ends."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def code(text: str) -> list[str]:
    """A piece of code that knows its number as `rank`."""
    return ["-c", f"import os, sys, time; rank = os.environ['RANK']\n{text}"]


@pytest.mark.usefixtures("alike")
def test_what_another_process_says_is_told_and_not_that_others_lost_it() -> None:
    lost = f"error: {LostError.WORDS}"
    with (
        pytest.raises(UserError, match=r"^process 3 of 3 failed: no room$"),
        launch.others(3, 1, code(f"sys.exit({lost!r} if rank == '1' else 'error: no room')")),
    ):
        raise LostError


@pytest.mark.usefixtures("alike")
def test_another_process_that_fails_when_all_is_done_is_told() -> None:
    with (
        pytest.raises(UserError, match=r"^process 2 of 2 failed: late$"),
        launch.others(2, 1, code("sys.exit('late')")),
    ):
        pass


@pytest.mark.usefixtures("alike")
def test_the_others_end_with_the_first() -> None:
    with pytest.raises(ZeroDivisionError), launch.others(2, 1, code("time.sleep(60)")):
        [other] = [one for one in psutil.Process().children() if "time.sleep(60)" in " ".join(one.cmdline())]
        raise ZeroDivisionError
    assert not other.is_running()


def test_rows_that_the_processes_cannot_share_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 rows cannot be shared evenly by `launch.processes`, which is 2: write 4"):
        params.Train(rows_per_step=3, launch=params.Launch(processes=2))
