"""What decides how long a training goes, at which rate, which adapter is its result, and when it is stopped."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from tasks import model, params, preflight, tracking
from tasks.errors import UserError
from tasks.guards import GuardError
from tasks.shards import VALIDATION, Shards, read_shards
from tasks.train import history, training
from tasks.train.control import ControlledTrainer
from tests.course import Course

PLAIN = {"validate_steps": None, "checkpoint_minutes": 5}


def read(made: Course, name: str) -> Any:
    return json.loads((made.root / "models/tuned" / name).read_text())


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("linear", [0, 0.5, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0, 0.5, 1, 0.853553, 0.5, 0.146447]),
        ("constant_with_warmup", [0, 0.5, 1, 1, 1, 1]),
    ],
)
def test_the_learning_rate_warms_up_and_falls_as_the_schedule_says(
    begun: Course, schedule: str, rates: list[float]
) -> None:
    begun.change(**PLAIN, schedule=schedule, max_steps=6, warmup_share=1 / 3, learning_rate=1.0, max_gradient_norm=1e-3)
    begun.train()
    assert [point["learning_rate"] for point in read(begun, "history.json")] == pytest.approx(rates, abs=1e-6)


def steps(shards: Shards, **wanted: Any) -> int:
    return training.steps_of(params.Train(rows_per_step=2, **wanted), shards)


def test_epochs_steps_and_tokens_bound_a_training_and_the_fewest_steps_hold(prepared: Course) -> None:
    shards = read_shards(prepared.root / "data/pack")
    assert len(shards) == 9
    assert steps(shards, epochs=3) == 15
    assert steps(shards, epochs=3, max_steps=4) == 4
    assert steps(shards, epochs=3, tokens=3 * 800) == int(3 * 800 / (shards.index["tokens"] / 9 * 2))
    assert steps(shards, epochs=1, tokens=10**9) == 5
    assert steps(shards, epochs=1, tokens=1) == 1


def test_the_validation_loss_is_that_of_each_sequence_alone_under_the_saved_adapter(begun: Course) -> None:
    begun.change(validate_steps=4, max_steps=4, learning_rate=0.2)
    begun.train()
    shards = read_shards(begun.root / "data/pack" / VALIDATION)
    base: Any = AutoModelForCausalLM.from_pretrained(begun.root / "models/base", dtype=torch.float32)
    tuned = model.apply_adapter(base, begun.root / "models/tuned")
    assert read(begun, "validation.json")[0]["loss"] == pytest.approx(mean_loss(tuned, shards), abs=1e-4)


def mean_loss(tuned: Any, shards: Shards) -> float:
    """The mean loss over supervised tokens, each sequence computed by itself."""
    total = 0.0
    for sequence in range(len(shards.boundaries) - 1):
        span = slice(shards.boundaries[sequence], shards.boundaries[sequence + 1])
        ids, learnt = torch.tensor(shards.tokens[span], dtype=torch.long), torch.tensor(shards.supervised[span])
        with torch.no_grad():
            logits = tuned(input_ids=ids[None]).logits[0, :-1]
        total += float(cross_entropy(logits[learnt[1:]], ids[1:][learnt[1:]], reduction="sum"))
    return total / int(np.sum(shards.supervised))


def test_the_best_adapter_is_the_result_and_training_ends_when_none_follows(
    begun: Course, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    losses = iter([3.0, 1.0, 2.0, 1.0, 0.5])
    monkeypatch.setattr(ControlledTrainer, "mean_loss", lambda *_: next(losses))
    begun.change(validate_steps=2, patience=2, schedule="constant_with_warmup", warmup_share=0.0)
    begun.train()
    assert read(begun, "training.json")["best_step"] == 4
    assert [point["step"] for point in read(begun, "history.json")] == list(range(1, 9))
    curve = [(point["step"], point.get("validation_loss")) for point in read(begun, "history.json")][1::2]
    assert curve == [(2, 3.0), (4, 1.0), (6, 2.0), (8, 1.0)]
    assert read(begun, "validation.json")[1] == {"step": 4, "loss": 1.0}
    best = load_file(begun.root / "models/tuned/adapter_model.safetensors")
    begun.change(validate_steps=None, patience=None, max_steps=4)
    begun.train()
    shorter = load_file(begun.root / "models/tuned/adapter_model.safetensors")
    assert all(torch.equal(shorter[name], weight) for name, weight in best.items())


LOSSES = st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=1, max_size=8)


@given(LOSSES)
def test_the_best_step_is_the_first_of_the_lowest_and_those_behind_it_are_counted(losses: list[float]) -> None:
    logs = [{"step": number, "eval_loss": loss} for number, loss in enumerate(losses)]
    best = history.best_step(logs)
    assert best == losses.index(min(losses))
    assert history.since_best(logs) == len(losses) - 1 - best


def test_patience_without_validation_is_refused() -> None:
    with pytest.raises(ValueError, match="set `validate_steps` too"):
        params.Train(patience=1)


def test_validation_without_a_share_of_the_records_is_refused_before_any_work(
    begun: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(begun.root)
    path = begun.root / "params.yaml"
    (begun.root / "suite").mkdir()
    path.write_text(path.read_text().replace("include: {}", "include: {own: suite}"))
    assert preflight.load().train.validate_steps == 3
    path.write_text(path.read_text().replace("validation: 0.2", "validation: 0.0"))
    with pytest.raises(UserError, match=r"train\.validate_steps: there is nothing to validate on"):
        preflight.load()


def test_a_loss_that_is_no_number_stops_the_run_and_names_the_records(
    begun: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsound(monkeypatch, step=3, factor=float("nan"))
    with pytest.raises(GuardError, match=r"step 3: the loss is nan, .* its records are starter/\w+/"):
        begun.train()
    told = json.loads((begun.root / "build/stopped/train.json").read_text())
    shards = read_shards(begun.root / "data/pack")
    assert told["examples"] == [example for row in told["rows"] for example in shards.examples(row)]
    assert len(told["rows"]) == 2
    assert begun.checkpoints() == [2]
    api = MlflowClient(f"sqlite:///{begun.root / 'mlflow.db'}")
    [run] = api.search_runs(["1"])
    assert run.info.status == "FAILED"


def unsound(patch: pytest.MonkeyPatch, step: int, factor: float) -> None:
    """From this step on, every loss is multiplied."""
    sound = ControlledTrainer.compute_loss

    def broken(self: Any, *values: Any, **named: Any) -> Any:
        return sound(self, *values, **named) * (factor if self.state.global_step >= step - 1 else 1.0)

    patch.setattr(ControlledTrainer, "compute_loss", broken)


def test_a_loss_that_explodes_stops_the_run(begun: Course, monkeypatch: pytest.MonkeyPatch) -> None:
    unsound(monkeypatch, step=2, factor=3.0)
    with pytest.raises(GuardError, match=r"step 2: the loss is .*, and guessing has 6\.\d+: training has come apart"):
        begun.train()


def test_a_base_model_with_a_weight_that_is_no_number_is_told_before_training(begun: Course) -> None:
    path = begun.root / "models/base/model.safetensors"
    weights = load_file(path)
    name = min(weights)
    weights[name][0] = float("inf")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(GuardError, match=rf"models/base: .* no finite numbers: {name}"):
        begun.train()
    assert not list(begun.root.glob("build/checkpoints/*/checkpoint-*"))


def test_speed_memory_waste_and_the_machine_s_load_are_in_mlflow(
    begun: Course, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    begun.train()
    api = MlflowClient(f"sqlite:///{begun.root / 'mlflow.db'}")
    fingerprint = read(begun, "training.json")["fingerprint"]
    run = tracking.find(api, "instructflow", fingerprint)
    assert run is not None
    assert run.data.metrics.keys() >= {
        "loss", "learning_rate", "gradient_norm", "validation_loss", "tokens_per_second", "share_of_limit",
        "packing_waste", "supervised_tokens_per_second", "peak_memory_gib", "system/cpu_utilization_percentage",
    }  # fmt: skip
    assert run.data.metrics["share_of_limit"] > 0  # of a limit that is measured, so beside other work it may exceed 1
    declared = "".join(path.read_text() for path in (begun.root / "models/tuned").glob("*.json"))
    assert not any(name in declared for name in ("per_second", "share_of_limit", "memory", "system/"))
