"""python -m flows.away ADDRESS [MINUTES]: one stage on a machine that shares no disk with the run's checkout.

What git knows travels there in a parcel, as it stands in the run's checkout, so that the code and the values are the
run's own. Data travel through DVC's remote, both ways: that is a store for them already, with hashes, and the machine
keeps a cache for the next stage. The stage is computed by the same `dvc repro` as at home, and its part of dvc.lock
comes back, with what DVC does not cache.
"""

import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml
from dvc.dependency.param import ParamsDependency
from dvc.exceptions import OutputNotFoundError
from dvc.repo import Repo
from dvc.utils.serialize import modify_yaml

from flows import processes
from flows.checkouts import git, run
from tasks import errors, locations, params, settings
from tasks.errors import UserError

HOME = Path(".cache", "instructflow", "away")
"""Where such a machine keeps its checkouts and DVC's cache, in the home folder of who started its worker."""

ANSWER = settings.BUILD / "answer.tar"
"""What goes back, in the stage's checkout."""

LOCK = "dvc.lock"

_MERGING = threading.Lock()
"""DVC's lock is the process's, and stages are followed side by side in threads of one."""


def check(root: Path = Path()) -> None:
    """Raise UserError where a stage of this checkout could not be computed on another machine."""
    with Repo(str(root)) as repo:
        if not repo.config.load_one("repo").get("core", {}).get("remote"):
            raise UserError(
                f"{root / '.dvc/config'}: compute.engine is ray, and data would have no way to other machines: name a"
                " place that all of them reach: dvc remote add --default NAME URL"
            )
        if strange := sorted(set(_strange(repo, root))):
            raise UserError(
                f"{', '.join(strange[:5])}{' ...' * (len(strange) > 5)}: a stage reads it, and neither git nor DVC"
                " brings it to another machine: git add it, or dvc add it"
            )


def _strange(repo: Any, root: Path) -> Iterator[str]:
    """What stages read that is neither in git nor in DVC; an absolute path is taken to be on every machine."""
    held, loose = (git("ls-files", "-z", *words, cwd=root).split("\0") for words in ((), _LOOSE))
    named = {str(path) for path in locations.paths(params.load(root / "params.yaml")).values()}
    for path in named | {path for stage in repo.index.stages if stage.cmd for path in files(stage)}:
        if Path(path).is_absolute() or _outs(repo, root / path):
            continue
        yield from [name for name in loose if _lies_in(name, path)]
        if not any(_lies_in(name, path) for name in held):
            yield path


_LOOSE = ("--others", "--exclude-standard")


def _lies_in(name: str, path: str) -> bool:
    return name == path or name.startswith(f"{path.rstrip('/')}/")


def _outs(repo: Any, path: Path) -> list[Any]:
    """The outs that a path is, lies in, or is a folder of."""
    with suppress(OutputNotFoundError):
        return list(repo.find_outs_by_path(str(path.absolute()), recursive=True, strict=False))
    return []


def files(stage: Any) -> list[str]:
    """The paths that a stage depends on, as dvc.yaml names them."""
    return [str(item.def_path) for item in stage.deps if not isinstance(item, ParamsDependency)]


def offer() -> None:
    """Bring to DVC's remote what the working folder's lock names already: later stages may read it elsewhere."""
    if Path(LOCK).is_file() or git("ls-files", "*.dvc"):
        run(["dvc", "--wait-for-lock", "push", "--run-cache"])


def pack(root: Path = Path()) -> bytes:
    """The parcel: what git knows and the run's lock, as they stand here, and outs that DVC does not cache."""
    with _locked(root) as repo:
        uncached = [str(out.def_path) for out in repo.index.outs if not out.use_cache]
        return tar(root, {*git("ls-files", "-z", cwd=root).split("\0"), LOCK, *uncached} - {""})


def tar(root: Path, names: set[str]) -> bytes:
    """These files and folders, as far as they are there."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz", compresslevel=1) as archive:
        for name in sorted(names):
            if (root / name).exists():
                archive.add(root / name, name)
    return content.getvalue()


def compute(address: str, minutes: float) -> None:
    """Get the stage's inputs, compute it in the working folder, and push what it wrote. Raises UserError."""
    config = f"[core]\n    no_scm = true\n[cache]\n    dir = {Path.home() / HOME / 'cache'}\n"
    Path(".dvc", "config.local").write_text(f'{config}    type = "reflink,hardlink,copy"\n', encoding="utf-8")
    with Repo() as repo:
        [stage] = repo.stage.collect(address)
        cached = [(path, out) for path in _inputs(stage) for out in _outs(repo, Path(path)) if out.use_cache]
        # DVC pulls an out, or a part of one, and knows no folder around some.
        inputs = {max(str(Path(path).absolute()), str(out.fs_path), key=len) for path, out in cached}
        uncached = {str(out.def_path) for out in stage.outs if not out.use_cache}
    if inputs:
        run(["dvc", "pull", "--run-cache", *sorted(inputs)])
    for line in processes.lines([*processes.REPRO, "--pull", address], minutes):
        print(line, flush=True)
    run(["dvc", "push", "--run-cache", address])
    told = {f"{settings.BUILD}/timings/{address}.json"}
    if settings.tracking_uri().startswith("http"):  # else its run in MLflow is here alone, and is made again at home
        told.add(stage.meta.get("links", ""))
    ANSWER.write_bytes(tar(Path(), {LOCK, *uncached, *told} - {""}))


def _inputs(stage: Any) -> list[str]:
    """What the stage reads: its dependencies, and a base model that its params name by a relative path."""
    sections = {name for item in stage.deps if isinstance(item, ParamsDependency) for name in item.params}
    model = locations.paths(params.load()).get("model.name")
    return [*files(stage), *([str(model)] if model and "model" in sections and not model.is_absolute() else [])]


def merge(address: str, answer: bytes, root: Path = Path()) -> None:
    """Bring home what a stage came to: its entry of dvc.lock, what DVC does not cache, and its outs from the remote."""
    with tarfile.open(fileobj=io.BytesIO(answer)) as archive:
        entry = yaml.safe_load(archive.extractfile(LOCK) or "")["stages"][address]
        with _locked(root), modify_yaml(str(root / LOCK)) as lock:
            archive.extractall(root, [member for member in archive if member.name != LOCK], filter="data")
            lock.setdefault("schema", "2.0")
            lock.setdefault("stages", {})[address] = entry
    run(["dvc", "--wait-for-lock", "pull", "--force", address], root)


@contextmanager
def _locked(root: Path) -> Iterator[Any]:
    """The repository, in which nobody else changes dvc.lock: neither another stage's answer nor DVC."""
    with _MERGING, Repo(str(root), _wait_for_lock=True) as repo, repo.lock:
        yield repo


def main(address: str, minutes: str = "inf") -> None:
    """Compute a stage in the working folder, which a parcel was unpacked to."""
    compute(address, float(minutes))


if __name__ == "__main__":
    errors.run(lambda: main(*sys.argv[1:]))
