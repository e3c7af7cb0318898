"""Where retrainings are struck: a team's servers, a user's tree on a small disk, and DVC's remote behind SSH."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml

from infra import team
from infra.team import Team
from tests import loopback, ssh_server
from tests.checkout import Checkout, clone
from tests.data_fixtures import ROOT
from tests.deployment import Deployed

PLACE = Path("build/runs/retrain")
"""The checkout of retrainings, in the user's tree."""

IMAGE_GIB = 4
"""The size of the disk that gets full."""

FILLER = "filler"
"""The file on it that fills it."""

SMALL: dict[str, Any] = {
    "render": {"examples": 40, "documents": 6, "held_out": ["commonsense"], "related": {}},
    "pack": {"row_tokens": 512},
    "train": {"checkpoint_minutes": 0.02, "max_steps": 6},
    "evaluate": {"suites": ["commonsense"], "new_tokens": 8},
    "gate": {"measures": ["valid_answer"], "floor": 1.0, "valid_answer": None, "stopped": None},
}

SETTINGS = {"PREFECT_WORKER_QUERY_SECONDS": "0.5", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
"""A worker that asks more often, and runs that tell more often that they live, than by default."""


@dataclass(frozen=True)
class Scene:
    """A team's servers, a user's tree on a disk of its own, and the SSH server with DVC's remote."""

    team: Team
    server: Deployed
    remote: "Remote"

    @property
    def tree(self) -> Checkout:
        """The user's tree."""
        return self.server.made

    @property
    def checkout(self) -> Checkout:
        """Where retrainings are computed."""
        return Checkout(self.tree.root / PLACE)

    def at_work(self, word: str) -> list[psutil.Process]:
        """The processes in the checkout whose command has this word, the newest first."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.cwd() == str(self.checkout.root) and word in " ".join(process.cmdline()):
                    found.append(process)
        return sorted(found, key=lambda one: one.create_time(), reverse=True)


@dataclass
class Remote:
    """An SSH server that can be ended with all its connections, and come back at the same port."""

    server: ssh_server.Server
    process: subprocess.Popen[bytes]

    def close(self) -> None:
        """Let nothing listen at the port, and break what is connected."""
        kill_all(self.process.pid)
        self.process.wait()

    def open(self) -> None:
        """Listen again."""
        self.process = self.server.start()


def kill_all(number: int) -> None:
    """Kill a process with all that it started."""
    whole = psutil.Process(number)
    for one in [whole, *whole.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):
            one.kill()


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A folder on a file system of its own, in a file beside it; what lies there stays from one time to the next."""
    image = folder.with_suffix(".img")
    if not image.is_file():
        with image.open("wb") as file:
            file.truncate(IMAGE_GIB << 30)
        subprocess.run(["mkfs.ext4", "-q", "-m", "0", "-F", str(image)], check=True)
    folder.mkdir(exist_ok=True)
    if not os.path.ismount(folder):
        subprocess.run(["mount", "-o", "loop", str(image), str(folder)], check=True)
    (folder / FILLER).unlink(missing_ok=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def user_tree(folder: Path) -> Checkout:
    """A clone of this tree's commit at a small size."""
    if (folder / "ready").is_file():
        return Checkout(folder / "tree")
    shutil.rmtree(folder / "tree", ignore_errors=True)
    made = clone(folder / "tree")
    values = yaml.safe_load((made.root / "params.yaml").read_text(encoding="utf-8"))
    for section, changes in SMALL.items():
        values.setdefault(section, {}).update(changes)
    (made.root / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    made.commit("small")
    (folder / "ready").touch()
    return made


@contextmanager
def remote(tree: Checkout) -> Iterator[Remote]:
    """DVC's default remote, on an SSH server; it is told to DVC for this user alone, whose home is a new folder."""
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as folder:
        os.environ["HOME"] = home
        server = ssh_server.made(Path(folder), ssh_server.make_key(Path(home, "key")))
        started = Remote(server, server.start())
        address = f"ssh://{server.user}@127.0.0.1:{server.port}{server.folder / 'dvc'}"
        tree.run("dvc", "remote", "add", "--global", "--default", "server", address)
        tree.run("dvc", "remote", "modify", "--global", "server", "keyfile", str(server.key))
        try:
            yield started
        finally:
            started.close()


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """All servers, with the tree's deployments."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = (folder / "team/ports.env").is_file()
    os.environ.update(SETTINGS | ({} if kept else loopback.named(team.PORTS)))
    with small_disk(folder / "disk") as disk:
        tree = user_tree(disk)
        os.chdir(tree.root)
        with remote(tree) as reached:
            servers = Team.make(folder / "team")
            servers.up()
            try:
                os.environ.update(servers.client)
                tree.run("bash", "infra/deploy.sh", **SETTINGS, **servers.client)
                user, _, password = servers.client["PREFECT_API_AUTH_STRING"].partition(":")
                server = Deployed(tree, servers.folder / "prefect", servers.client["PREFECT_API_URL"], (user, password))
                yield Scene(servers, server, reached)
            finally:
                servers.down()
                os.chdir(ROOT)


def end_all(scene: Scene) -> None:
    """End what a soak that was broken off may have left."""
    going_on = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
    for run in scene.server.post("flow_runs/filter", flow_runs=going_on).json():
        give_up(scene, run["id"])
    for process in scene.at_work(""):
        process.kill()


def give_up(scene: Scene, identity: str) -> None:
    """Let the server take a run for dead."""
    scene.server.post(f"flow_runs/{identity}/set_state", state={"type": "CRASHED", "name": "Hung"}, force=True)
