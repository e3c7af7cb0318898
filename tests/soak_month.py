"""python -m tests.soak_month: a month of nightly retrainings on a real server, with data that changes on some days.

Every day the server schedules one, which a worker runs on the real model at a small size. There must be a training on
exactly the days on which code, values or data changed, one champion at any time, and no more disk than a few runs need.
What is done stands in build/soak/month.json, from which a soak that was broken off goes on.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from tasks import outputs
from tasks.promote import moves
from tests.checkout import Checkout, clone
from tests.data_fixtures import ROOT
from tests.deployment import Deployed, deployed

RESULT = ROOT / "build/soak/month.json"
DAYS = 30
KEEP = 3
"""Results that are kept, beside the champion's and the one before."""

SMALL: dict[str, Any] = {
    "render": {
        "examples": 80, "documents": 40, "held_out": ["commonsense"], "related": {},
        "weights": {"mine": 20},  # so that some of its few rows are learnt
    },
    "evaluate": {"suites": ["commonsense"], "new_tokens": 12},
    # What so small a training shows clearly: that answers end by themselves.
    "gate": {"measures": ["stopped"], "margin": 0.3, "floor": 1.0, "valid_answer": None, "stopped": None},
}  # fmt: skip


def more_data(made: Checkout, day: int) -> None:
    """The file that a source names grows."""
    rows = [{"instruction": f"What is {day} times {factor}?", "output": str(day * factor)} for factor in range(3, 23)]
    with (made.root / "mine.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def same_data(made: Checkout, day: int) -> None:
    """The file is written anew, with the same bytes."""
    path = made.root / "mine.jsonl"
    path.write_bytes(path.read_bytes())
    os.utime(path)


def other_values(made: Checkout, day: int) -> None:
    """A commit with another seed."""
    made.change("train", "seed", day)
    made.commit(f"seed {day}")


def other_text(made: Checkout, day: int) -> None:
    """A commit that changes nothing which a model is made from."""
    with (made.root / "README.md").open("a", encoding="utf-8") as file:
        file.write(f"\nDay {day}.\n")
    made.commit(f"day {day}")


EVENTS: dict[int, Callable[[Checkout, int], None]] = {
    4: more_data, 5: same_data, 9: more_data, 12: other_text, 15: other_values, 20: more_data, 21: more_data,
    26: more_data,
}  # fmt: skip
NEW = {1, *(day for day, event in EVENTS.items() if event in (more_data, other_values))}
"""The days on which there is something to train on."""


def tree(folder: Path) -> Checkout:
    """A clone of this tree's commit at a small size, with a source that git does not hold."""
    if (folder / "mine.jsonl").is_file():
        return Checkout(folder)
    shutil.rmtree(folder, ignore_errors=True)
    made = clone(folder)
    values = yaml.safe_load((folder / "params.yaml").read_text(encoding="utf-8"))
    for section, changes in SMALL.items():
        values.setdefault(section, {}).update(changes)
    values["ingest"]["sources"]["mine"] = {"format": "alpaca", "path": "mine.jsonl", "licence": "CC0-1.0"}
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    with (folder / ".gitignore").open("a", encoding="utf-8") as ignored:
        ignored.write("/mine.jsonl\n")
    made.commit("a month")
    more_data(made, 1)
    return made


def told(server: Deployed, day: int, run: dict[str, Any]) -> dict[str, Any]:
    """What a day came to."""
    client, name = MlflowClient(f"sqlite:///{server.made.root / 'mlflow.db'}"), "instructflow"
    aliases = client.get_registered_model(name).aliases
    promoted = [move.after for move in moves.log(client, name)]
    return {
        "day": day,
        "state": run["state"]["name"],
        "message": run["state"]["message"],
        "seconds": run["total_run_time"],
        "champion": str(aliases["champion"]) if "champion" in aliases else None,
        "last_promoted": promoted[-1] if promoted else None,
        "results": len(server.made.run("git", "branch", "--list", "runs/*").splitlines()),
        "gib": round(size(server.made.root) / 1024**3, 3),
    }


def end_broken_off(server: Deployed) -> None:
    """Tell the server at once that a run of a soak that was killed is dead; by itself it waits for ten minutes."""
    running = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
    for run in server.post("flow_runs/filter", flow_runs=running).json():
        server.post(f"flow_runs/{run['id']}/set_state", state={"type": "CRASHED"}, force=True)


def size(folder: Path) -> int:
    """The bytes that a folder takes of the disk; a file with several names counts once."""
    found = {(one.st_dev, one.st_ino): one.st_size for one in (path.lstat() for path in folder.rglob("*"))}
    return sum(found.values())


def faults(days: list[dict[str, Any]]) -> list[str]:
    """What was not as it must be."""
    ran = {one["day"] for one in days if one["state"] in ("Promoted", "Refused")}
    broken = [one["day"] for one in days if one["day"] not in ran and one["state"] != "Nothing to do"]
    found = [f"trained on {sorted(ran)}, and {sorted(NEW)} had something new"] if ran != NEW else []
    found += [f"day {day} did not end well" for day in broken]
    found += [f"day {one['day']}: two champions" for one in days if one["champion"] != one["last_promoted"]]
    found += [f"day {one['day']}: {one['results']} results" for one in days if one["results"] > KEEP + 2]
    settled = [one["gib"] for one in days if one["day"] >= 15]
    if settled and settled[-1] > settled[0] + 1:
        found.append(f"the disk went from {settled[0]} to {settled[-1]} GiB in its second half")
    return found


def main() -> None:
    """All days, going on where an earlier soak ended."""
    folder = RESULT.with_suffix("")
    days: list[dict[str, Any]] = json.loads(RESULT.read_text())["days"] if RESULT.is_file() else []
    if not days or len(days) == DAYS:
        days = []
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    with deployed(tree(folder / "tree"), folder / "prefect") as server:
        end_broken_off(server)
        for day in range(len(days) + 1, DAYS + 1):
            if event := EVENTS.get(day):
                event(server.made, day)
            days.append(told(server, day, server.whole("retrain/retrain", seconds=3600, keep=KEEP)))
            outputs.write_json(RESULT, {"days": days})
            print(json.dumps(days[-1]), flush=True)
    wrong = faults(days)
    outputs.write_json(RESULT, {"days": days, "wrong": wrong, "sound": not wrong})
    print("\n".join(wrong) or f"{DAYS} days: sound, trained on {len(NEW)} of them")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
