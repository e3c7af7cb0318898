"""What strikes a deployed retraining: processes killed, servers gone, a full disk, a remote out of reach."""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress

import psutil

from infra import servers
from infra.servers import Server
from tests.scene import FILLER, Scene, kill_all


def kill(process: int) -> None:
    """End one process as the kernel does where memory is short."""
    os.kill(process, signal.SIGKILL)


def stage(scene: Scene, away: float) -> None:
    """The stage at work is killed, and not the DVC that started it."""
    while not (found := scene.at_work("-m tasks.")):
        time.sleep(0.1)
    kill(found[0].pid)


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
    path = scene.tree.root.parent / FILLER
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
    one.__name__: one for one in (stage, flow, worker, prefect, postgres, mlflow, disk, remote, machine)
}


def process_of(server: Server) -> int:
    """The number of a server's process."""
    return int(server.pid_file.read_text())


def back(server: Server, away: float) -> None:
    """Start a server again after so many seconds, and return when it answers."""
    time.sleep(away)
    servers.start([server])
