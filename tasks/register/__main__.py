"""python -m tasks.register run | ensure | trained-on: the trained model as a version in MLflow, and what it saw."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks import console, errors, outputs, params, settings, tracking
from tasks.errors import UserError
from tasks.register import registry, trained_on

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

BASE, ADAPTER, REPORT = Path("models/base"), Path("models/tuned"), Path("reports/report")
LINEAGE = Path("reports/register/lineage.json")
TRAINED_ON = Path("reports/register/records.parquet")

CHAIN = {
    "records": Path("data/ingest"),
    "templates": settings.ROOT / "tasks/render/templates",
    "examples": Path("data/render/examples.parquet"),
    "shards": Path("data/pack"),
    "base": BASE,
    "adapter": ADAPTER / "adapter_model.safetensors",
    "report": REPORT,
}
"""The links from the records to the report, each told by its digest."""


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
    candidate = registry.Candidate(wanted.name, BASE, ADAPTER, REPORT, TRAINED_ON, made_from, params.dotted(summary))
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


def lineage() -> dict[str, Any]:
    """What the model was made from: the fingerprint of its training and the digest of each link of the chain."""
    trained = json.loads((ADAPTER / "training.json").read_text(encoding="utf-8"))
    return {
        "fingerprint": trained["fingerprint"],
        "chat_hash": trained["chat_hash"],
        "base": json.loads((BASE / "source.json").read_text(encoding="utf-8")),
        "data": json.loads((REPORT / "data.json").read_text(encoding="utf-8")),
        "digests": {name: outputs.digest_path(path) for name, path in CHAIN.items()},
    }


if __name__ == "__main__":
    errors.run(app)
