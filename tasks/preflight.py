"""What params.yaml asks for that is not there: a run that a later stage would refuse is refused before any work."""

from collections.abc import Iterator
from pathlib import Path

from tasks import errors, faults, params
from tasks.ingest import formats
from tasks.params import Params, Source


def load(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml and look at what it names. Raises UserError with every fault at its dotted path."""
    wanted = params.load(path)
    found = [fault for name, source in wanted.ingest.sources.items() for fault in _source(name, source)]
    if wanted.render.held_out_tasks is not None:
        found += _missing("render.held_out_tasks", Path(wanted.render.held_out_tasks))
    for name, folder in wanted.evaluate.include.items():
        found += _missing(f"evaluate.include.{name}", Path(folder))
    if not wanted.evaluate.include:
        found.append(
            "evaluate.include: must name a suite; write `following: tasks/include/following`, which need not be run"
        )
    if wanted.train.validate_steps is not None and not wanted.render.validation:
        found.append("train.validate_steps: there is nothing to validate on: set render.validation above 0")
    if found:
        raise faults.refusal(path, found)
    return wanted


def _source(name: str, source: Source) -> Iterator[str]:
    key, path = f"ingest.sources.{name}", Path(source.path)
    known = [*formats.FORMATS, "auto"]
    if source.format not in known:
        yield f"{key}.format: {source.format}: unknown; {errors.suggestion(source.format, known)}"
    yield from _missing(f"{key}.path", path)
    if path.is_dir() and not any(file.is_file() for file in path.glob(source.files)):
        yield f"{key}.files: no file in {path} fits {source.files}"


def _missing(key: str, path: Path) -> Iterator[str]:
    if path.exists():
        return
    folder = path.parent
    if folder.is_dir():
        yield f"{key}: {path}: no such file; {errors.suggestion(path.name, [entry.name for entry in folder.iterdir()])}"
    else:
        yield f"{key}: {path}: no such file, nor a folder {folder}"
