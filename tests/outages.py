"""What strikes a deployed retraining: processes killed, servers gone, a full disk, a remote out of reach."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra import servers
from infra.servers import Server
from infra.team import Team
from tests import ssh_server
from tests.checkout import Checkout
from tests.deployment import Deployed

PLACE = Path("build/runs/retrain")
"""The checkout of retrainings, in the user's tree."""

IMAGE_GIB = 4


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


def kill(process: int) -> None:
    """End one process as the kernel does where memory is short."""
    os.kill(process, signal.SIGKILL)


def stage(scene: Scene, away: float) -> None:
    """The training is killed, and not the DVC that started it."""
    kill(scene.at_work("-m tasks.")[0].pid)


def flow(scene: Scene, away: float) -> None:
    """The process of the flow run is killed; stages that it started go on."""
    [process] = psutil.Process(process_of(scene.team.worker)).children()
    kill(process.pid)


def worker(scene: Scene, away: float) -> None:
    """The worker is killed, and not the flow run that it started; it is started again later."""
    kill(process_of(scene.team.worker))
    back(scene.team.worker, away)


def machine(scene: Scene, away: float) -> None:
    """The worker is killed with all that it started, as when its machine goes; nobody is left to tell of it."""
    kill_all(process_of(scene.team.worker))
    back(scene.team.worker, away)


def prefect(scene: Scene, away: float) -> None:
    """The Prefect server is killed."""
    os.killpg(process_of(scene.team.prefect), signal.SIGKILL)
    back(scene.team.prefect, away)


def mlflow(scene: Scene, away: float) -> None:
    """The MLflow server is killed."""
    os.killpg(process_of(scene.team.mlflow), signal.SIGKILL)
    back(scene.team.mlflow, away)


def postgres(scene: Scene, away: float) -> None:
    """PostgreSQL stops at once, with no word to those who are connected (SIGQUIT, its "immediate" shutdown)."""
    kept = scene.team.postgres
    os.kill(int((kept.data / "postmaster.pid").read_text().split()[0]), signal.SIGQUIT)
    while kept.runs():
        time.sleep(0.1)
    time.sleep(away)
    kept.start()


def disk(scene: Scene, away: float) -> None:
    """The disk with the tree, DVC's cache and the checkout is full for a while."""
    path = scene.tree.root.parent / "filler"
    with path.open("wb") as file, suppress(OSError):
        while True:  # as much as goes in, in ever smaller pieces
            step = os.statvfs(path.parent)
            os.posix_fallocate(file.fileno(), file.tell(), max(4096, step.f_bavail * step.f_bsize // 2))
            file.seek(0, os.SEEK_END)
    time.sleep(away)
    path.unlink()


def remote(scene: Scene, away: float) -> None:
    """DVC's remote cannot be reached."""
    scene.remote.close()
    time.sleep(away)
    scene.remote.open()


FAULTS: dict[str, Callable[[Scene, float], None]] = {
    one.__name__: one for one in (stage, flow, worker, machine, prefect, mlflow, postgres, disk, remote)
}


def process_of(server: Server) -> int:
    """The number of a server's process."""
    return int(server.pid_file.read_text())


def back(server: Server, away: float) -> None:
    """Start a server again after so many seconds, and return when it answers."""
    time.sleep(away)
    servers.start([server])


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
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
