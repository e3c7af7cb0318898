"""The links from sources to results, and where the bytes of each may be found again: tree, DVC's cache, git."""

import hashlib
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.hash_info import HashInfo

from tasks import outputs, settings
from tasks.errors import UserError

BASE, ADAPTER, REPORT = Path("models/base"), Path("models/tuned"), Path("reports/report")
RESULTS, BENCHMARKS = Path("reports/evaluate"), Path("data/render/benchmarks")
LINEAGE = Path("reports/register/lineage.json")

CHAIN = {
    "records": Path("data/ingest"),
    "templates": settings.ROOT / "tasks/render/templates",
    "examples": Path("data/render/examples.parquet"),
    "shards": Path("data/pack"),
    "base": BASE,
    "adapter": ADAPTER / "adapter_model.safetensors",
    "tuned": ADAPTER,
    "benchmarks": BENCHMARKS,
    "results": RESULTS,
    "report": REPORT,
    "requirements": settings.ROOT / "requirements.lock",
}
"""The links from the records to the report, each told by its digest."""

Digests = Iterator[tuple[str, str]]
"""Where bytes were found, and their digest."""


@dataclass(frozen=True)
class Places:
    """Where the files of one version may lie: this tree, where its results are that version's; DVC's cache; git."""

    here: bool
    lock: Mapping[str, Any]
    cache: Path | None
    commit: str

    def digests(self, path: Path) -> Digests:
        """The digest of a file or folder in each place that has it whole."""
        own = path.relative_to(settings.ROOT) if path.is_relative_to(settings.ROOT) else path
        if self.here and path.exists():
            yield "this tree", outputs.digest_path(path)
        if self.cache and (files := cached(self.lock, own.as_posix(), self.cache)):
            yield "DVC's cache", _digest(own.as_posix(), {name: outputs.digest_path(at) for name, at in files.items()})
        if self.commit and not own.is_absolute() and (blobs := committed(self.commit, own.as_posix())):
            yield f"commit {self.commit[:8]}", _digest(own.as_posix(), blobs)


def _digest(path: str, files: Mapping[str, str]) -> str:
    """As outputs.digest_path tells it: of the file itself, or of a folder's files by their relative names."""
    if set(files) == {path}:
        return files[path]
    return outputs.digest_files({PurePosixPath(name).relative_to(path).as_posix(): own for name, own in files.items()})


def cached(lock: Mapping[str, Any], path: str, cache: Path) -> dict[str, Path]:
    """The cached files of a path by their names in the tree, as a dvc.lock names them; empty where one is missing."""
    found: dict[str, Path] = {}
    for stage in lock.get("stages", {}).values():
        for out in stage.get("outs", ()):
            if _meets(out["path"], path):
                found |= _objects(out, cache)
    within = {name: at for name, at in found.items() if _meets(path, name)}
    return within if all(at.is_file() for at in within.values()) else {}


def _meets(above: str, below: str) -> bool:
    """Whether one path is the other or lies in it."""
    one, other = PurePosixPath(above), PurePosixPath(below)
    return one.is_relative_to(other) or other.is_relative_to(one)


def _objects(out: Mapping[str, Any], cache: Path) -> dict[str, Path]:
    place = _object(cache, out["md5"])
    if not out["md5"].endswith(".dir"):
        return {out["path"]: place}
    if not place.is_file():
        return {out["path"]: place}
    entries = json.loads(place.read_text(encoding="utf-8"))
    return {f"{out['path']}/{entry['relpath']}": _object(cache, entry["md5"]) for entry in entries}


def _object(cache: Path, md5: str) -> Path:
    return cache / md5[:2] / md5[2:]


def cache_folder() -> Path | None:
    """DVC's cache of this tree; None outside of a DVC repository."""
    try:
        with Repo(str(settings.ROOT)) as repo:
            return Path(repo.cache.local.path)
    except DvcException:
        return None


def fetch(lock: Mapping[str, Any]) -> None:
    """Bring what DVC's cache lacks of a dvc.lock's outs from the remote, as far as it lies there.

    Raises UserError where no remote can be reached.
    """
    outs = [out for stage in lock.get("stages", {}).values() for out in stage.get("outs", ())]
    try:
        with Repo(str(settings.ROOT)) as repo:
            cache = Path(repo.cache.local.path)
            for _ in ("the lists of folders", "the files in them"):
                places = {place for out in outs for place in _objects(out, cache).values() if not place.is_file()}
                repo.cloud.pull([HashInfo("md5", place.parent.name + place.name) for place in sorted(places)])
    except DvcException as error:
        raise UserError(f"DVC's remote cannot be read: {error}; leave out --fetch, or see `dvc remote list`") from error


def committed(commit: str, path: str) -> dict[str, str]:
    """The digests of the files that a commit has at a path, by their names in the tree; empty where it has none."""
    listed = git("ls-tree", "-r", "-z", "--name-only", commit, "--", path).decode()
    names = [name for name in listed.split("\0") if name]
    return {name: hashlib.sha256(git("show", f"{commit}:{name}")).hexdigest() for name in names}


def git(*words: str) -> bytes:
    """What a git command prints; nothing where it fails."""
    try:
        return subprocess.run(["git", *words], cwd=settings.ROOT, capture_output=True, check=True).stdout
    except (subprocess.CalledProcessError, FileNotFoundError):
        return b""
