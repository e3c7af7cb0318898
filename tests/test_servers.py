"""`make server`, and a team's servers: on loopback alone, behind a login, and back after a loss."""

import base64
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
import yaml
from mlflow import MlflowClient

from infra import backup, credentials, local, servers, team
from infra.postgres import Postgres
from infra.team import Team
from tasks import tracking
from tasks.errors import UserError
from tasks.promote import __main__ as promote
from tasks.register import __main__ as register
from tests.checkout import outside
from tests.data_fixtures import ROOT
from tests.loopback import free_port, named
from tests.project import Project

README = (ROOT / "infra/README.md").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "infra/compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
FLOW = "from prefect import flow\n\n\n@flow\ndef greet():\n    return 'hello'\n"


def owners(port: int) -> set[str]:
    """The addresses, as Linux writes them, at which something listens at this port."""
    sockets = [line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {local.split(":")[0] for local, _, state in sockets if local.endswith(f":{port:04X}") and state == "0A"}


def command(name: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", f"infra.{name}", *map(str, arguments)]


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[subprocess.Popen[str]]:
    """`make server`, with all it writes in a folder of its own."""
    folder = tmp_path_factory.mktemp("server")
    environment = {
        **outside(), **named(team.PORTS), "PYTHONPATH": str(ROOT), "PREFECT_HOME": str(folder / "prefect"),
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
    }  # fmt: skip
    with subprocess.Popen(command("server"), cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.terminate()


@pytest.fixture(scope="module")
def addresses(one: subprocess.Popen[str]) -> dict[str, str]:
    """What it prints: the page's name and its address."""
    lines = [one.stdout.readline() for _ in range(2)] if one.stdout else []
    return {name: address.strip() for name, address in (line.split(":", 1) for line in lines)}


@pytest.mark.parametrize("page", ["MLflow", "Prefect"])
def test_a_page_answers_at_the_printed_address(addresses: dict[str, str], page: str) -> None:
    with urllib.request.urlopen(addresses[page]) as answer:  # noqa: S310
        assert page.lower() in answer.read().decode().lower()


@pytest.mark.parametrize("page", ["MLflow", "Prefect"])
def test_a_page_is_on_loopback_alone(addresses: dict[str, str], page: str) -> None:
    assert addresses[page].startswith("http://127.0.0.1:")
    assert owners(int(addresses[page].rsplit(":", 1)[1])) == {"0100007F"}


def test_a_server_that_keeps_files_in_a_folder_lets_a_run_begin(
    addresses: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", addresses["MLflow"])
    tracking.check_access("not there yet")


def test_a_version_is_registered_judged_verified_and_loaded_through_the_server(
    addresses: dict[str, str], in_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", addresses["MLflow"])
    register.ensure()
    register.ensure()
    client = MlflowClient(addresses["MLflow"])
    [version] = client.search_model_versions("name = 'instructflow'")
    promote.run()
    assert client.get_model_version("instructflow", version.version).tags[promote.DECISION] == "refused"
    register.check("models:/instructflow@candidate")
    mlflow.set_tracking_uri(addresses["MLflow"])
    model = mlflow.pyfunc.load_model("models:/instructflow@candidate")
    assert len(model.predict([{"instruction": "Say it."}], params={"max_new_tokens": 2})) == 1


def test_a_termination_ends_both(one: subprocess.Popen[str], addresses: dict[str, str]) -> None:
    one.send_signal(signal.SIGTERM)
    one.wait(60)
    assert [owners(int(address.rsplit(":", 1)[1])) for address in addresses.values()] == [set(), set()]


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        environment = {**outside(), "PYTHONPATH": str(ROOT), "MLFLOW_PORT": str(taken.getsockname()[1])}
        done = subprocess.run(command("server"), cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"error: port \d+ of 127.0.0.1, .* is taken; another one: MLFLOW_PORT=\.\.\.\n", done.stderr)


def test_a_server_that_does_not_start_ends_the_other(tmp_path: Path) -> None:
    lasting = servers.Server("lasting", ["sleep", "60"], free_port(), "/", tmp_path / "lasting.log", {})
    broken = servers.Server("broken", ["false"], free_port(), "/", tmp_path / "broken.log", {})
    with pytest.raises(UserError, match=r"^broken ended before it answered; see .*broken\.log$"):
        servers.start([broken, lasting])
    assert not lasting.runs()


def test_a_port_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_PORT", "http")
    with pytest.raises(UserError, match=r"^PREFECT_PORT=http: a port is a number from 1 to 65535$"):
        servers.integer("PREFECT_PORT", 4200)


def test_secrets_that_others_can_read_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "secrets.env"
    credentials.made(path)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o640)
    with pytest.raises(UserError, match="others can read it; chmod 600"):
        credentials.made(path)


def test_a_prefect_server_that_was_killed_still_knows_who_has_a_place(tmp_path: Path) -> None:
    server = servers.prefect(free_port(), tmp_path / "prefect.log", {"PREFECT_HOME": str(tmp_path / "home")})
    limits = f"{server.address}/api/v2/concurrency_limits"
    try:
        servers.start([server])
        httpx.post(f"{limits}/", json={"name": "one", "limit": 1}).raise_for_status()
        asked = {"names": ["one"], "slots": 1, "mode": "concurrency", "lease_duration": 120}
        lease = httpx.post(f"{limits}/increment-with-lease", json=asked).raise_for_status().json()["lease_id"]
        os.killpg(int(server.pid_file.read_text()), signal.SIGKILL)
        while server.runs():
            time.sleep(0.1)
        servers.start([server])
        assert httpx.post(f"{limits}/leases/{lease}/renew", json={"lease_duration": 120}).status_code == 204
    finally:
        servers.stop([server])


def test_secrets_are_made_once_and_are_not_those_of_another_team(tmp_path: Path) -> None:
    first, again, other = (credentials.made(tmp_path / name) for name in ("one", "one", "two"))
    assert first == again
    assert not set(first.values()) & set(other.values())


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may pass through, as PostgreSQL has to where this is root; pytest's are private."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.mark.postgres
def test_a_restore_is_whole_or_not_at_all(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, port in named(team.PORTS).items():
        monkeypatch.setenv(name, port)
    kept, out = Team.make(open_folder / "team"), open_folder / "out"
    kept.postgres.start()
    try:
        say(kept, "before")
        backup.backup(kept, out)
        say(kept, "after")
    finally:
        kept.down()
    shutil.copytree(out, open_folder / "broken")
    (open_folder / "broken/mlflow.dump").write_bytes((out / "mlflow.dump").read_bytes()[:-500])
    with pytest.raises(UserError, match=r"broken: its files are not those of digests\.json"):
        backup.restore(kept, open_folder / "broken")
    (open_folder / "broken/digests.json").write_text(json.dumps(backup.digests(open_folder / "broken")))
    with pytest.raises(UserError, match=r"^pg_restore failed"):
        backup.restore(kept, open_folder / "broken")
    assert said(kept) == ["after"] * 3
    backup.restore(kept, out)
    assert said(kept) == ["before"] * 3


def say(kept: Team, word: str) -> None:
    """Leave a word in each data base and among the artifacts."""
    for name in team.DATABASES:
        kept.postgres.run(f"DROP TABLE IF EXISTS said; CREATE TABLE said AS SELECT '{word}' AS word", database=name)
    (kept.artifacts / "said").write_text(word)


def said(kept: Team) -> list[str]:
    """The words that are there."""
    kept.postgres.start()
    try:
        words = [kept.postgres.run("SELECT word FROM said", database=name).strip() for name in team.DATABASES]
    finally:
        kept.postgres.stop()
    return [*words, (kept.artifacts / "said").read_text()]


@pytest.fixture(scope="module")
def up() -> Iterator[Team]:
    """A team whose servers run."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        home = Path(folder, "team")
        run("up", home, **named(team.PORTS), PREFECT_WORKER_QUERY_SECONDS="2")
        try:
            yield Team.of(home)
        finally:
            run("down", home)


def run(name: str, *arguments: object, **environment: str) -> None:
    """A command of infra.local, with the output in the test's own, since servers that stay would hold a pipe open."""
    subprocess.run(command("local", name, *arguments), cwd=ROOT, env={**outside(), **environment}, check=True)


def ask(page: str, login: str, body: object = None) -> Any:
    """The JSON that a page of a server answers."""
    header = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(page, data, header)) as answer:  # noqa: S310
        return json.load(answer)


@pytest.mark.postgres
def test_every_server_of_a_team_is_well_and_on_loopback_alone(up: Team) -> None:
    run("status", up.folder)
    assert {name: owners(port) for name, port in up.ports.items()} == {name: {"0100007F"} for name in team.PORTS}


@pytest.mark.postgres
@pytest.mark.parametrize("login", [None, "admin:password", "admin:", "instructflow:"])
@pytest.mark.parametrize(
    "page",
    [
        "PREFECT_PORT/api/admin/version",
        "PREFECT_PORT/api/flow_runs/count",
        "MLFLOW_PORT/",
        "MLFLOW_PORT/api/2.0/mlflow/experiments/search?max_results=1",
        "MLFLOW_PORT/api/2.0/mlflow-artifacts/artifacts",
        "MLFLOW_PORT/graphql",
    ],
)
def test_a_server_refuses_a_wrong_login_and_none(up: Team, page: str, login: str | None) -> None:
    port, path = page.split("/", 1)
    assert team.answered(f"http://127.0.0.1:{up.ports[port]}/{path}", login) == 401


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("password", "said"), [("wrong", "password authentication failed"), ("", "no password supplied")]
)
def test_postgres_refuses_a_wrong_password_and_none(up: Team, password: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        Postgres(up.postgres.folder, up.postgres.port, password).run("SELECT 1")


@pytest.mark.postgres
def test_a_user_who_is_no_admin_changes_nothing_of_others(up: Team) -> None:
    api = f"{up.mlflow.address}/api/2.0/mlflow"
    admin, own = f"admin:{up.client['MLFLOW_TRACKING_PASSWORD']}", "name:a long password"
    ask(f"{api}/users/create", admin, dict(zip(("username", "password"), own.split(":"), strict=True)))
    made = ask(f"{api}/experiments/create", admin, {"name": "theirs"})
    ask(f"{api}/experiments/create", own, {"name": "own"})
    assert ask(f"{api}/experiments/get-by-name?experiment_name=theirs", own)["experiment"]["name"] == "theirs"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        ask(f"{api}/experiments/delete", own, made)


@pytest.mark.postgres
def test_a_version_and_a_flow_run_survive_a_loss_of_everything(up: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in up.client.items():
        monkeypatch.setenv(name, value)
    flow_run, version = asked_of_the_worker(up), registered(up)
    wait_until_completed(up, flow_run)
    out = up.folder.with_name("out")
    run("backup", up.folder, out)
    with pytest.raises(UserError, match="postgres, prefect, mlflow, worker running"):
        backup.restore(up, out)
    run("down", up.folder)
    shutil.rmtree(up.postgres.folder)
    shutil.rmtree(up.artifacts)
    run("restore", up.folder, out)
    run("up", up.folder)
    assert state(up, flow_run) == "COMPLETED"
    client = MlflowClient(up.mlflow.address)
    found = client.get_model_version_by_alias("kept", "champion")
    assert (found.version, found.run_id) == version
    assert Path(client.download_artifacts(found.run_id, "adapter.txt")).read_text() == "weights"


def registered(up: Team) -> tuple[str, str]:
    """A version's number and its run, of which the server keeps a file."""
    client = MlflowClient(up.mlflow.address)
    run_id = client.create_run(client.create_experiment("kept")).info.run_id
    client.log_text(run_id, "weights", "adapter.txt")
    client.create_registered_model("kept")
    version = client.create_model_version("kept", f"runs:/{run_id}/", run_id).version
    client.set_registered_model_alias("kept", "champion", version)
    return version, run_id


def asked_of_the_worker(up: Team) -> str:
    """A flow run that waits in the worker's pool."""
    login, api = up.client["PREFECT_API_AUTH_STRING"], up.client["PREFECT_API_URL"]
    (up.folder / "greet.py").write_text(FLOW)
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(up.folder)}}
    flow = ask(f"{api}/flows/", login, {"name": "greet"})["id"]
    wanted = {"name": "kept", "flow_id": flow, "entrypoint": "greet.py:greet", "pull_steps": [step]}
    deployment = ask(f"{api}/deployments/", login, {**wanted, "work_pool_name": team.POOL})["id"]
    return str(ask(f"{api}/deployments/{deployment}/create_flow_run", login, {"state": {"type": "SCHEDULED"}})["id"])


def state(up: Team, flow_run: str) -> str:
    page = f"{up.client['PREFECT_API_URL']}/flow_runs/{flow_run}"
    return str(ask(page, up.client["PREFECT_API_AUTH_STRING"])["state_type"])


def wait_until_completed(up: Team, flow_run: str) -> None:
    for _ in range(120):
        if state(up, flow_run) == "COMPLETED":
            return
        time.sleep(0.5)
    raise AssertionError(up.worker.log.read_text())


@pytest.mark.postgres
def test_no_log_and_no_command_tells_a_secret(up: Team) -> None:
    logins = [f"admin:{up.secrets['MLFLOW_AUTH_ADMIN_PASSWORD']}", up.secrets["PREFECT_SERVER_API_AUTH_STRING"]]
    secrets = {*up.secrets.values(), *(login.split(":")[1] for login in logins)}
    encoded = {base64.b64encode(login.encode()).decode() for login in logins}
    logs = [path.read_text() for path in up.folder.rglob("*.log")]
    others = [path.read_text() for path in up.folder.glob("*") if path.is_file() and path.stat().st_mode & 0o077]
    commands = running()
    assert len(logs) == 4
    assert others  # what others may read: MLflow's settings
    assert any(str(up.folder) in text for text in commands)
    assert not [text for text in [*logs, *others, *commands] if any(secret in text for secret in secrets | encoded)]


def running() -> list[str]:
    """The commands of all processes, which any user of the machine can read."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # a process that ended meanwhile
            found.append(path.read_bytes().decode(errors="replace"))
    return found


@pytest.mark.postgres
def test_what_clients_source_is_its_owner_s_alone(up: Team) -> None:
    path = up.folder / "client.env"
    assert path.stat().st_mode & 0o777 == 0o600
    shown = subprocess.run(["sh", "-c", f". {path}; env"], capture_output=True, text=True, check=True).stdout
    assert {f"{name}={value}" for name, value in up.client.items()} <= set(shown.splitlines())


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_tells_its_health_or_ends(name: str) -> None:
    ends = SERVICES[name]["restart"] == "no"
    assert ends != ("healthcheck" in SERVICES[name])
    assert all(needed in SERVICES for needed in SERVICES[name].get("depends_on", {}))


def test_containers_are_reached_from_this_machine_alone() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_the_worker_reaches_no_data_base() -> None:
    assert not set(SERVICES["prefect-worker"]["networks"]) & set(SERVICES["postgres"]["networks"])
    assert COMPOSE["networks"]["data"] == {"internal": True}


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_has_a_version(name: str) -> None:
    assert re.search(r":(RELEASE\.)?\d+[.-]\d+\S*$", SERVICES[name]["image"])


@pytest.mark.parametrize("name", SERVICES)
def test_no_secret_of_a_container_has_a_default(name: str) -> None:
    values = SERVICES[name]["environment"]
    secret = {key: value for key, value in values.items() if re.search(r"PASSWORD|SECRET|AUTH_STRING", key)}
    assert secret
    for value in secret.values():
        [asked] = re.findall(r"^\$\{([A-Z_]+):\?set it\}$", value)
        assert asked in README
    assert not [value for value in values.values() if re.search(r"://[^/]*:[^/]*@", value)]


def test_mlflow_asks_for_the_same_logins_in_containers() -> None:
    address = SERVICES["mlflow"]["environment"]["MLFLOW_BACKEND_STORE_URI"]
    settings = ROOT / "infra" / COMPOSE["configs"]["mlflow-auth"]["file"]
    assert settings.read_text(encoding="utf-8") == team.AUTH.format(address=address, admin=team.ADMIN)


@pytest.mark.parametrize("name", ["mlflow", "prefect-worker"])
def test_who_uses_the_store_knows_it_by_an_address_of_its_own_network(name: str) -> None:
    known = {key for key in SERVICES[name]["environment"] if key.startswith("AWS_")}
    assert known == {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert SERVICES[name]["environment"]["AWS_ENDPOINT_URL"] == "http://object-store:9000"
    assert set(SERVICES[name]["networks"]) & set(SERVICES["object-store"]["networks"])


def test_every_command_that_is_told_is_one() -> None:
    known = {str(one.name or one.callback.__name__) for one in local.app.registered_commands if one.callback}
    assert set(re.findall(r"python -m infra\.local ([a-z]+) ", README)) == known
