"""Data under DVC as a person lives it: README's commands, on sources of a few rows, with the stages up to render."""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests import programs, ssh_server
from tests.checkout import Checkout, checkout, ran
from tests.data_fixtures import ROOT
from tests.ssh_server import Server

PERSON = {f"GIT_{role}_{what}": "a@example.org" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
NAMES = ("my_data", "their_data")


def rows(*words: str) -> str:
    return "".join(f'{{"instruction": "Say {word}.", "output": "It is {word}."}}\n' for word in words)


def readme(word: str) -> str:
    """The block of README's section on versions that holds this word."""
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## Version your data")[1].split("\n## ")[0]
    [block] = [block for block in re.findall(r"```(?:sh)?\n(.+?)```", section, flags=re.DOTALL) if word in block]
    return str(block)


def follow(made: Checkout, word: str, elsewhere: str = "", here: object = "", **environment: str) -> str:
    """Run README's block with an address of README's replaced by one that is here; returns what it printed."""
    block = readme(word)
    assert elsewhere in block
    return made.run("bash", "-euc", block.replace(elsewhere, str(here)), **PERSON, **environment)


def shorten(made: Checkout) -> None:
    """Take the stages behind render away, and add the two sources to the params."""
    graph = yaml.safe_load((made.root / "dvc.yaml").read_text())
    short = {"stages": {name: graph["stages"][name] for name in ("ingest", "include", "render")}}
    (made.root / "dvc.yaml").write_text(yaml.safe_dump(short, sort_keys=False))
    values = yaml.safe_load((made.root / "params.yaml").read_text())
    more = {name: {"format": "alpaca", "path": f"sources/{name}.jsonl", "licence": "MIT"} for name in NAMES}
    made.change("ingest", "sources", values["ingest"]["sources"] | more)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with both sources, in which the stages have run; `their_data.jsonl` beside it is the publisher's."""
    folder = tmp_path_factory.mktemp("versioning")
    (folder / "my_data.jsonl").write_text(rows("one", "two"))
    (folder / "their_data.jsonl").write_text(rows("three", "four"))
    (folder / "model").mkdir()
    made = checkout(folder / "first", folder / "model")
    shorten(made)
    made.run("git", "add", "-A")
    follow(made, "import-url", "https://example.org/their_data.jsonl", folder / "their_data.jsonl")
    made.run("dvc", "repro")
    made.run("git", "add", "-A")
    made.run("git", "commit", "-qm", "A first run", **PERSON)
    return made


@pytest.fixture
def made(first: Checkout, tmp_path: Path) -> Checkout:
    """A copy of that checkout, with the folder around it."""
    shutil.copytree(first.root.parent, tmp_path / "copy")
    return Checkout(tmp_path / "copy" / first.root.name)


def clone(made: Checkout, folder: Path) -> Checkout:
    """What a colleague has after `git clone`."""
    subprocess.run(["git", "clone", "-q", made.root, folder], check=True)
    return Checkout(folder)


def objects(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_git_keeps_the_names_of_the_data_and_not_its_bytes(first: Checkout) -> None:
    kept = first.run("git", "ls-files", "sources").split()
    assert kept == ["sources/.gitignore", *(f"sources/{name}.jsonl.dvc" for name in NAMES)]


def test_a_source_under_dvc_is_a_stage_s_dependency(first: Checkout) -> None:
    edges = set(re.findall(r'"(.+)"-->?"(.+)"|"(.+)" -> "(.+)"', first.run("dvc", "dag", "--dot")))
    assert {("sources/their_data.jsonl.dvc", "ingest@their_data")} <= {edge[2:] for edge in edges}
    assert "up to date" in first.run("dvc", "status")


def test_an_update_upstream_runs_that_source_and_what_depends_on_it_again(made: Checkout) -> None:
    sources = made.root / "sources"
    link = sources / "their_data.jsonl.dvc"
    published = made.root.parent / "their_data.jsonl"
    link.write_text(link.read_text().replace(re.findall(r"path: (/\S+)", link.read_text())[0], str(published)))
    published.write_text(rows("three", "four", "five"))
    assert ran(follow(made, "dvc update")) == {"ingest@their_data", "render"}
    assert (sources / "their_data.jsonl").read_text() == rows("three", "four", "five")


def test_an_unchanged_upstream_runs_nothing_again(made: Checkout) -> None:
    assert ran(follow(made, "dvc update")) == set()


def test_a_file_added_anew_runs_its_source_and_what_depends_on_it(made: Checkout) -> None:
    path = made.root / "sources" / "my_data.jsonl"
    path.unlink()
    path.write_text(rows("one", "two", "six"))
    made.run("dvc", "add", "sources/my_data.jsonl")
    assert ran(made.run("dvc", "repro")) == {"ingest@my_data", "render"}


def test_the_flow_runs_sources_under_dvc_like_dvc_does(made: Checkout) -> None:
    (made.root / "sources" / "my_data.jsonl").write_text(rows("one", "seven"))
    made.run("dvc", "add", "sources/my_data.jsonl")
    done = made.run(sys.executable, "-m", "flows.pipeline")
    assert ran(done) == {"ingest@my_data", "render"}


def test_a_clone_pulls_from_a_folder_and_has_nothing_to_run(made: Checkout, tmp_path: Path) -> None:
    follow(made, "/mnt/team/dvc", "/mnt/team/dvc", tmp_path / "remote")
    colleague = clone(made, tmp_path / "second")
    assert "up to date" in follow(colleague, "dvc pull")
    assert ran(colleague.run("dvc", "repro")) == set()
    assert colleague.run("git", "status", "--short") == ""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An SSH server; its folder is outside pytest's, which no other user may enter."""
    key = ssh_server.make_key(tmp_path_factory.mktemp("key") / "team_key")
    with tempfile.TemporaryDirectory() as folder, ssh_server.started(Path(folder), key) as running:
        yield running


@pytest.mark.ssh
def test_a_clone_pulls_from_an_ssh_server_that_is_known(made: Checkout, server: Server, tmp_path: Path) -> None:
    home = server.home(tmp_path / "home", readme("ProxyCommand"), server.folder / "host_key")
    follow(made, "ssh://", "/srv/dvc", server.folder / "dvc", HOME=str(home))
    made.run("git", "commit", "-qam", "A server", **PERSON)
    colleague = clone(made, tmp_path / "second")
    assert "up to date" in follow(colleague, "dvc pull", HOME=str(home))
    assert ran(colleague.run("dvc", "repro")) == set()


@pytest.mark.ssh
def test_nothing_is_sent_to_a_server_with_another_host_key(made: Checkout, server: Server, tmp_path: Path) -> None:
    other = ssh_server.make_key(tmp_path / "other")
    home = server.home(tmp_path / "home", readme("ProxyCommand"), other)
    let_in = server.log.read_text().count("Accepted publickey")
    with pytest.raises(AssertionError, match="Connection lost"):
        follow(made, "ssh://", "/srv/dvc", server.folder / "unknown", HOME=str(home))
    assert server.log.read_text().count("Accepted publickey") == let_in
    assert not (server.folder / "unknown").exists()


@pytest.mark.ssh
def test_dvc_s_own_client_takes_any_host_key_as_readme_warns(made: Checkout, server: Server, tmp_path: Path) -> None:
    address = f"ssh://{server.user}@127.0.0.1:{server.port}{server.folder / 'direct'}"
    made.run("dvc", "remote", "add", "direct", address)
    made.run("dvc", "remote", "modify", "--local", "direct", "keyfile", str(server.key))
    made.run("dvc", "push", "--remote", "direct", HOME=str(tmp_path))
    assert objects(server.folder / "direct")


def test_a_remote_s_key_stays_out_of_git(made: Checkout) -> None:
    made.run("dvc", "remote", "add", "server", "ssh://team-data/srv/dvc")
    made.run("dvc", "remote", "modify", "--local", "server", "keyfile", "/home/me/team_key")
    made.run("git", "add", "-A")
    assert "team_key" not in made.run("git", "diff", "--cached")
    assert "team_key" in made.run("dvc", "config", "--list")


@pytest.mark.parametrize(
    ("marker", "required", "stop", "install"),
    [
        ("ssh", False, pytest.skip.Exception, "apt-get install openssh-server"),
        ("ssh", True, pytest.fail.Exception, "apt-get install openssh-server"),
        ("vllm", True, pytest.skip.Exception, "pip install vllm"),  # CI has none
    ],
)
def test_a_missing_program_is_named_with_what_brings_it(
    marker: str, required: bool, stop: type[BaseException], install: str
) -> None:
    with pytest.raises(stop, match=install):
        programs.check(marker, None, required)
