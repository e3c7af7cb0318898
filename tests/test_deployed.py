"""Deployments on a real Prefect server: what is new is trained on, and no tree changes."""

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests import tiny, webhook
from tests.checkout import checkout, outside
from tests.deployment import Deployed, deployed

pytestmark = pytest.mark.timeout(600)

PLANTED = secrets.token_hex(16)

BLOCK = """
import sys
from prefect.blocks.notifications import CustomWebhookNotificationBlock
CustomWebhookNotificationBlock(name="people", url=sys.argv[1], json_data={"text": "{{body}}"}).save("instructflow")
"""
"""What a person does on the server's page of blocks."""


@pytest.fixture(scope="module")
def environment() -> Iterator[pytest.MonkeyPatch]:
    """The environment of this file's tests."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def people() -> Iterator[tuple[str, list[str]]]:
    """A webhook's address, and what people are told through it."""
    with webhook.listening() as heard:
        yield heard


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, people: tuple[str, list[str]], environment: pytest.MonkeyPatch
) -> Iterator[Deployed]:
    """Deployments of a small checkout whose newest commit was retrained on; decisions go to the webhook.

    Those who run them have a secret in their environment.
    """
    made = checkout(tmp_path_factory.mktemp("deployed") / "tree", tiny.write(tmp_path_factory.mktemp("model") / "tiny"))
    made.commit("first")
    environment.setenv("AWS_SECRET_ACCESS_KEY", PLANTED)
    with deployed(made, tmp_path_factory.mktemp("prefect")) as server:
        made.run(sys.executable, "-c", BLOCK, people[0], PREFECT_API_URL=server.address)
        made.run(sys.executable, "-m", "flows.automations", PREFECT_API_URL=server.address)
        first = server.whole("retrain/retrain")
        assert first["state"]["name"] in ("Promoted", "Refused"), first["state"]["message"]
        yield server


WAITING = {"PREFECT_CLIENT_MAX_RETRIES": "9", "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500"}


def results(server: Deployed) -> list[str]:
    """The branches of results."""
    return server.made.run("git", "branch", "--list", "runs/*", "--format=%(refname:short)").split()


def until(true: Callable[[], object], seconds: float = 60) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not within {seconds:.0f} s"
        time.sleep(0.5)


def test_people_are_told_of_the_decision(server: Deployed, people: tuple[str, list[str]]) -> None:
    until(lambda: people[1])
    assert any(f"instructflow.run.{what}: version 1, " in people[1][0] for what in ("promoted", "refused"))


def test_a_result_is_a_commit_that_repeats_it(server: Deployed) -> None:
    [branch] = results(server)
    changed = server.made.run("git", "diff", "--name-only", "HEAD", branch).split()
    assert changed == ["dvc.lock"]
    lock = yaml.safe_load(server.made.run("git", "show", f"{branch}:dvc.lock"))
    assert "train" in lock["stages"]


def test_the_user_s_tree_is_left_alone_and_the_version_is_in_its_registry(server: Deployed) -> None:
    assert server.made.run("git", "status", "--porcelain") == ""
    assert not (server.made.root / "models").exists()
    assert server.made.versions() == ["1"]


def test_its_adapter_is_made_again_with_the_same_bytes(server: Deployed) -> None:
    told = server.made.run(sys.executable, "-m", "tasks.register", "reproduce", "models:/instructflow/1")
    assert "Running stage 'train'" in told
    assert "NOT EQUAL" not in told
    assert not (server.made.root / "build/reproduce").exists()


def test_nothing_new_ends_within_seconds_with_the_reason(server: Deployed) -> None:
    run = server.whole("retrain/retrain")
    assert run["state"]["name"] == "Nothing to do"
    assert "nothing new in" in run["state"]["message"]
    assert len(results(server)) == 1


def test_an_event_of_changed_data_begins_a_retraining(server: Deployed) -> None:
    before = server.asked_for("retrain/retrain")
    event = ("instructflow.source.changed", "--resource-id", "sources")
    server.made.run("prefect", "event", "emit", *event, PREFECT_API_URL=server.address)
    until(lambda: server.asked_for("retrain/retrain") > before)
    [run] = server.asked_for("retrain/retrain") - before
    assert server.ended(run)["state"]["name"] == "Nothing to do"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"values": {"train": {"epochs": "many"}}}, "values.train.epochs"),
        ({"values": {"trian": {"epochs": 1}}}, "'trian' was unexpected"),
        ({"values": {"compute": {"threads": 0}}}, "values.compute.threads"),
        ({"free_gib": -1}, "free_gib"),
    ],
)
def test_a_wrong_value_begins_no_run(server: Deployed, asked: dict[str, object], said: str) -> None:
    answer = server.ask("run/pipeline", **asked)
    assert answer.status_code == 409
    assert said in answer.text


def test_a_wrong_value_on_the_command_line_begins_no_run(server: Deployed) -> None:
    asked = ("--param", 'values={"trian": {"epochs": 2}}')
    with pytest.raises(AssertionError, match="trian"):
        server.made.run("prefect", "deployment", "run", "run/pipeline", *asked, PREFECT_API_URL=server.address)


def test_two_retrainings_and_one_by_hand_at_the_same_moment_all_end_right(server: Deployed) -> None:
    server.made.change("render", "examples", 20)
    server.made.commit("fewer examples")
    before = (server.made.root / "params.yaml").read_text()
    by_hand = subprocess.Popen(["dvc", "repro"], cwd=server.made.root, env=outside(), stdout=subprocess.DEVNULL)
    both = [server.begin("retrain/retrain", values={"train": {"weight_decay": 0.1}}) for _ in range(2)]
    states = sorted((server.ended(run)["state"] for run in both), key=lambda state: str(state["type"]))
    assert [state["type"] for state in states] == ["CANCELLED", "COMPLETED"]  # of two at the same moment
    assert states[1]["name"] in ("Promoted", "Refused"), states[1]["message"]
    own = yaml.safe_load(server.made.run("git", "show", f"{results(server)[-1]}:params.yaml"))
    assert (own["render"]["examples"], own["train"]["weight_decay"]) == (20, 0.1)
    assert (server.made.root / "params.yaml").read_text() == before
    assert by_hand.wait() == 0  # in the user's own tree at the same time
    assert server.made.run("dvc", "status") == "Data and pipelines are up to date.\n"


def test_a_registered_version_is_evaluated_on_a_suite_beside_what_it_showed(server: Deployed) -> None:
    run = server.whole("evaluation/evaluate", suite="inference", version="models:/instructflow/1")
    assert run["state"]["type"] == "COMPLETED", run["state"]["message"]
    assert run["state"]["message"].startswith("exact answer on 4 benchmarks: 0.000 (0.000 to 0.000) then, 0.000")


def test_dead_runs_and_changed_data_have_automations(server: Deployed) -> None:
    found = {one["name"]: one for one in server.post("automations/filter").json()}
    assert {"instructflow: dead runs", "instructflow: retrain on changed data"} <= set(found)
    for name in ("dead runs", "runs that died at once"):
        assert found[f"instructflow: {name}"]["trigger"]["within"] == 600


def test_deploying_again_leaves_the_watch_on_runs_that_are_under_way(server: Deployed) -> None:
    def identities() -> dict[str, str]:
        return {one["name"]: one["id"] for one in server.post("automations/filter").json()}

    before = identities()
    server.made.run(sys.executable, "-m", "flows.automations", PREFECT_API_URL=server.address)
    assert identities() == before


def test_a_suite_that_nothing_writes_is_told_before_anything_is_computed(server: Deployed) -> None:
    run = server.whole("evaluation/evaluate", suite="inferenc", version="models:/instructflow/1")
    assert "suite: inferenc: unknown; did you mean inference?" in run["state"]["message"]


def test_a_run_that_died_with_its_worker_is_crashed_by_the_next_one(server: Deployed) -> None:
    running = {"flow_id": server.deployment("retrain/retrain")["flow_id"], "state": {"type": "RUNNING"}}
    identity = server.post("flow_runs/", **running).json()["id"]
    (server.made.root / "build/runs/died.flow").write_text(identity)
    server.made.run(sys.executable, "-c", "from flows import worker; worker.tell()", PREFECT_API_URL=server.address)
    assert server.run(identity)["state"]["type"] == "CRASHED"


def test_retraining_has_a_schedule_and_one_place(server: Deployed) -> None:
    found = server.deployment("retrain/retrain")
    [schedule] = found["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("0 3 * * *", "UTC")
    assert found["concurrency_options"]["collision_strategy"] == "CANCEL_NEW"
    assert found["job_variables"] == {"stream_output": False, "env": WAITING}
    assert Path(found["pull_steps"][0]["prefect.deployments.steps.set_working_directory"]["directory"]).is_dir()


def test_the_status_tells_runs_decisions_and_what_comes_next(server: Deployed) -> None:
    told = server.made.run(sys.executable, "-m", "flows.status", PREFECT_API_URL=server.address, COLUMNS="200")
    assert "candidate" in told
    assert "Nothing to do after" in told
    assert "│ next" in told
    assert "runs/2" in told


def test_no_file_and_no_commit_holds_a_secret_of_the_environment(server: Deployed) -> None:
    def holding(text: str) -> str:
        command = ["grep", "--recursive", "--text", "--files-with-matches", "--fixed-strings", text]
        return subprocess.run(
            [*command, server.made.root.parent, server.home], stdout=subprocess.PIPE, text=True
        ).stdout

    assert holding("nothing new in")  # what is there is found
    assert holding(PLANTED) == ""
    assert PLANTED not in server.made.run("git", "log", "--all", "--patch")
