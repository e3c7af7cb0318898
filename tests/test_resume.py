"""A training that is interrupted ends with the bytes of one that never was."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from tasks import settings
from tasks.errors import UserError
from tasks.train.checkpoints import SEAL, Checkpoints
from tasks.train.control import ControlledTrainer
from tasks.train.stopping import StoppedError
from tests import kills
from tests.course import Course, interrupted


@pytest.fixture(scope="module")
def expected(prepared: Course, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the training gives that is never interrupted."""
    return prepared.copy(tmp_path_factory.mktemp("expected")).train()


def runs(made: Course) -> list[Any]:
    """The MLflow runs of a project."""
    api: Any = client(made)
    return list(api.search_runs([api.get_experiment_by_name("instructflow").experiment_id]))


def client(made: Course) -> MlflowClient:
    return MlflowClient(f"sqlite:///{made.root / 'mlflow.db'}")


def test_killed_twice_and_stopped_once_it_ends_with_the_same_bytes_in_one_mlflow_run(
    begun: Course, expected: str
) -> None:
    killed(begun, "optimiser", 3)  # in the first epoch, in the checkpoint of the third step
    assert begun.checkpoints() == [2]
    assert [run.info.status for run in runs(begun)] == ["RUNNING"]
    killed(begun, "step", 5)  # in the second epoch
    with begun.started("step", "1") as process:
        printed = "".join(waited_for(process, kills.HERE))
        process.send_signal(signal.SIGTERM)
        printed += str(process.communicate()[0])
    assert process.returncode == 1
    assert "the run stops after this step and its checkpoint" in printed
    assert printed.splitlines()[-1].startswith("error: stopped by SIGTERM after step ")
    assert "Warning" not in printed  # the libraries' business with each other is no user's
    assert begun.train() == expected
    assert begun.checkpoints() == []
    [run] = runs(begun)
    assert run.info.status == "FINISHED"
    steps = [point.step for point in client(begun).get_metric_history(run.info.run_id, "loss")]
    assert steps == list(range(1, 11))


def killed(made: Course, moment: str, count: int) -> None:
    """The training, killed with its whole process group at a moment."""
    with made.started(moment, str(count)) as process:
        waited_for(process, kills.HERE)
        os.killpg(process.pid, signal.SIGKILL)


def waited_for(process: subprocess.Popen[str], words: str) -> list[str]:
    """Read what the process prints until these words come."""
    seen: list[str] = []
    for line in process.stdout or ():
        seen.append(line)
        if words in line:
            return seen
    raise AssertionError("".join(seen))


def test_stopped_after_every_step_it_ends_with_the_same_bytes(
    begun: Course, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(ControlledTrainer, "training_step", once_a_step(ControlledTrainer.training_step))
        for step in range(1, 10):
            with pytest.raises(StoppedError, match=rf"stopped by SIGTERM after step {step} of 10"):
                begun.train()
    assert begun.train() == expected


def once_a_step(sound: Any) -> Any:
    """A step of training that is told to stop while it computes its first row."""

    def told(self: Any, *values: Any, **named: Any) -> Any:
        if not self.taken:
            os.kill(os.getpid(), signal.SIGTERM)
        return sound(self, *values, **named)

    return told


def test_how_often_checkpoints_are_written_changes_no_byte(begun: Course, expected: str) -> None:
    begun.change(checkpoint_minutes=5)
    assert begun.train() == expected


def test_the_newest_and_the_best_checkpoint_are_kept(begun: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 2.0])
    monkeypatch.setattr(ControlledTrainer, "mean_loss", lambda *_: next(losses))
    interrupted(begun, monkeypatch, 9)
    assert begun.checkpoints() == [3, 8]


def test_a_crash_leaves_its_mlflow_run_failed_and_the_next_start_takes_it_over(
    begun: Course, monkeypatch: pytest.MonkeyPatch, expected: str
) -> None:
    interrupted(begun, monkeypatch, 4)
    assert [run.info.status for run in runs(begun)] == ["FAILED"]
    assert begun.train() == expected
    # What was left of the run would make `make plan` expect too little.
    assert not (begun.root / "build/timings/train.json").exists()
    assert [run.info.status for run in runs(begun)] == ["FINISHED"]


TWO = {"processes": 2, "base": "whole"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checkpoints]:
    """Checkpoints after the steps 1 and 2, the second the newer."""
    monkeypatch.chdir(tmp_path)
    made = Checkpoints("f00d", TWO)
    for step in (1, 2):
        written(made, step)
    yield made


def written(made: Checkpoints, step: int) -> None:
    """A checkpoint as the Trainer writes one, of one file and its state."""
    with made.storing(step):
        folder = made.scratch / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "optimizer.pt").write_bytes(b"12345678")
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))


def test_the_newest_checkpoint_is_taken(store: Checkpoints) -> None:
    assert store.newest() == store.path(2)


@pytest.mark.parametrize("harm", ["cut", "changed", "missing", "unsealed", "torn seal"])
def test_a_half_written_checkpoint_is_passed_over_for_the_one_before(store: Checkpoints, harm: str) -> None:
    file, seal = store.path(2) / "optimizer.pt", store.path(2) / SEAL
    match harm:
        case "cut":
            file.write_bytes(b"1234")
        case "changed":
            file.write_bytes(b"12345679")
        case "missing":
            file.unlink()
        case "unsealed":
            seal.unlink()
        case "torn seal":
            seal.write_text(seal.read_text()[:20])
    assert store.newest() == store.path(1)


def test_a_checkpoint_is_written_beside_its_place(store: Checkpoints) -> None:
    assert store.scratch / "checkpoint-3" != store.path(3)
    with store.storing(3):
        folder = store.scratch / "checkpoint-3"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps({"log_history": []}))
        assert store.steps() == [1, 2]
        assert not store.path(3).exists()
    assert store.steps() == [1, 2, 3]


def test_what_was_not_finished_is_no_checkpoint(store: Checkpoints) -> None:
    with pytest.raises(KeyboardInterrupt), store.storing(3):
        (store.scratch / "checkpoint-3").mkdir(parents=True)
        raise KeyboardInterrupt
    assert store.steps() == [1, 2]


def test_a_checkpoint_of_another_fingerprint_is_not_taken(store: Checkpoints) -> None:
    other = Checkpoints("beef", TWO)
    assert other.newest() is None
    shutil.copytree(store.folder, other.folder)
    assert other.newest() is None


def test_a_checkpoint_tells_in_which_processes_each_step_was_computed(store: Checkpoints) -> None:
    two = {"step": 1, **TWO}
    assert Checkpoints("f00d", TWO).launches == [two]
    other = Checkpoints("f00d", TWO | {"processes": 4})
    assert other.launches == [two, {"step": 3, "processes": 4, "base": "whole"}]
    written(other, 3)
    assert Checkpoints("f00d", TWO).launches == [*other.launches, {"step": 4, **TWO}]
    assert Checkpoints("f00d", TWO | {"processes": 4}).launches == other.launches


def test_another_seed_begins_anew(begun: Course, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    interrupted(begun, monkeypatch, 4)
    begun.change(seed=18)
    other = begun.train()
    shutil.rmtree(begun.root / "build")
    shutil.rmtree(begun.root / "models/tuned")
    assert begun.train() == other


@pytest.fixture
def disk(begun: Course, prepared: Course, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A disk of its own for the checkpoints, with room for one and a half of them."""
    measured = prepared.copy(tmp_path / "measured")
    interrupted(measured, monkeypatch, 2)
    size = sum(file.stat().st_size for file in measured.root.glob("build/checkpoints/*/checkpoint-1/*"))
    place = begun.root / settings.BUILD / "checkpoints"
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size * 3 // 2}", "tmpfs", str(place)], capture_output=True, text=True
    )
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_is_told_and_the_checkpoint_before_it_is_used(begun: Course, disk: Path, expected: str) -> None:
    with pytest.raises(UserError, match=r"the checkpoint of step 2 cannot be written \(\d MiB free\): .*; the one of"):
        begun.train()
    assert begun.checkpoints() == [1]
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    assert begun.train() == expected
