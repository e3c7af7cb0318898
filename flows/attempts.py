"""Runs that nobody watches: each in a checkout of its own, its result a commit on a branch `runs/...`.

The user's tree and branch stay as they are. A checkout is used again by the next run of its kind, so that what was
killed goes on, and what has not changed is not computed.
"""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import yaml
from prefect.runtime import flow_run

from flows import graph, processes, remotes
from flows.checkouts import Checkout, git, run
from tasks import locks, outputs, params, settings, sheets
from tasks.errors import UserError
from tasks.records import digest

RUNS = "runs"
"""The folder of checkouts in build/, and what the branches of results begin with."""

HELD = ".flow"
"""Beside a checkout: the file that a run holds the lock of, and that names it."""

DECISION = settings.BUILD / "promote" / "decision.json"

_AUTHOR = ("-c", "user.name=instructflow", "-c", "user.email=instructflow@localhost")


class Busy(Exception):  # noqa: N818
    """Another run of the same kind is under way."""


@dataclass(frozen=True)
class Outcome:
    """What an attempt came to. `lock` and `gate` are of what was attempted: the same again would be nothing new."""

    what: str
    why: str
    version: str
    commit: str
    branch: str
    lock: str
    gate: str
    when: str


@dataclass(frozen=True)
class Attempt(Checkout):
    """The checkout of one kind of run, with what is known of its last attempt."""

    @property
    def note(self) -> Path:
        """The last attempt's outcome."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def last(self) -> Outcome | None:
        """The outcome of the last attempt that was not broken off."""
        return Outcome(**json.loads(self.note.read_text(encoding="utf-8"))) if self.note.is_file() else None

    def nothing_new(self) -> str | None:
        """Why there is nothing to do; None where a stage would run or the last attempt did not get to its end."""
        last = self.last
        if last is None or (last.lock, last.gate) != self.attempted() or graph.plan(self.folder).reasons:
            return None
        return f"nothing new in {self.commit[:8]} since {last.when}; that attempt: {last.what}: {last.why}"

    def attempted(self) -> tuple[str, str]:
        """Digests of the lock, and so of all that went into the model, and of what the gate demands."""
        lock = self.folder / "dvc.lock"
        return outputs.digest_path(lock) if lock.is_file() else "", digest(self.values.get("gate", {}))

    def keep(self, now: datetime) -> Outcome:
        """Make params and lock a commit on a branch of its own, behind the commit that was run; the outcome."""
        made_from = json.loads((self.folder / "reports/register/lineage.json").read_text(encoding="utf-8"))
        branch = f"{RUNS}/{now:%Y-%m-%d-%H%M%S}-{made_from['fingerprint'][:8]}"
        what, why, version = decided(self.folder / DECISION)
        git("add", "--force", "params.yaml", "dvc.lock", cwd=self.folder)
        git("add", "--update", cwd=self.folder)
        tree = git("write-tree", cwd=self.folder)
        message = f"{what.capitalize()}: version {version}\n\n{why}"
        commit = git(*_AUTHOR, "commit-tree", tree, "-p", self.commit, "-m", message, cwd=self.folder)
        git("branch", "--force", branch, commit)
        return Outcome(what, why, version, commit, branch, *self.attempted(), f"{now:%Y-%m-%d %H:%M} UTC")

    def remember(self, outcome: Outcome) -> None:
        """Note an outcome, the last thing of an attempt."""
        with outputs.whole(self.note) as scratch:
            outputs.write_json(scratch, asdict(outcome))


def decided(path: Path) -> tuple[str, str, str]:
    """What the gate said in this attempt, why, and of which version."""
    if not path.is_file():
        return "unchanged", "the same model is the champion already", "of the champion"
    made = json.loads(path.read_text(encoding="utf-8"))
    return ("promoted" if made["promoted"] else "refused"), made["why"], str(made["candidate"])


@contextmanager
def alone(kind: str, say: Callable[[str], None]) -> Iterator[Path]:
    """The folder of this kind of run, for as long as no other one uses it. Raises Busy where another flow does.

    Stages of a flow that was killed may still be at work there; these are waited for.
    """
    folder = (settings.BUILD / RUNS / kind).absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{kind}{HELD}").open("a+") as file:
        if not locks.take(file.fileno()):
            raise Busy(f"another run of {kind} is under way")
        overwrite(file, flow_run.get_id() or "")
        with processes.alone(folder, say):
            yield folder


def overwrite(file: TextIO, text: str) -> None:
    """Let the file hold this text alone."""
    file.truncate(0)
    file.write(text)
    file.flush()


def dead() -> Iterator[str]:
    """The flow runs of this machine that have ended, maybe without a word; each of them once."""
    for path in sorted((settings.BUILD / RUNS).glob(f"*{HELD}")):
        with path.open("a+") as file:
            file.seek(0)
            if (identity := file.read()) and locks.take(file.fileno()):
                yield identity
                overwrite(file, "")


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    """Work in the checkout, whose stages write to the registry of the user's repository."""
    before = Path.cwd()
    os.environ[settings.HOME] = str(settings.ROOT)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        del os.environ[settings.HOME]


def newest_commit(say: Callable[[str], None]) -> str:
    """The commit to run: the newest of the branch that the user's one follows, or the user's own where it follows none.

    A remote that cannot be reached is told, and what was fetched from it last is used; commits that were not pushed are
    told too.
    """
    if not git("remote"):
        return git("rev-parse", "HEAD")
    try:
        git("remote", "update")
    except UserError as error:
        say(f"the newest commits could not be fetched: {error}")
    followed = git("for-each-ref", "--format=%(upstream)", git("rev-parse", "--symbolic-full-name", "HEAD"))
    if followed and (ahead := int(git("rev-list", "--count", f"{followed}..HEAD"))):
        say(
            f"not run: {ahead} commits here that {followed.removeprefix('refs/remotes/')} has not; git push brings them"
        )
    return git("rev-parse", followed or "HEAD")


def ready(folder: Path, commit: str, changes: dict[str, Any]) -> Attempt:
    """The checkout of a commit with changed params, with the newest data that the commit's `.dvc` files name.

    Raises UserError where the params are wrong, or data cannot be had.
    """
    given = yaml.safe_load(git("show", f"{commit}:params.yaml"))
    made = Attempt(folder, commit, params.overlay(given, changes))
    params.check(made.values, Path(f"params.yaml of {commit[:8]} with the changes of this run"))
    made.prepare()
    bring_data(folder)
    return made


def bring_data(folder: Path) -> None:
    """Get the newest version of what `dvc import-url` follows, and from the remote what neither tree nor cache has."""
    for name in git("ls-files", "*.dvc", cwd=folder).splitlines():
        tracked = sheets.read(folder / name)
        if tracked.get("deps"):
            run(["dvc", "update", name], folder)
        elif not all((folder / name).with_name(out["path"]).exists() for out in tracked["outs"]):
            remotes.transfer(folder, "pull", name)


def check_disk(least: float) -> None:
    """Raise UserError where fewer GiB are free than a run may need."""
    free = shutil.disk_usage(settings.BUILD).free / 1024**3
    if free < least:
        raise UserError(f"the disk has {free:.1f} GiB left, and a run wants {least:g}; free some, or lower free_gib")


def prune(keep: int, kept: Collection[str]) -> str:
    """Drop the oldest results and what only they need; what was dropped.

    The newest `keep` branches stay, and those of the fingerprints that begin with one of `kept`. From DVC's cache goes
    what no commit of any branch, no experiment and no checkout names; nothing while another flow uses the cache.
    """
    branches = git("for-each-ref", "--sort=-refname", "--format=%(refname:short)", f"refs/heads/{RUNS}").splitlines()
    old = [name for name in branches[keep:] if name.rpartition("-")[2] not in kept]
    if not old:
        return ""
    git("branch", "--quiet", "-D", *old)
    with processes.cache_for_itself() as is_free:
        if is_free:
            told = git("worktree", "list", "--porcelain").splitlines()
            trees = [line.removeprefix("worktree ") for line in told if line.startswith("worktree ")]
            others = [tree for tree in trees[1:] if Path(tree, "dvc.yaml").is_file()]
            scope = ["--workspace", "--all-commits", "--all-experiments", *(["--projects", *others] if others else [])]
            run(["dvc", "gc", "--force", *scope])
    return f"{len(old)} results dropped" + ", with what only they needed of DVC's cache" * is_free
