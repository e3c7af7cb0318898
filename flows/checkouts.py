"""A checkout for each run of a comparison: the user's commit with other params, on the user's DVC cache.

What a run needs that git does not hold lies in it as a link: data that params name by a path, in the repository or
beside it. When the run has ended, the checkout is kept as a DVC experiment, whose ref the user's repository shares.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks import locations, outputs, params, sheets
from tasks.errors import UserError
from tasks.records import digest
from tasks.variants.grid import Run

_SAVING = threading.Lock()
"""DVC notes what it saves in refs that all checkouts of a repository share."""


@dataclass(frozen=True)
class Checkout:
    """Where a run is computed; `commit` is of the user's repository, `values` are the run's params."""

    run: Run
    folder: Path
    commit: str
    values: dict[str, Any]

    @property
    def log(self) -> Path:
        """What the run said."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def note(self) -> Path:
        """Notes that the run is kept, and as what."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def ready(self) -> Path:
        """DVC's own settings of the checkout, which come when it is laid out."""
        return self.folder / ".dvc" / "config.local"

    def is_kept(self) -> bool:
        """Whether this very run is an experiment already, and what it wrote is still here."""
        if not self.note.is_file() or not self.folder.is_dir():
            return False
        noted = json.loads(self.note.read_text(encoding="utf-8"))
        return bool(noted == self._kept(experiment(self.run.name)))

    def prepare(self) -> None:
        """Make the folder ready to run in; what an interrupted run left there stays.

        Raises UserError where a path of the params cannot be reached from it.
        """
        self.lay_out()
        # Models are the same in many checkouts: links to the cache cost nothing.
        cache = Path(run(["dvc", "cache", "dir"])).resolve()
        config = f'[cache]\n    dir = {cache}\n    type = "reflink,hardlink,copy"\n'
        self.ready.write_text(config, encoding="utf-8")
        if tracked := git("ls-files", "*.dvc", cwd=self.folder).splitlines():
            run(["dvc", "checkout", *tracked], self.folder)
        locations.link(params.check(self.values, self.folder / "params.yaml"), Path(), self.folder)

    def lay_out(self) -> None:
        """Bring the folder to the commit and the params; one that was only half laid out is made anew."""
        if not self.ready.is_file():
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            git("worktree", "prune")
            git("worktree", "add", "--quiet", "--force", "--detach", str(self.folder), self.commit)
        elif git("rev-parse", "HEAD", cwd=self.folder) != self.commit:
            git("checkout", "--quiet", "--force", "--detach", self.commit, cwd=self.folder)
        with outputs.whole(self.folder / "params.yaml") as scratch:
            scratch.write_text(yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True), encoding="utf-8")

    def keep(self) -> None:
        """Keep what the folder holds as a DVC experiment of the user's commit, under the run's name."""
        with _SAVING:
            run(["dvc", "exp", "save", "--force", "--name", self.run.name], self.folder)
            saved = experiment(self.run.name)
        if not saved:
            raise UserError(f"{self.folder}: DVC saved no experiment {self.run.name}")
        with outputs.whole(self.note) as scratch:
            outputs.write_json(scratch, self._kept(saved))

    def _kept(self, saved: str) -> dict[str, str]:
        return {"commit": self.commit, "params": digest(self.values), "experiment": saved}


def make(home: Path, each: Run, commit: str) -> Checkout:
    """The checkout of a run in `home`. Raises UserError where its params are wrong."""
    values = each.values(sheets.read(Path("params.yaml")))
    params.check(values, Path(f"params.yaml of {each.name}"))
    return Checkout(each, home / each.name, commit, values)


def committed(grid: Path) -> str:
    """The user's commit, to which experiments belong.

    Raises UserError where there is none, or where a file was changed since that is neither the grid nor DVC's lock.
    """
    try:
        commit = git("rev-parse", "--verify", "--quiet", "HEAD")
    except UserError as error:
        raise UserError("no commit yet: a variant is kept as an experiment of a commit; commit first") from error
    changed = []
    for line in git("status", "--porcelain", "--untracked-files=all").splitlines():
        state, path = line[:2], line[3:]
        is_code = state != "??" or path.startswith(("tasks/", "flows/"))
        if is_code and path != "dvc.lock" and Path(path).resolve() != grid.resolve():
            changed.append(path)
    if changed:
        told = ", ".join(changed[:5]) + " ..." * (len(changed) > 5)
        raise UserError(f"changed since the last commit: {told}; commit first: variants are experiments of a commit")
    return commit


def experiment(name: str) -> str:
    """The commit of the experiment of this name on the user's commit, or nothing."""
    head = git("rev-parse", "HEAD")
    return git("for-each-ref", "--format=%(objectname)", f"refs/exps/{head[:2]}/{head[2:]}/{name}")


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
