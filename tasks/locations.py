"""Data that params name by a path: in the repository beside what git holds, or outside of it."""

import os
from pathlib import Path

from tasks.errors import UserError
from tasks.params import Params


def paths(wanted: Params) -> dict[str, Path]:
    """The paths that params name, by their keys."""
    found = {f"ingest.sources.{name}.path": source.path for name, source in wanted.ingest.sources.items()}
    found |= {f"evaluate.include.{name}": folder for name, folder in wanted.evaluate.include.items()}
    if wanted.model.source == "folder":
        found["model.name"] = wanted.model.name
    return {key: Path(path) for key, path in found.items()}


def link(wanted: Params, home: Path, checkout: Path) -> None:
    """Let each relative path of the params lead from a checkout where it leads from `home`, the user's repository.

    Raises UserError where that would need a link outside of the folder that the checkout lies in.
    """
    around = checkout.parent.absolute()
    for key, path in paths(wanted).items():
        place, there = Path(os.path.normpath(checkout.absolute() / path)), home / path
        if path.is_absolute() or place.exists() or not there.exists():
            continue
        if not place.is_relative_to(around):
            raise UserError(f"{key}: {path}: cannot be reached from a checkout in {around}: write the absolute path")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        place.symlink_to(there.resolve())
