"""Data over a real S3 server and a real SSH server: pushed, pulled elsewhere, cut in the middle, and refused."""

import dataclasses
import hashlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from flows import remotes
from tasks.errors import UserError
from tests import cut, s3_server, ssh_server
from tests.checkout import Checkout, checkout
from tests.test_versioning import clone, follow, readme

FILES, SIZE = 6, 2_000_000
HALF = FILES * SIZE // 2

BOTH = [pytest.param(name, marks=getattr(pytest.mark, name)) for name in ("s3", "ssh")]
both = pytest.mark.parametrize("kind", BOTH)


class Place(NamedTuple):
    """A server as DVC's remote: its port, its address, its folder on this disk, and a client's way to it by a port."""

    port: int
    address: str
    files: Callable[[], dict[str, bytes]]
    environment: Callable[[int], dict[str, str]]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_server.Server]:
    """A server that speaks S3, with a bucket."""
    with s3_server.started(tmp_path_factory.mktemp("s3")) as running:
        running.client().create_bucket(Bucket="dvc")
        yield running


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssh_server.Server]:
    """An SSH server; its folder is outside pytest's, which no other user may enter."""
    key = ssh_server.make_key(tmp_path_factory.mktemp("key") / "team_key")
    with tempfile.TemporaryDirectory() as folder, ssh_server.started(Path(folder), key) as running:
        yield running


def over_s3(store: s3_server.Server, name: str) -> Place:
    def files() -> dict[str, bytes]:
        client = store.client()
        found = client.list_objects_v2(Bucket="dvc", Prefix=f"{name}/").get("Contents", [])
        return {each["Key"]: client.get_object(Bucket="dvc", Key=each["Key"])["Body"].read() for each in found}

    return Place(store.port, f"s3://dvc/{name}", files, lambda port: store.login(port=port))


def over_ssh(host: ssh_server.Server, name: str, homes: Path) -> Place:
    def files() -> dict[
        str, bytes
    ]:  # what is on its way has a name that begins with a dot, and is given one when whole
        return {str(path): path.read_bytes() for path in (host.folder / name).rglob("[!.]*") if path.is_file()}

    def environment(port: int) -> dict[str, str]:
        other = dataclasses.replace(host, port=port)
        return {"HOME": str(other.home(homes / str(port), readme("ProxyCommand"), host.folder / "host_key"))}

    return Place(host.port, f"ssh://team-data{host.folder / name}", files, environment)


@pytest.fixture
def place(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The server of this kind, with an empty folder in it for each test."""
    name = tmp_path.name.replace("_", "-")
    if kind == "s3":
        return over_s3(request.getfixturevalue("store"), name)
    return over_ssh(request.getfixturevalue("host"), name, tmp_path / "homes")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A repository with some data and no remote."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "data").mkdir()
    for number in range(FILES):
        (folder / f"data/{number}").write_bytes(os.urandom(SIZE))
    made = Checkout(folder)
    for command in (
        "git init -q", "git config user.name a", "git config user.email a@example.org", "dvc init -q",
        "dvc add -q data", "git add .", "git commit -qm one",
    ):  # fmt: skip
        made.run(*command.split())
    return made


@pytest.fixture
def with_remote(data: Checkout, tmp_path: Path) -> Callable[[str], Checkout]:
    """Makes a copy of that repository with a default remote at an address."""

    def make(address: str) -> Checkout:
        made = Checkout(tmp_path / "one")
        shutil.copytree(data.root, made.root)
        made.run("dvc", "remote", "add", "-q", "--default", "team", address)
        made.run("git", "commit", "-qam", "A remote")
        return made

    return make


@pytest.fixture
def made(place: Place, with_remote: Callable[[str], Checkout]) -> Checkout:
    return with_remote(place.address)


def broken(made: Checkout, place: Place, command: str) -> str:
    """What the command says when the connection breaks in its middle."""
    with cut.way(place.port, HALF) as way:
        with pytest.raises(AssertionError) as said:
            made.run("dvc", *command.split(), **place.environment(way.port), AWS_MAX_ATTEMPTS="1")
        assert way.left <= 0
    return str(said.value)


def whole(files: dict[str, bytes]) -> bool:
    """Whether each file of a cache or a remote has the bytes that its name says."""
    return all(
        hashlib.md5(data, usedforsecurity=False).hexdigest() == "".join(Path(name).parts[-2:]).removesuffix(".dir")
        for name, data in files.items()
    )


@both
def test_a_push_that_is_cut_leaves_nothing_half_written_and_the_next_completes_it(
    made: Checkout, place: Place, tmp_path: Path
) -> None:
    said = broken(made, place, "push")
    assert re.search(r"^ERROR: failed to push data to the cloud - \d files failed to upload$", said, re.MULTILINE)
    assert whole(place.files())
    environment = place.environment(place.port)
    made.run("dvc", "push", **environment)
    assert len(place.files()) == FILES + 1
    colleague = clone(made, tmp_path / "two")
    colleague.run("dvc", "pull", **environment)
    assert "up to date" in colleague.run("dvc", "status")
    assert (colleague.root / "data/0").read_bytes() == (made.root / "data/0").read_bytes()


@both
def test_a_pull_that_is_cut_leaves_nothing_half_written_and_the_next_completes_it(
    made: Checkout, place: Place, tmp_path: Path
) -> None:
    environment = place.environment(place.port)
    made.run("dvc", "push", **environment)
    colleague = clone(made, tmp_path / "two")
    said = broken(colleague, place, "pull")
    assert re.search(r"^ERROR: failed to pull data from the cloud - \d files failed to", said, re.MULTILINE)
    cache = colleague.root / ".dvc/cache"
    assert whole({str(path): path.read_bytes() for path in cache.rglob("*") if path.is_file()})
    assert not (colleague.root / "data").exists()
    colleague.run("dvc", "pull", **environment)
    assert (colleague.root / "data/0").read_bytes() == (made.root / "data/0").read_bytes()


def refused(made: Checkout, patch: pytest.MonkeyPatch, environment: dict[str, str]) -> str:
    """What is said where the remote is asked with these settings before a run."""
    for name, value in environment.items():
        patch.setenv(name, value)
    with pytest.raises(UserError) as caught:
        remotes.check_access(made.root, pytest.fail)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.s3
def test_a_store_that_refuses_is_told_before_anything_begins(
    store: s3_server.Server, with_remote: Callable[[str], Checkout], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_remote("s3://dvc/refused")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    assert "DVC's remote team: Unable to locate credentials; set AWS_ACCESS_KEY_ID" in refused(
        made, monkeypatch, {"AWS_ENDPOINT_URL": store.login()["AWS_ENDPOINT_URL"]}
    )
    told = refused(made, monkeypatch, store.login("wrong"))
    assert told.startswith("DVC's remote team: The request signature we calculated does not match")
    made.run("dvc", "remote", "modify", "team", "url", "s3://nothing/here")
    assert "team: The specified bucket does not exist" in refused(made, monkeypatch, store.login())
    assert store.client().list_objects_v2(Bucket="dvc", Prefix="refused/")["KeyCount"] == 0


@pytest.mark.s3
def test_a_store_that_lets_in_or_does_not_answer_lets_a_run_begin(
    store: s3_server.Server, with_remote: Callable[[str], Checkout], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_remote("s3://dvc/empty")
    told: list[str] = []
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    for login in (store.login(), store.login(port=9)):
        for name, value in login.items():
            monkeypatch.setenv(name, value)
        remotes.check_access(made.root, told.append)
    assert [line.partition(" endpoint")[0] for line in told] == ["DVC's remote team: Could not connect to the"]


@pytest.mark.ssh
def test_a_host_that_refuses_a_key_is_told_before_anything_begins(
    host: ssh_server.Server, with_remote: Callable[[str], Checkout], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_remote(f"ssh://{host.user}@127.0.0.1:{host.port}{host.folder / 'refused'}")
    made.run("dvc", "remote", "modify", "--local", "team", "keyfile", str(ssh_server.make_key(tmp_path / "other")))
    told = refused(made, monkeypatch, {"HOME": str(tmp_path)})
    assert told.startswith("DVC's remote team: Permission denied for user")
    made.run("dvc", "remote", "modify", "--local", "team", "keyfile", str(host.key))
    remotes.check_access(made.root, pytest.fail)
    assert not (host.folder / "refused").exists()


@pytest.mark.ssh
def test_a_key_that_openssh_s_own_connection_is_refused_with_is_told_too(
    host: ssh_server.Server, with_remote: Callable[[str], Checkout], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = with_remote(over_ssh(host, "refused", tmp_path).address)
    other = dataclasses.replace(host, key=ssh_server.make_key(tmp_path / "other"))
    home = other.home(tmp_path / "home", readme("ProxyCommand"), host.folder / "host_key")
    assert refused(made, monkeypatch, {"HOME": str(home)}).startswith("DVC's remote team: Connection lost; `ssh` must")


def test_a_repository_without_a_remote_asks_nobody(data: Checkout) -> None:
    remotes.check_access(data.root, pytest.fail)
    assert not remotes.push(data.root)


def test_a_push_that_fails_is_told_in_one_line(with_remote: Callable[[str], Checkout], tmp_path: Path) -> None:
    made = with_remote(f"ssh://127.0.0.1:9{tmp_path}")
    with pytest.raises(UserError, match=r"^`dvc push`: .+; what arrived stays, the same again brings the rest$"):
        remotes.push(made.root)


@pytest.mark.s3
def test_no_secret_is_written_anywhere(
    store: s3_server.Server, with_remote: Callable[[str], Checkout], tmp_path: Path
) -> None:
    made = with_remote("s3://nobody/there")
    printed = follow(made, "s3://", "my-bucket/instructflow", "dvc/secret", **store.login())
    made.run("git", "commit", "-qam", "A bucket")
    printed += made.run("dvc", "push", "--verbose", **store.login())
    colleague = clone(made, tmp_path / "two")
    printed += colleague.run("dvc", "pull", "--verbose", **store.login())
    printed += made.run("git", "log", "--all", "--patch")
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    logs = [path.read_bytes() for path in store.folder.glob("*.log")]
    assert b"s3://dvc/secret" in (made.root / ".dvc/config").read_bytes()
    assert len(logs) == 4
    assert not [text for text in [printed.encode(), *written, *logs] if store.secret.encode() in text]


@pytest.mark.s3
def test_a_run_that_nobody_watches_does_not_begin_where_its_remote_refuses(
    store: s3_server.Server, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    made = checkout(tmp_path / "one", tmp_path / "model")
    made.run("dvc", "remote", "add", "--default", "team", "s3://dvc/run")
    made.commit("A remote")
    with pytest.raises(AssertionError, match="DVC's remote team: The request signature") as said:
        made.run(sys.executable, "-m", "flows.retrain", **store.login("wrong"))
    assert "Running stage" not in str(said.value)
