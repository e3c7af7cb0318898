"""python -m tests.soak_faults [--few] [--trials N]: what a deployed retraining loses where something dies under it.

Real servers of infra.team, the real model at a small size, DVC's remote behind SSH. Each trial begins a retraining,
strikes at a moment of it, and lets the next retraining follow where the struck one did not end well; then nothing may
be missing, and the adapter must be that of an undisturbed run. Of what came before only training and what follows is
done anew. What is done stands in build/soak/faults.json, from which a soak that was broken off goes on; `--few` ends
after one trial of each fault, `--trials` after so many more. It needs root, who may mount the disk that gets full.

Of the same, `make test` has what takes seconds: a killed training (test_resume), a registration killed at a call
(test_kills), a tracking server that goes (test_tracking), a second run and a disk nearly full (test_attempts), and the
loss of all servers (test_servers).
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
import yaml
from mlflow import MlflowClient
from mlflow.entities import ViewType

from tasks import errors, outputs, tracking
from tasks.errors import UserError
from tasks.promote import moves
from tests import outages
from tests.data_fixtures import ROOT
from tests.deployment import FINAL
from tests.scene import Scene, end_all, give_up, scene

RESULT = ROOT / "build/soak/faults.json"
FOLDER = RESULT.with_suffix("")
NAME = "instructflow"
ROUNDS = 5
LONGEST = 1200
"""Seconds in which a run has to end, or to be told as dead, on a machine with other load too."""

HOW = {"keep": 1000, "free_gib": 0.1}
"""What every retraining is asked with; the disk is a small one."""

ANEW = ("train", "evaluate@tuned", "report", "register")
"""How the stages begin that every trial does again."""

WORK = ("tasks.train run", "tasks.evaluate run", "tasks.register run", "tasks.promote run", "dvc push")
"""What the commands have in them during which a fault strikes, in their order."""

LONG = {"remote": (8, 15, 30, 110, 120), "prefect": (10, 90, 5, 90, 20)}
"""Seconds for which these are gone, in each round: in some for longer than one request or push is tried again."""


@dataclass(frozen=True)
class Moment:
    """What strikes, during which command and after which share of its time, and for how many seconds it lasts."""

    fault: str
    work: str
    share: float
    away: float


def plan() -> list[Moment]:
    """All trials: in each round every fault once, at another moment."""
    chance, found = random.Random(17), []
    for number in range(ROUNDS):
        for place, fault in enumerate(outages.FAULTS):
            work = {"stage": WORK[0], "remote": WORK[-1]}.get(fault, WORK[(number + place) % len(WORK)])
            away = chance.uniform(3, 15)
            if fault in LONG:
                away = LONG[fault][number]
            found.append(Moment(fault, work, round(chance.uniform(0, 0.9), 2), round(away, 1)))
    return found


def reset(scene: Scene) -> None:
    """Let training and what follows it be done anew: in the checkout, in DVC's cache and remote, in the registry."""
    end_all(scene)
    root = scene.checkout.root
    lock = yaml.safe_load((root / "dvc.lock").read_text(encoding="utf-8"))
    lock["stages"] = {name: one for name, one in lock["stages"].items() if not name.startswith(ANEW)}
    (root / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False), encoding="utf-8")
    for name in ("models/tuned", "reports/evaluate/tuned", "reports/report", "reports/register", "build/checkpoints"):
        shutil.rmtree(root / name, ignore_errors=True)
    shutil.rmtree(scene.tree.root / ".dvc/cache/runs", ignore_errors=True)
    root.with_name(f"{root.name}.json").unlink(missing_ok=True)  # the last attempt, of which this one is the same again
    scene.checkout.run("dvc", "gc", "--workspace", "--cloud", "--force")
    client = MlflowClient()
    for run in runs(client):
        client.delete_run(run.info.run_id)
    for model in client.search_logged_models([experiment(client)]):
        if tracking.FINGERPRINT in model.tags:
            client.delete_logged_model(model.model_id)
    for known in client.search_registered_models(f"name = '{NAME}'"):
        client.delete_registered_model(known.name)


def experiment(client: MlflowClient) -> str:
    """The experiment of all runs."""
    return str(client.get_experiment_by_name(NAME).experiment_id)


def runs(client: MlflowClient, view: int = ViewType.ACTIVE_ONLY) -> list[Any]:
    """The runs in MLflow."""
    return list(client.search_runs([experiment(client)], run_view_type=view, max_results=5000))


def kept(scene: Scene) -> dict[str, list[str]]:
    """What must be there afterwards as well: the user's commit and files, results, and all runs of the past."""
    git = scene.tree.run
    branches = git("git", "branch", "--format=%(refname:short) %(objectname)").splitlines()
    return {
        "the user's tree": [git("git", "status", "--porcelain"), git("git", "rev-parse", "HEAD")],
        "branches": branches,
        "runs in MLflow": [run.info.run_id for run in runs(MlflowClient(), ViewType.ALL)],
    }


def left(planned: list[Moment], trials: list[dict[str, Any]]) -> list[Moment]:
    """The trials that are not done; one whose fault was mended can be taken out of the file, and is done again."""
    return [moment for moment in planned if not any(asdict(moment).items() <= one.items() for one in trials)]


def strike(scene: Scene, identity: str, moment: Moment, seconds: dict[str, float]) -> str:
    """Wait for the moment and let it happen; what was going on."""
    end = time.monotonic() + LONGEST
    while not scene.at_work(moment.work):
        if time.monotonic() > end or scene.server.run(identity)["state"]["type"] in FINAL:
            raise UserError(f"{moment.work} did not come")
        time.sleep(0.1)
    begun = time.monotonic()
    while time.monotonic() - begun < moment.share * seconds.get(moment.work, 1) and scene.at_work(moment.work):
        time.sleep(0.1)
    told = f"{time.monotonic() - begun:.1f} s after the beginning of {moment.work}"
    steps = sorted(
        int(path.name.split("-")[1]) for path in scene.checkout.root.glob("build/checkpoints/*/checkpoint-*")
    )
    outages.FAULTS[moment.fault](scene, moment.away)
    return told + (f", a checkpoint at step {steps[-1]}" if steps else "")


def durations(scene: Scene, identity: str) -> dict[str, float]:
    """For how many seconds each command was at work, up to the run's end."""
    seen: dict[str, list[float]] = {}
    while scene.server.run(identity)["state"]["type"] not in FINAL:
        for word in WORK:
            if scene.at_work(word):
                seen.setdefault(word, []).append(time.monotonic())
        time.sleep(0.2)
    return {word: round(times[-1] - times[0], 1) for word, times in seen.items()}


def ended(scene: Scene, identity: str, wrong: list[str]) -> dict[str, Any]:
    """The run once it has ended; one that does not is told, and ended."""
    try:
        return scene.server.ended(identity, LONGEST)
    except AssertionError as error:
        wrong.append(f"hangs: {error}")
        give_up(scene, identity)
        return scene.server.run(identity)


def trial(scene: Scene, moment: Moment, usual: dict[str, Any]) -> dict[str, Any]:
    """One retraining that is struck, and what came of it."""
    reset(scene)
    before, since, wrong = kept(scene), datetime.now(UTC), list[str]()
    identity = scene.server.begin("retrain/retrain", again=True, **HOW)
    place = strike(scene, identity, moment, usual["seconds"])
    struck = [ended(scene, identity, wrong)]
    if struck[0]["state"]["type"] != "COMPLETED" or not pushed(scene):
        struck.append(ended(scene, scene.server.begin("retrain/retrain", **HOW), wrong))
    lines = logs(scene, since)
    found = result(scene)
    wrong += lost(before, kept(scene)) + broken(scene, struck[-1], found, usual, lines)
    return {
        **asdict(moment),
        "moment": place,
        "runs": [f"{run['state']['name']}: {run['state']['message']}" for run in struck],
        "went_on": went_on(scene, struck, lines, since),
        "found": found,
        "seconds": round((datetime.now(UTC) - since).total_seconds()),
        "wrong": wrong,
    }


def undisturbed(scene: Scene) -> dict[str, Any]:
    """What a retraining comes to, and how long its parts take: the second one, since the first does more."""
    first = scene.server.whole("retrain/retrain", 3600, **HOW)
    if first["state"]["type"] != "COMPLETED":
        raise UserError(f"the undisturbed retraining ended {first['state']['name']}: {first['state']['message']}")
    adapter = result(scene)["adapter"]
    reset(scene)
    identity = scene.server.begin("retrain/retrain", again=True, **HOW)
    seconds = durations(scene, identity)
    told = {"seconds": seconds, "outcome": scene.server.run(identity)["state"]["name"], "found": result(scene)}
    if told["found"]["adapter"] != adapter or not pushed(scene):
        raise UserError("two undisturbed retrainings differ")
    return told


def result(scene: Scene) -> dict[str, Any]:
    """What is there when all is done: the adapter, what the registry has of it, and the results' branch."""
    client = MlflowClient()
    models = client.search_registered_models(f"name = '{NAME}'")
    versions = client.search_model_versions(f"name = '{NAME}'")
    adapter = scene.checkout.root / "models/tuned/adapter_model.safetensors"
    tracked = runs(client)
    return {
        "adapter": outputs.digest_path(adapter) if adapter.is_file() else "none",
        "versions": [str(version.version) for version in versions],
        "aliases": dict(models[0].aliases) if models else {},
        "moves": len(moves.log(client, NAME)) if models else 0,
        "runs": [run.info.status for run in tracked],
        "curve": [len(client.get_metric_history(run.info.run_id, "loss")) for run in tracked],
        "at work": len(scene.at_work("")),
    }


def lost(before: dict[str, list[str]], after: dict[str, list[str]]) -> list[str]:
    """What was there before and is no more, or is otherwise."""
    found = [f"{name} lost {gone}" for name in before if (gone := sorted(set(before[name]) - set(after[name])))]
    new = len(after["branches"]) - len(before["branches"])
    return found + ([f"{new} new branches of results"] if new != 1 else [])


def broken(scene: Scene, last: dict[str, Any], found: Any, usual: dict[str, Any], lines: list[str]) -> list[str]:
    """What is not as after an undisturbed run."""
    wanted = usual["found"]
    wrong = [f"{name} is {found[name]} and not {wanted[name]}" for name in wanted if found[name] != wanted[name]]
    if last["state"]["name"] not in (usual["outcome"], "Nothing to do"):
        wrong.append(f"the last run ended {last['state']['name']}: {last['state']['message']}")
    if not pushed(scene):
        wrong.append("DVC's remote lacks something")
    return wrong + [f"a traceback: {line[-300:]}" for line in lines if "Traceback (most recent call last)" in line]


def pushed(scene: Scene) -> bool:
    """Whether DVC's remote has all that the checkout's results are made of."""
    return "in sync" in scene.checkout.run("dvc", "status", "--cloud")


def logs(scene: Scene, since: datetime) -> list[str]:
    """What all flows said since then."""
    found: list[str] = []
    asked = {"logs": {"timestamp": {"after_": since.isoformat()}}, "sort": "TIMESTAMP_ASC", "limit": 200}
    while page := scene.server.post("logs/filter", **asked, offset=len(found)).json():
        found += [str(line["message"]) for line in page]
    return found


def went_on(scene: Scene, struck: list[dict[str, Any]], lines: list[str], since: datetime) -> str:
    """How it came to its end."""
    asked = {"task_runs": {"start_time": {"after_": since.isoformat()}}, "limit": 200}
    again = {one["name"] for one in scene.server.post("task_runs/filter", **asked).json() if one["run_count"] > 1}
    told = ["the next retraining" if len(struck) > 1 else "the same run"]
    told += [f"{name} tried again" for name in sorted(again)]
    told += ["waited for the stage that was still at work"] * any("still at work here" in line for line in lines)
    told += [line.strip() for line in lines if "going on from build/checkpoints" in line]
    return "; ".join(told)


def table(trials: list[dict[str, Any]], adapter: str) -> str:
    """The trials by fault, as Markdown; `adapter` is the undisturbed run's."""
    rows = [
        "| fault | trials | the run that was struck | went on by | lost | the adapter |",
        "|---|---|---|---|---|---|",
    ]
    for fault in dict.fromkeys(one["fault"] for one in trials):
        own = [one for one in trials if one["fault"] == fault]
        states = sorted({one["runs"][0].split(":")[0] for one in own})
        ways = sorted({one["went_on"].split(";")[0] for one in own})
        wrong = sum(bool(one["wrong"]) for one in own)
        equal = {one["found"]["adapter"] for one in own} == {adapter}
        cells = (
            fault,
            len(own),
            ", ".join(states),
            ", ".join(ways),
            wrong or "nothing",
            "equal" if equal else "DIFFERS",
        )
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def main(
    few: Annotated[bool, typer.Option(help="One trial of each fault.")] = False,
    trials: Annotated[int, typer.Option(help="So many more trials at most.", min=1)] = ROUNDS * len(outages.FAULTS),
) -> None:
    """Every trial, going on where an earlier soak ended."""
    if os.geteuid():
        raise UserError("soak-faults needs root, who may mount the disk that gets full")
    planned = plan()[: len(outages.FAULTS)] if few else plan()
    told: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    if told and not left(planned, told["trials"]):
        told = {}
    with scene(FOLDER) as place:
        if not told:
            told = {"usual": undisturbed(place), "trials": []}
            outputs.write_json(RESULT, told)
        for moment in left(planned, told["trials"])[:trials]:
            told["trials"].append(trial(place, moment, told["usual"]))
            outputs.write_json(RESULT, told)
            print(json.dumps(told["trials"][-1]), flush=True)
    wrong = [f"trial {number}: {said}" for number, one in enumerate(told["trials"], 1) for said in one["wrong"]]
    whole = not left(planned, told["trials"])
    outputs.write_json(RESULT, told | {"sound": whole and not wrong})
    print(table(told["trials"], told["usual"]["found"]["adapter"]))
    print("\n".join(wrong) or f"{len(told['trials'])} of {len(planned)} trials: nothing lost")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers are ended too
    errors.run(lambda: typer.run(main))
