"""A checkout of its own for a run: a commit of the user's repository with other params, on the user's DVC cache.

What a run needs that git does not hold lies in it as a link: data that params name by a path, in the repository or
beside it.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo

from tasks import locations, outputs, params, sheets
from tasks.errors import UserError


@dataclass(frozen=True)
class Checkout:
    """Where a run is computed; `commit` is of the user's repository, `values` are the run's params."""

    folder: Path
    commit: str
    values: dict[str, Any]

    @property
    def ready(self) -> Path:
        """DVC's own settings of the checkout, which come when it is laid out."""
        return self.folder / ".dvc" / "config.local"

    def prepare(self) -> None:
        """Make the folder ready to run in; what an interrupted run left there stays.

        Raises UserError where a path of the params cannot be reached from it.
        """
        self.lay_out()
        # What `dvc remote modify --local` set, as a key or an address, holds for the checkout too.
        cache = Path(run(["dvc", "cache", "dir"])).resolve()
        with Repo() as home, Repo(str(self.folder)) as made, made.config.edit("local") as own:
            own.update(home.config.read("local"))
            # Models are the same in many checkouts: links to the cache cost nothing.
            own["cache"] = {"dir": str(cache), "type": "reflink,hardlink,copy"}
        if tracked := git("ls-files", "*.dvc", cwd=self.folder).splitlines():
            run(["dvc", "checkout", "--allow-missing", *tracked], self.folder)
        locations.link(params.check(self.values, self.folder / "params.yaml"), Path(), self.folder)

    def lay_out(self) -> None:
        """Bring the folder to the commit and the params; one that was only half laid out is made anew.

        The lock of what lies there stays with it: a commit's own one tells of other results.
        """
        if not self.ready.is_file():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            git("worktree", "prune")
            git("worktree", "add", "--quiet", "--force", "--detach", str(self.folder), self.commit)
        elif git("rev-parse", "HEAD", cwd=self.folder) != self.commit:
            lock = self.folder / "dvc.lock"
            kept = lock.read_bytes() if lock.is_file() else None
            git("checkout", "--quiet", "--force", "--detach", self.commit, cwd=self.folder)
            if kept is not None:
                lock.write_bytes(kept)
        path = self.folder / "params.yaml"
        if sheets.read(path) != self.values:
            with outputs.whole(path) as scratch:
                scratch.write_text(yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True), encoding="utf-8")


def run(command: list[str], cwd: Path = Path()) -> str:
    """What a command printed. Raises UserError with its last lines where it failed."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=cwd, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    if done.returncode:
        told = "\n".join((done.stdout + done.stderr).strip().splitlines()[-5:])
        raise UserError(f"`{' '.join(command)}` in {cwd.absolute()} failed:\n{told}")
    return done.stdout.rstrip("\n")


def git(*words: str, cwd: Path = Path()) -> str:
    """What a git command printed. Raises UserError where it failed."""
    return run(["git", *words], cwd)
