"""python -m tests.soak_resume [BASE]: kill a real training at twenty moments; it must end as if it never had been.

BASE is a base model's folder; without it a tiny model is made. What is done stands in build/soak/resume.json, from
which a soak that was broken off goes on. A last kill hits `dvc repro` with the stage in it.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tasks import outputs
from tests import course, tiny
from tests.checkout import checkout, outside
from tests.course import Course
from tests.data_fixtures import ROOT
from tests.kills import HERE, MOMENTS

RESULT = ROOT / "build/soak/resume.json"
FOLDER = RESULT.with_suffix("")
TRAINING = ["step", "adapter", "optimiser", "before-rename", "after-rename"]
ENDING = ["saving", "closing", "clearing"]
KILLS = 20


def moments(seed: int) -> list[tuple[str, int]]:
    """Twenty moments and how often each comes before the kill, at least two of each; the last ones end the run."""
    chance = random.Random(seed)
    early = TRAINING * 2 + chance.choices(TRAINING, k=KILLS - 2 * len(MOMENTS))
    chance.shuffle(early)
    counts = [(name, chance.randint(1, 5)) for name in early]
    # A run that MLflow has as finished is not closed a second time, so the moments behind that come last.
    return counts + [(name, 1) for name in ENDING for _ in range(2)]


def kill(made: Course, moment: str, count: int, delay: float) -> dict[str, Any]:
    """Run the training up to the moment and kill its process group; what was there then."""
    with made.started(moment, str(count)) as process:
        seen = next((line for line in process.stdout or () if HERE in line), None)
        if seen is None:
            raise SystemExit(f"the training ended before {moment} came {count} times")
        time.sleep(delay)
        os.killpg(process.pid, signal.SIGKILL)
    return {"phase": MOMENTS[moment], "moment": moment, "count": count, "checkpoints": made.checkpoints()}


def sha(made: Course) -> str:
    """The SHA-256 of the adapter."""
    return outputs.digest_path(made.root / "models/tuned/adapter_model.safetensors")


def finish(made: Course) -> None:
    """Run the training to its end, in a process of its own."""
    with made.started() as process:
        printed = str(process.communicate()[0])
    if process.returncode:
        raise SystemExit(f"the training failed:\n{printed[-2000:]}")


def under_dvc(root: Path) -> bool:
    """Whether `dvc repro` that was killed goes on from a checkpoint, and ends as a run that was not."""
    shutil.rmtree(root, ignore_errors=True)
    made = checkout(root / "checkout", tiny.write(root / "model"))
    for name, value in {"epochs": 20, "checkpoint_minutes": 0}.items():
        made.change("train", name, value)
    made.run("dvc", "repro", "pack")
    command = ["dvc", "repro", "train"]
    with subprocess.Popen(command, cwd=made.root, env=outside(), start_new_session=True) as process:
        while len(list(made.root.glob("build/checkpoints/*/checkpoint-*"))) == 0:
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
    goes_on = "going on from build/checkpoints" in made.run(*command)
    killed = outputs.digest_path(made.root / "models/tuned")
    made.run("dvc", "repro", "--force", "--single-item", "train")
    return goes_on and killed == outputs.digest_path(made.root / "models/tuned")


def main(base: Path | None = None) -> None:
    """Train once undisturbed and once with all kills, going on where an earlier soak ended."""
    told: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    if told.get("base") != str(base) or "equal" in told:
        shutil.rmtree(FOLDER, ignore_errors=True)
        told = {"base": str(base), "kills": []}
    chance = random.Random(len(told["kills"]))
    if "expected" not in told:
        course.make(FOLDER / "undisturbed", base=base).change(epochs=16)
        Course(FOLDER / "undisturbed").copy(FOLDER / "killed")
        finish(Course(FOLDER / "undisturbed"))
        told |= {"expected": sha(Course(FOLDER / "undisturbed"))}
    made = Course(FOLDER / "killed")
    outputs.write_json(RESULT, told)
    for moment, count in moments(17)[len(told["kills"]) :]:
        told["kills"].append(kill(made, moment, count, chance.uniform(0, 0.05)))
        outputs.write_json(RESULT, told)
        print(f"kill {len(told['kills'])} of {KILLS}: {MOMENTS[moment]}; checkpoints {made.checkpoints()}", flush=True)
    finish(made)
    whole = made.result() == Course(FOLDER / "undisturbed").result()
    told |= {"found": sha(made), "dvc": under_dvc(FOLDER / "dvc"), "left": made.checkpoints()}
    told |= {"equal": whole and told["found"] == told["expected"] and told["dvc"] and not told["left"]}
    outputs.write_json(RESULT, told)
    print(f"{len(told['kills'])} kills: {'equal' if told['equal'] else 'NOT EQUAL'}, {told['found']}")
    sys.exit(not told["equal"])


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what is running is ended too
    main(*map(Path, sys.argv[1:]))
