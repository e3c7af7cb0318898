"""python -m tests.soak_pages: a person's way, from a clean clone to the pages of Prefect and MLflow in a real browser.

`make server`, `make deploy` and a worker in a clone at the size of `make quick`; in the browser a run is begun from the
deployment's form with another value, and its pages are looked at when it has ended. Pictures and what was read go to
build/soak/pages.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.browser import Browser, chromium
from tests.checkout import Checkout, clone, outside
from tests.data_fixtures import ROOT
from tests.deployment import Deployed, working
from tests.loopback import named

HOME = ROOT / "build/soak/pages"
DECAY = "0.05"
"""The value that is put into the form, of train.weight_decay."""

FILL = """
(() => {
  const name = [...document.querySelectorAll('label')].find(label => label.innerText.startsWith('Weight Decay'));
  const field = name.closest('.schema-form-property').querySelector('input');
  field.scrollIntoView({block: 'center'});
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, '%s');
  field.dispatchEvent(new Event('input', {bubbles: true}));
  return field.value;
})()
"""

CURVES = """
(() => {
  const field = [...document.querySelectorAll('input')].find(one => one.placeholder.startsWith('Search'));
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, 'loss|learning_rate|tokens_per');
  field.dispatchEvent(new Event('input', {bubbles: true}));
})()
"""
"""Ask MLflow's page for the curves of training; it begins with the scores, of which there are many."""

PRESS = "[...document.querySelectorAll('button')].find(button => button.innerText.trim() === '%s').click()"


@contextmanager
def servers(made: Checkout) -> Iterator[tuple[str, str]]:
    """Prefect's address and MLflow's, of `make server` in the clone."""
    environment = {**named(["PREFECT_PORT", "MLFLOW_PORT"]), "PREFECT_HOME": str(HOME / "prefect")}
    process = subprocess.Popen(
        [sys.executable, "-m", "infra.server"],
        cwd=made.root,
        env=outside() | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        told = dict(process.stdout.readline().strip().split(":", 1) for _ in range(2))
        yield told["Prefect"].strip(), told["MLflow"].strip()
    finally:
        process.terminate()
        process.wait()


def begin(browser: Browser, page: str, server: Deployed) -> str:
    """Fill the form of the deployment `pipeline` and send it; the run's id."""
    browser.open(f"{page}/deployments/deployment/{server.deployment('run/pipeline')['id']}/run")
    browser.until("document.body.innerText.includes('Weight Decay')")
    assert browser.ask(FILL % DECAY) == DECAY
    browser.screen(HOME / "form.png")
    while browser.ask("location.pathname.endsWith('/run')"):  # a data base that is busy makes the page ask again
        browser.ask(PRESS % "Submit")
        browser.ask("new Promise(done => setTimeout(done, 10000))")
    [run] = server.post(
        "flow_runs/filter", flow_runs={"deployment_id": {"is_null_": False}}, sort="ID_DESC", limit=1
    ).json()
    assert run["parameters"]["values"]["train"]["weight_decay"] == float(DECAY)
    return str(run["id"])


def look_at_prefect(browser: Browser, page: str, server: Deployed) -> dict[str, bool]:
    """What stands on the pages of the run's pipeline and of its outcome."""
    [inner] = server.post("flow_runs/filter", flows={"name": {"any_": ["pipeline"]}}).json()
    browser.open(f"{page}/runs/flow-run/{inner['id']}")
    browser.until("document.body.innerText.includes('Completed')")
    browser.until("!!document.querySelector('canvas')")
    browser.until("document.body.innerText.includes('Running stage')", 120)
    browser.ask("new Promise(done => setTimeout(done, 5000))")
    browser.screen(HOME / "prefect.png")
    logs = browser.text()
    [outcome] = server.post("artifacts/filter", artifacts={"key": {"any_": ["outcome"]}}).json()
    browser.open(f"{page}/artifacts/artifact/{outcome['id']}")
    browser.until("document.body.innerText.includes('runs/')")
    browser.screen(HOME / "artifacts.png")
    return {"logs tell of stages": "Running stage" in logs, "the outcome is an artefact": "runs/" in browser.text()}


def look_at_mlflow(browser: Browser, page: str) -> dict[str, bool]:
    """What stands on the pages of the training and of the version."""
    [found] = httpx.post(
        f"{page}/api/2.0/mlflow/runs/search",
        json={"experiment_ids": ["1"], "filter": f"params.`train.weight_decay` = '{DECAY}'"},
    ).json()["runs"]
    place = f"{page}/#/experiments/1/runs/{found['info']['run_id']}"
    browser.open(f"{place}/model-metrics")
    browser.until("[...document.querySelectorAll('input')].some(field => field.placeholder.startsWith('Search'))")
    browser.ask(CURVES)
    browser.until("document.body.innerText.includes('learning_rate')")
    browser.ask("new Promise(done => setTimeout(done, 5000))")
    browser.screen(HOME / "mlflow.png")
    curves = browser.text()
    browser.open(f"{page}/#/models/instructflow/versions/1")
    browser.until("document.body.innerText.includes('candidate')")
    browser.screen(HOME / "version.png")
    return {"curves": "loss" in curves, "the version has its alias": "candidate" in browser.text()}


def main() -> None:
    """All of it, from a clean folder."""
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir(parents=True)
    made = clone(HOME / "tree")
    made.run(sys.executable, "-m", "tasks.params", "merge", "infra/quick.yaml")
    made.commit("quick")
    with servers(made) as (prefect, mlflow):
        addresses = {"PREFECT_API_URL": f"{prefect}/api", "MLFLOW_TRACKING_URI": mlflow}
        made.run("bash", "infra/deploy.sh", **addresses)
        with working(made, **addresses), chromium(HOME / "profile") as browser:
            browser.look(1400)
            server = Deployed(made, HOME / "prefect", addresses["PREFECT_API_URL"])
            run = begin(browser, prefect, server)
            print("begun from the form", flush=True)
            ended = server.ended(run, seconds=3600)
            found = {"ended": ended["state"]["type"] == "COMPLETED", "as": ended["state"]["name"]}
            found |= look_at_prefect(browser, prefect, server) | look_at_mlflow(browser, mlflow)
    Path(HOME / "pages.json").write_text(json.dumps(found, indent=2))
    print(json.dumps(found, indent=2))
    sys.exit(not all(found.values()))


if __name__ == "__main__":
    main()
