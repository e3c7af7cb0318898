"""Several processes train what one trains, stop together, and fail with one message."""

import gc
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
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
from tests.course import Course, interrupted

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")


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


@pytest.fixture(scope="module")
def sharded(two: Course, tmp_path_factory: pytest.TempPathFactory) -> Course:
    """The same training by two processes that hold the base in parts."""
    made = two.copy(tmp_path_factory.mktemp("sharded"))
    made.change(launch={"processes": 2, "base": "sharded"})
    assert "in 2 parts" in ended(made)
    return made


def ended(made: Course) -> str:
    """Train in processes of their own; returns what they print."""
    with made.started() as process:
        printed = str(process.communicate()[0])
    assert process.returncode == 0, printed
    return printed


def read(made: Course, name: str) -> Any:
    return json.loads((made.root / "models/tuned" / name).read_text())


def assert_alike(alone: Course, other: Course) -> None:
    """Both have the same curves and adapter, but for rounding: float32 has seven digits, and sums of the same numbers
    in another order keep five of them through ten steps.
    """
    for name in ("history.json", "validation.json"):
        for point, same in zip(read(alone, name), read(other, name), strict=True):
            assert same == pytest.approx(point, rel=1e-5)
    adapters = [load_file(made.root / "models/tuned/adapter_model.safetensors") for made in (alone, other)]
    assert adapters[0].keys() == adapters[1].keys()
    for name, weight in adapters[0].items():
        torch.testing.assert_close(adapters[1][name], weight, rtol=1e-4, atol=1e-5)


def test_two_processes_learn_what_one_learns(alone: Course, together: Course) -> None:
    assert_alike(alone, together)


def test_an_epoch_holds_each_row_once_and_its_last_step_is_filled_up_with_none() -> None:
    order = list(processes.Order(rows=9, per_step=2, seed=17, epoch=lambda: 0))
    assert (sorted(order[:-1]), order[-1]) == (list(range(9)), processes.FILL)


def test_a_sharded_base_learns_what_a_whole_one_learns(alone: Course, sharded: Course) -> None:
    assert_alike(alone, sharded)


def test_the_processes_are_in_the_fingerprint(alone: Course, together: Course, sharded: Course) -> None:
    assert len({read(made, "training.json")["fingerprint"] for made in (alone, together, sharded)}) == 3


@pytest.mark.long
def test_where_one_is_lost_all_go_on_and_where_the_agent_is_killed_all_end_and_the_bytes_are_the_same(
    two: Course, together: Course
) -> None:
    with two.started() as process:
        trained(process, two, checkpoints=1)
        part_of(process, 1).kill()
        trained(process, two, checkpoints=2)
        parts = psutil.Process(process.pid).children()
        process.kill()
        printed = str(process.communicate()[0])
    assert "process 2 of 2 failed: it was ended by SIGKILL; all begin again from the last checkpoint" in printed
    assert "going on from" in printed
    assert "Traceback" not in printed
    assert psutil.wait_procs(parts, timeout=10)[1] == []
    assert "going on from" in ended(two)
    assert two.result() == together.result()
    api = MlflowClient(f"sqlite:///{two.root / 'mlflow.db'}")
    assert [run.info.status for run in api.search_runs(["1"])] == ["FINISHED"]


@pytest.mark.long
def test_another_number_of_processes_goes_on_with_the_same_steps_and_the_result_says_so(
    sharded: Course, alone: Course, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = sharded.copy(tmp_path)
    with made.started() as process:
        trained(process, made, checkpoints=2)
        process.send_signal(signal.SIGTERM)
        printed = str(process.communicate()[0])
    assert process.returncode == 1
    assert printed.splitlines()[-1].startswith("error: stopped by SIGTERM after step ")
    first = made.checkpoints()[-1]
    made.change(launch={"processes": 1})
    interrupted(made, monkeypatch, first + 3)
    made.change(launch={"processes": 2})
    assert f"checkpoint-{first + 2}, in other processes than before" in ended(made)
    launches = [(one["step"], one["processes"], one["base"]) for one in read(made, "inputs.json")["launches"]]
    assert launches == [(1, 2, "sharded"), (first + 1, 1, "whole"), (first + 3, 2, "whole")]
    assert_alike(alone, made)


def part_of(process: subprocess.Popen[str], rank: int) -> psutil.Process:
    """One of the processes that train."""
    [found] = [one for one in psutil.Process(process.pid).children() if one.environ().get("RANK") == str(rank)]
    return found


def trained(process: subprocess.Popen[str], made: Course, checkpoints: int) -> None:
    """Wait until so many more steps have their checkpoint."""
    seen: set[Path] = set()
    wanted = checkpoints + len(made.checkpoints())
    while len(seen) < wanted and process.poll() is None:
        seen |= set(made.root.glob("build/checkpoints/*/checkpoint-*"))
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that is as before when the test ends."""
    monkeypatch.setattr(os, "environ", os.environ.copy())


def launched(text: str, processes: int = 2, **wanted: Any) -> None:
    """Run a piece of code, which knows its number as `rank`, in several processes."""
    told = f"import os, sys, time; rank = os.environ['RANK']\nopen('begun', 'a').write(rank)\n{text}"
    launch.run(params.Launch(processes=processes, **wanted), 1, ["-c", told])


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the processes leave their numbers when they begin."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "begun"
    gc.collect()  # the agent leaves logs open, which else another test would be told of


def test_what_one_says_is_told_the_others_end_and_no_error_is_tried_again(begun: Path) -> None:
    start = time.monotonic()
    with pytest.raises(UserError, match=r"^process 2 of 3 failed: no room$"):
        launched("sys.exit('error: no room') if rank == '1' else time.sleep(60)", 3)
    assert time.monotonic() - start < 30
    assert begun.read_text().count("1") == 1


def test_another_process_that_fails_when_all_is_done_is_told(begun: Path) -> None:
    with pytest.raises(UserError, match=r"^process 2 of 2 failed: late$"):
        launched("time.sleep(0.5), sys.exit('late') if rank == '1' else None")


def test_afterwards_signals_do_what_they_did_before(begun: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    launched("pass")
    assert signal.getsignal(signal.SIGINT) is before


def test_what_the_first_says_is_not_said_twice(begun: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        launched("sys.exit('error: no room') if rank == '0' else time.sleep(60)")
    assert (ended.value.code, capfd.readouterr().err) == (1, "error: no room\n")


@pytest.mark.parametrize("restarts", [0, 2])
def test_all_begin_again_where_one_is_lost_as_often_as_asked(begun: Path, restarts: int) -> None:
    with pytest.raises(UserError, match=r"^process 1 of 2 failed: it was ended by SIGKILL$"):
        launched("os.kill(os.getpid(), 9) if rank == '0' else time.sleep(60)", restarts=restarts)
    assert begun.read_text().count("0") == restarts + 1


def test_where_another_is_lost_a_process_waits_to_be_ended_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(launch.time, "sleep", slept.append)
    with pytest.raises(LostError), launch.part():
        raise LostError
    assert slept == [launch.NOTICED]


def test_rows_that_the_processes_cannot_share_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 rows cannot be shared evenly by `launch.processes`, which is 2: write 4"):
        params.Train(rows_per_step=3, launch=params.Launch(processes=2))
