"""python -m tasks.promote run | rollback | beside | log.

May the newest version become the champion, who it was so far, and has a version fallen since.
"""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer
from mlflow import MlflowClient

from tasks import errors, locks, outputs, params, settings, tracking
from tasks.errors import UserError
from tasks.promote import decision, drop, evidence, facts, gate, moves
from tasks.promote.gate import Check, Decision
from tasks.register import stored
from tasks.register.registry import CANDIDATE
from tasks.report import samples

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

RESULT = settings.BUILD / "promote"
STORED = "promotion"
"""The place of decisions among the files of a version's run."""

DECISION, REASON = "instructflow.decision", "instructflow.decision_reason"
"""The tags of a version with its newest decision."""

_LONGEST = 4_000


@app.callback()
def main() -> None:
    """Decide which version is the champion."""


@app.command()
def run(
    version: Annotated[str | None, typer.Option(help="A version by its number; the newest one by default.")] = None,
) -> None:
    """Judge a version by the section `gate` of params.yaml, and move the alias `champion` to it if it may have it.

    Its own base and the champion are those of the registry at this moment; no other process moves the alias meanwhile.
    That a version is refused is no fault: the exit status is 0. A variant is no candidate, so its flow judges nothing.
    """
    if variant := settings.experiment():
        print(f"not judged: {variant} is a variant, which is not registered")
        return
    wanted, client = params.load(), tracking.client()
    name = wanted.register_.name
    with locks.registry():
        latest = newest(client, name)
        champion, judged = moves.champion(client, name), version or latest
        if judged == champion:
            print(f"version {judged} is the champion of {name} already")
            return
        made = decide(client, wanted, judged, champion, by_name=version is not None)
        keep(client, name, made)
        if made.promoted:
            moves.note(client, name, "promoted", made.why, champion, judged)
    print(decision.headline(made))


@app.command()
def rollback(why: Annotated[str, typer.Option(help="The reason, for the log.")] = "no reason given") -> None:
    """Let the alias `champion` go back to the version that the champion had replaced."""
    client, name = tracking.client(), params.load().register_.name
    with locks.registry():
        newest(client, name)
        move = moves.roll_back(client, name, why)
    print(f"champion of {name}: version {move.after} again, not {move.before}")


@app.command("beside")
def beside_before(
    address: Annotated[str, typer.Argument(help="models:/NAME/VERSION or models:/NAME@ALIAS", metavar="VERSION")],
    suite: Annotated[str, typer.Argument(help="The suite that was evaluated.")],
    results: Annotated[Path, typer.Argument(help="The folder with its new results.")],
) -> None:
    """Tell whether a version has fallen on a suite since it was registered; beside.json and .md go beside RESULTS."""
    client, wanted, backend = tracking.client(), params.load(), samples.backend(results)
    with tempfile.TemporaryDirectory() as scratch:
        own = evidence.read(client, stored.resolve(client, address), Path(scratch))
        before = own.folder / "tuned" / suite if own and suite in own.suites else None
        known = before is not None and samples.backend(before) == backend
        found = list(drop.beside(wanted.gate, before, results)) if before and known else []
    lines = [f"{samples.spoken(item.measure)} on {item.benchmarks} benchmarks: {item}" for item in found]
    told = "; ".join(lines) or f"{address} was not evaluated on {suite} before, by the backend {backend}"
    home = results.parent.parent
    outputs.write_json(home / "beside.json", {"fallen": any(item.fallen for item in found), "told": told})
    heading = f"# {address} on {suite}\n\n"
    (home / "beside.md").write_text(heading + "".join(f"- {line}\n" for line in lines or [told]), encoding="utf-8")
    print(told)


@app.command("log")
def show_log() -> None:
    """Tell every move of the alias `champion`: when, who, from which version to which, and why."""
    client, name = tracking.client(), params.load().register_.name
    newest(client, name)
    told = moves.log(client, name)
    for move in told:
        print(
            f"{move.number}  {move.when}  {move.who}  {move.what}: {move.before or 'none'} -> {move.after}; {move.why}"
        )
    if not told:
        print(f"no version of {name} has been the champion yet")


def newest(client: MlflowClient, name: str) -> str:
    """The version that the alias `candidate` names. Raises UserError where there is none."""
    found = client.search_registered_models(f"name = '{name}'")
    if not found or CANDIDATE not in found[0].aliases:
        raise UserError(f"{name}: no version is registered; run: make run, or python -m tasks.register ensure")
    return str(found[0].aliases[CANDIDATE])


def decide(client: MlflowClient, wanted: params.Params, judged: str, champion: str | None, by_name: bool) -> Decision:
    """The decision on a version beside a champion, from what is stored with both."""
    name = wanted.register_.name
    with tempfile.TemporaryDirectory() as scratch:
        own = evidence.read(client, stored.resolve(client, f"models:/{name}/{judged}"), Path(scratch))
        if own is None:
            raise UserError(f"version {judged} of {name} holds no results of its evaluation; register it anew")
        rival = None if champion is None else client.get_model_version(name, champion)
        theirs = None if rival is None else evidence.read(client, rival, Path(scratch))
        pairs, left_out = ([], []) if theirs is None else evidence.against(theirs, own)
        again = None if by_name else moves.taken_back(moves.log(client, name), judged)
        checks = list(facts.of(wanted.gate, own, f"models:/{name}/{judged}", again))
        if left_out:
            told = f"other documents or settings in {', '.join(left_out)}; these are not compared"
            checks.append(Check("benchmarks shared with the champion", bool(pairs), told))
        return gate.decide(wanted.gate, judged, champion, own.against_base(), pairs, checks)


def keep(client: MlflowClient, name: str, made: Decision) -> None:
    """Store the decision: with the version's run, in its tags, and in build/promote for the flow."""
    with outputs.whole_folder(RESULT) as folder:
        outputs.write_json(folder / "decision.json", json.loads(json.dumps(decision.content(made), default=str)))
        (folder / "decision.md").write_text(decision.markdown(made), encoding="utf-8")
    run_id = str(client.get_model_version(name, made.candidate).run_id)
    client.log_artifacts(run_id, str(RESULT), f"{STORED}/beside-{made.champion or 'none'}")
    client.set_model_version_tag(name, made.candidate, REASON, made.why[:_LONGEST])
    client.set_model_version_tag(name, made.candidate, DECISION, "promoted" if made.promoted else "refused")


if __name__ == "__main__":
    errors.run(tracking.within_reach()(app))
