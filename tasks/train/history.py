"""What a training's log says: its curve, and the lowest validation loss. Nothing here depends on the clock.

`logs` is the log of transformers' TrainerState, which is kept with each checkpoint, so a resumed run decides as one
that was never interrupted.
"""

from typing import Any

from tasks.shards import Shards

Logs = list[dict[str, float]]


def history_of(logs: Logs) -> Logs:
    """Loss, learning rate and gradient norm of each step, with the validation loss where one was taken."""
    points: dict[float, dict[str, float]] = {}
    for log in logs:
        if "loss" in log:
            points[log["step"]] = {"step": log["step"], **named(log)}
        elif "eval_loss" in log:
            points[log["step"]]["validation_loss"] = log["eval_loss"]
    return list(points.values())


def named(log: dict[str, float]) -> dict[str, float]:
    """A step's numbers under this project's names."""
    return {"loss": log["loss"], "learning_rate": log["learning_rate"], "gradient_norm": float(log["grad_norm"])}


def validations(logs: Logs) -> list[tuple[int, float]]:
    """Step and validation loss of each validation."""
    return [(int(log["step"]), log["eval_loss"]) for log in logs if "eval_loss" in log]


def validation_curve(logs: Logs) -> Logs:
    """The validations as DVC plots them beside the training loss: a gap in a line would hide it."""
    return [{"step": step, "loss": loss} for step, loss in validations(logs)]


def best_step(logs: Logs) -> int | None:
    """The step of the lowest validation loss, the first of equal ones; None before the first validation."""
    return min(validations(logs), key=lambda taken: taken[1], default=(None,))[0]


def since_best(logs: Logs) -> int:
    """How many validations have brought no new lowest loss since the best one."""
    best = best_step(logs)
    return sum(best is not None and step > best for step, _ in validations(logs))


def describe(packed: Shards, logs: Logs, fingerprint: str) -> dict[str, Any]:
    """What a reader of the adapter wants to know first; `dvc metrics` shows it."""
    history, best = history_of(logs), best_step(logs)
    last = [point["loss"] for point in history[-10:]]
    told = {
        "fingerprint": fingerprint,
        "chat_hash": packed.index["chat_hash"],
        "steps": len(history),
        "tokens": packed.index["tokens"],
        "supervised_tokens": packed.index["supervised_tokens"],
        "first_loss": round(history[0]["loss"], 4),
        "last_loss": round(sum(last) / len(last), 4),
    }
    if best is not None:
        told |= {"best_step": best, "validation_loss": round(dict(validations(logs))[best], 4)}
    return told
