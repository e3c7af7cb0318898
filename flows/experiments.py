"""A run of a comparison: a checkout of its own, which is kept as a DVC experiment when the run has ended.

The experiment's ref is one of the user's repository, which all its checkouts share.
"""

import json
import threading
from dataclasses import dataclass
from pathlib import Path

from flows.checkouts import Checkout, git, run
from tasks import outputs, params, sheets
from tasks.errors import UserError
from tasks.records import digest
from tasks.variants.grid import Run

_SAVING = threading.Lock()
"""DVC notes what it saves in refs that all checkouts of a repository share."""


@dataclass(frozen=True)
class Experiment(Checkout):
    """Where a run of a grid is computed."""

    run: Run

    @property
    def log(self) -> Path:
        """What the run said."""
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def note(self) -> Path:
        """Notes that the run is kept, and as what."""
        return self.folder.with_name(f"{self.folder.name}.json")

    def is_kept(self) -> bool:
        """Whether this very run is an experiment already, and what it wrote is still here."""
        if not self.note.is_file() or not self.folder.is_dir():
            return False
        noted = json.loads(self.note.read_text(encoding="utf-8"))
        return bool(noted == self._kept(saved(self.run.name)))

    def keep(self) -> None:
        """Keep what the folder holds as a DVC experiment of the user's commit, under the run's name."""
        with _SAVING:
            run(["dvc", "exp", "save", "--force", "--name", self.run.name], self.folder)
            commit = saved(self.run.name)
        if not commit:
            raise UserError(f"{self.folder}: DVC saved no experiment {self.run.name}")
        with outputs.whole(self.note) as scratch:
            outputs.write_json(scratch, self._kept(commit))

    def _kept(self, commit: str) -> dict[str, str]:
        return {"commit": self.commit, "params": digest(self.values), "experiment": commit}


def make(home: Path, each: Run, commit: str) -> Experiment:
    """The checkout of a run in `home`. Raises UserError where its params are wrong."""
    values = each.values(sheets.read(Path("params.yaml")))
    params.check(values, Path(f"params.yaml of {each.name}"))
    return Experiment(home / each.name, commit, values, each)


def saved(name: str) -> str:
    """The commit of the experiment of this name on the user's commit, or nothing."""
    head = git("rev-parse", "HEAD")
    return git("for-each-ref", "--format=%(objectname)", f"refs/exps/{head[:2]}/{head[2:]}/{name}")


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
