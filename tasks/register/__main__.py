"""python -m tasks.register run | ensure | verify | reproduce | diff | get | export | trained-on.

The trained model as a version in MLflow, what it was made from, and whether that still holds.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks import console, errors, outputs, params, settings, tracking
from tasks.errors import UserError
from tasks.register import chain, difference, export, registry, reproduce, stored, trained_on, verify
from tasks.register.candidate import Candidate
from tasks.register.chain import ADAPTER, BASE, BENCHMARKS, CHAIN, LINEAGE, REPORT, RESULTS
from tasks.register.verify import State

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

TRAINED_ON = Path("reports/register/records.parquet")

Address = Annotated[str, typer.Argument(help="models:/NAME/VERSION or models:/NAME@ALIAS", metavar="VERSION")]


@app.callback()
def main() -> None:
    """Register the model."""


@app.command()
def run() -> None:
    """Write the lineage of the trained model to reports/register, and make sure that its version exists."""
    with console.timed("register"):
        with outputs.whole_folder(LINEAGE.parent) as folder:
            outputs.write_json(folder / LINEAGE.name, lineage())
            trained_on.write(folder / TRAINED_ON.name, CHAIN["examples"], CHAIN["records"])
        ensure()


@app.command()
def ensure() -> None:
    """Make sure that the version of the lineage in reports/register exists; a flow calls this at its end.

    A variant is not registered: its experiment is applied first, and the next flow does it.
    """
    if variant := settings.experiment():
        print(f"not registered: {variant} is a variant; dvc exp apply {variant}, then make run, registers it")
        return
    if not LINEAGE.is_file():
        raise UserError(f"{LINEAGE}: nothing to register yet; run: dvc repro register")
    wanted = params.load().register_
    summary = json.loads((REPORT / "summary.json").read_text(encoding="utf-8"))
    made_from = json.loads(LINEAGE.read_text(encoding="utf-8"))
    candidate = Candidate(
        wanted.name, BASE, ADAPTER, REPORT, RESULTS, BENCHMARKS, TRAINED_ON, made_from, params.dotted(summary)
    )
    inputs, history = (
        json.loads((ADAPTER / name).read_text(encoding="utf-8")) for name in ("inputs.json", "history.json")
    )
    tracked = tracking.ensure_run(wanted.experiment, candidate.fingerprint, inputs["params"], history)
    version, made = registry.ensure_version(candidate, tracked)
    links = {
        "MLflow model version": registry.page(candidate, version),
        "MLflow run": tracking.page(tracked),
        "Report": f"{tracking.page(tracked)}/artifacts/report/report.html",
    }
    tracking.leave_links("register", links)
    console.summary(
        f"models:/{candidate.name}/{version.version}",
        {"fingerprint": candidate.fingerprint, "made": "now" if made else "before; it is the same model", **links},
    )


@app.command("trained-on")
def which_trained_on(
    identity: Annotated[list[str] | None, typer.Option("--id", help="A record's id; may stand several times.")] = None,
    person: Annotated[list[str] | None, typer.Option(help="Whose records; may stand several times.")] = None,
) -> None:
    """Tell which registered versions trained on these records, as MLflow knows it."""
    if not identity and not person:
        raise UserError("name what to look for: --id ID or --person NAME")
    name = params.load().register_.name
    found = dict(trained_on.versions(tracking.client(), name, identity or (), person or ()))
    console.summary(f"versions of {name} that trained on it", found or {"none": "no registered version"})


@app.command("verify")
def check(
    address: Address,
    fetch: Annotated[bool, typer.Option("--fetch", help="Get what DVC's cache lacks from its remote first.")] = False,
) -> None:
    """Compute again what a version was made from, as far as tree, DVC's cache and git hold it; name what differs."""
    with tempfile.TemporaryDirectory() as scratch:
        version = stored.read(tracking.client(), address, Path(scratch))
        if fetch:
            chain.fetch(version.lock)
        checked = list(verify.links(tracking.client(), version))
    console.summary(f"the chain of {address}", {link.name: f"{link.state}  {link.told}" for link in checked})
    counts = {state: sum(link.state is state for link in checked) for state in State}
    if broken := verify.first_broken(checked):
        raise UserError(f"{address}: the chain breaks at: {broken.name} ({broken.told})")
    print(f"{counts[State.SOUND]} links hold, {counts[State.UNKNOWN]} could not be looked at")


@app.command("reproduce")
def make_again(address: Address) -> None:
    """Make a version's adapter again from its commit, in build/reproduce, and compare the SHA-256."""
    folder = settings.BUILD / "reproduce"
    with tempfile.TemporaryDirectory() as scratch:
        version = stored.read(tracking.client(), address, Path(scratch))
        recorded, again = version.made_from["digests"]["adapter"], reproduce.adapter(version, folder)
    equal = "EQUAL" if recorded == again else "NOT EQUAL"
    console.summary(f"{address} made again", {"recorded": recorded, "made again": again, "adapters": equal})
    if recorded != again:
        sys.exit(1)
    reproduce.remove(folder)


@app.command("diff")
def differ(before: Address, after: Address) -> None:
    """Tell what differs between two versions: data, templates, values, code and scores."""
    api = tracking.client()
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        versions = stored.read(api, before, Path(one)), stored.read(api, after, Path(other))
        found = list(difference.of(api, *versions))
    told = {f"{item.kind}  {item.name}": f"{item.before} -> {item.after}" for item in found}
    console.summary(f"{before} against {after}", told or {"nothing": "they are the same"})


@app.command("get")
def get(address: Address, out: Annotated[Path, typer.Argument(help="The folder to write.")]) -> None:
    """Write a version's base and adapter as the folders that `python -m tasks.evaluate run --models` takes."""
    with tempfile.TemporaryDirectory() as scratch:
        version = stored.read(tracking.client(), address, Path(scratch) / "version")
        with outputs.whole_folder(out) as folder:
            shutil.copytree(version.base(Path(scratch)), folder / BASE.name)
            shutil.copytree(version.adapter, folder / ADAPTER.name)
    print(f"{address}: {out / BASE.name} and {out / ADAPTER.name}")


@app.command("export")
def write_merged(address: Address, out: Annotated[Path, typer.Argument(help="The folder to write.")]) -> None:
    """Write a version as one model: the adapter merged into its base, safetensors in hub layout."""
    with tempfile.TemporaryDirectory() as scratch:
        version = stored.read(tracking.client(), address, Path(scratch) / "version")
        export.merged(version, out, Path(scratch))
    print(f"{address} as one model in {out}")


def lineage() -> dict[str, Any]:
    """What the model was made from: the fingerprint of its training and the digest of each link of the chain."""
    trained = json.loads((ADAPTER / "training.json").read_text(encoding="utf-8"))
    return {
        "fingerprint": trained["fingerprint"],
        "chat_hash": trained["chat_hash"],
        "base": json.loads((BASE / "source.json").read_text(encoding="utf-8")),
        "data": json.loads((REPORT / "data.json").read_text(encoding="utf-8")),
        "digests": {name: outputs.digest_path(path) for name, path in CHAIN.items()},
        "sources": {
            name: outputs.digest_path(Path(source.path)) for name, source in params.load().ingest.sources.items()
        },
    }


if __name__ == "__main__":
    errors.run(tracking.within_reach()(app))
