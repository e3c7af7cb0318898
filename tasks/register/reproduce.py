"""A version made again from its commit, in a checkout and a cache of its own, so that nothing is taken from a store."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tasks import locations, outputs, params, settings
from tasks.errors import UserError
from tasks.params import Params
from tasks.register import chain
from tasks.register.stored import Stored

STAGE = "train"
"""The stage that writes the adapter."""


def adapter(version: Stored, folder: Path) -> str:
    """The SHA-256 of the adapter that the version's commit gives, made in `folder`.

    What the tree held beside its commit is laid over it, as far as git knew the files; data that git does not hold is
    linked from the user's tree. Raises UserError where the commit is not here, data is not what the version was made
    from, or a stage fails.
    """
    commit = version.version.tags.get("instructflow.commit", "")
    if not chain.git("rev-parse", "--verify", f"{commit or 'none'}^{{commit}}"):
        raise UserError(f"the commit {commit[:8] or 'of this version'} is not in this repository; run: git fetch")
    shutil.rmtree(folder, ignore_errors=True)
    _run(["git", "worktree", "prune"], settings.ROOT)
    _run(["git", "worktree", "add", "--quiet", "--detach", str(folder.resolve()), commit], settings.ROOT)
    difference = (version.lineage / "tree.diff").resolve()
    if difference.stat().st_size:
        _run(["git", "apply", "--whitespace=nowarn", str(difference)], folder)
    shutil.copyfile(version.lineage / "params.yaml", folder / "params.yaml")
    wanted = params.load(folder / "params.yaml")
    locations.link(wanted, settings.ROOT, folder)
    check_sources(wanted, version.made_from["sources"], folder)
    _run(["dvc", "repro", STAGE], folder)
    return outputs.digest_path(folder / chain.CHAIN["adapter"])


def check_sources(wanted: Params, recorded: Mapping[str, str], folder: Path) -> None:
    """Raise UserError where a source is not there, or not as it was: the minutes would be for nothing."""
    for name, source in wanted.ingest.sources.items():
        place = folder / source.path
        if not place.exists():
            raise UserError(f"ingest.sources.{name}.path: {source.path} is not here; bring it back first")
        if outputs.digest_path(place) != recorded[name]:
            raise UserError(f"ingest.sources.{name}.path: {source.path} is not what the version was made from any more")


def remove(folder: Path) -> None:
    """Remove the checkout."""
    _run(["git", "worktree", "remove", "--force", str(folder.resolve())], settings.ROOT)


def _run(command: list[str], folder: Path) -> None:
    """Run a command with this Python's tools, without the addresses of this run. Raises UserError where it fails."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "DVC_", "GIT_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(command, cwd=folder, env={**kept, "PATH": path})
    if done.returncode:
        raise UserError(f"`{' '.join(command)}` in {folder} ended with exit status {done.returncode}")
