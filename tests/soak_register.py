"""python -m tests.soak_register [--few]: kill register and promote between any two calls to the registry.

Three kills for each call: one just before it, two a moment behind its beginning. What is done stands in
build/soak/register.json, from which a soak that was broken off goes on. `--few` takes one kill of every third call.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from tasks import outputs
from tasks.promote import __main__ as promote
from tasks.promote import moves
from tasks.register import __main__ as register
from tests import registered, registry_kills
from tests.data_fixtures import ROOT

RESULT = ROOT / "build/soak/register.json"
ROUNDS = 3


def prepared(folder: Path) -> Path:
    """A small project in which all is done but registration; made in a process whose threads no fork inherits."""
    if not (folder / "reports/register/lineage.json").is_file():
        shutil.rmtree(folder, ignore_errors=True)
        code = "import sys, pathlib, tests.project as p; p.make(pathlib.Path(sys.argv[1]), 'with_bos').run_all()"
        subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, check=True)
    return folder


def database(folder: Path, kind: str) -> Path:
    """A registry of its own, empty, or with a champion and a candidate that is to replace it.

    `folder` must be another one each time: MLflow keeps data bases open that it has used.
    """
    path = folder / "mlflow.db"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    client = MlflowClient(f"sqlite:///{path}")
    if kind == "promote":
        for _ in range(2):
            registered.add(client, registered.rows(registered.GOOD))
        moves.note(client, registered.NAME, "promoted", "the first one", None, "1")
    return path


WORK: dict[str, Callable[[], Any]] = {"register": register.ensure, "promote": promote.run}


def faults(kind: str, path: Path, done: bool) -> list[str]:
    """What is wrong with a registry after a kill, or after the work was `done` again."""
    client = MlflowClient(f"sqlite:///{path}")
    models = client.search_registered_models()
    versions = [version for model in models for version in client.search_model_versions(f"name = '{model.name}'")]
    numbers = {str(version.version) for version in versions}
    named = {alias: str(number) for model in models for alias, number in model.aliases.items()}
    found = [f"alias {alias} names no version" for alias, number in named.items() if number not in numbers]
    if kind == "register" and len(versions) > 1:
        found.append(f"{len(versions)} versions of one fingerprint")
    if done:
        experiments = [one.experiment_id for one in client.search_experiments()]
        runs = client.search_runs(experiments, max_results=1000)
        found += [f"run {run.info.run_id} is {run.info.status}" for run in runs if run.info.status != "FINISHED"]
        logged = client.search_logged_models(experiments)
        found += [f"logged model {one.name} is {one.status}" for one in logged if str(one.status) != "READY"]
        found += not_done(kind, client, named, len(versions), len(logged))
    return found


def not_done(kind: str, client: MlflowClient, named: dict[str, str], versions: int, logged: int) -> list[str]:
    """What should be there when the work was done."""
    if kind == "register":
        wanted, got = ({"candidate": "1"}, 1, 2), (named, versions, logged)
    else:
        wanted = {"candidate": "2", "champion": "2", "previous": "1"}, 2, 2
        got = named, versions, len(moves.log(client, registered.NAME))
    return [] if got == wanted else [f"{got} instead of {wanted}"]


def plan(folder: Path, few: bool) -> list[tuple[str, int, float | None]]:
    """(work, call, seconds behind it; None is just before it) of all kills."""
    chance, found = random.Random(17), []
    for kind, work in WORK.items():
        calls = registry_kills.run(work, folder / "project", database(folder / f"undisturbed-{kind}", kind))
        places = range(1, len(calls) + 1, 3 if few else 1)
        delays = [None] if few else [None, *(chance.uniform(0, 0.05) for _ in range(ROUNDS - 1))]
        found += [(kind, place, delay) for place in places for delay in delays]
    return found


def main(result: Path, few: bool) -> None:
    """All kills, going on where an earlier soak ended."""
    folder = result.with_suffix("")
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)  # MLflow puts files of a registry without a server there, in mlruns
    told: dict[str, Any] = json.loads(result.read_text()) if result.is_file() else {}
    if not told or "sound" in told:
        told = {"kills": []}
    prepared(folder / "project")
    kills = plan(folder, few)
    for kind, place, delay in kills[len(told["kills"]) :]:
        path = database(folder / f"kill-{len(told['kills']) + 1}", kind)
        call = registry_kills.kill(WORK[kind], folder / "project", path, place, delay)
        wrong = faults(kind, path, done=False)
        registry_kills.run(WORK[kind], folder / "project", path)
        wrong += faults(kind, path, done=True)
        phase = f"{kind}, call {place}: {'before' if delay is None else f'{delay:.3f} s into'} {call}"
        told["kills"].append({"phase": phase, "call": call, "wrong": wrong})
        outputs.write_json(result, told)
        shutil.rmtree(path.parent)
        print(f"kill {len(told['kills'])} of {len(kills)}: {phase}: {wrong or 'sound'}", flush=True)
    told["sound"] = not any(kill["wrong"] for kill in told["kills"])
    outputs.write_json(result, told)
    print(f"{len(told['kills'])} kills: {'sound' if told['sound'] else 'NOT SOUND'}")
    sys.exit(not told["sound"])


if __name__ == "__main__":
    few = "--few" in sys.argv
    chosen = [Path(word).resolve() for word in sys.argv[1:] if word != "--few"]
    target = chosen[0] if chosen else RESULT
    target.parent.mkdir(parents=True, exist_ok=True)
    main(target, few)
