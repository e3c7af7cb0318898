"""What params.yaml asks for that is not there: a run that a later stage would refuse is refused before any work."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tasks import errors, faults, params
from tasks.evaluate import extra
from tasks.ingest import formats
from tasks.params import Params, Source
from tasks.report import samples


def load(path: Path = Path("params.yaml")) -> Params:
    """Read params.yaml and look at what it names. Raises UserError with every fault at its dotted path."""
    wanted = params.typed(params.read(path), path)
    found = [*_clusters(wanted), *params.disagreements(wanted)]
    found += [fault for name, source in wanted.ingest.sources.items() for fault in _source(name, source)]
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
    found += _measures(wanted)
    if wanted.compute.engine == "ray" and find_spec("ray") is None:
        found.append("compute.engine: ray: Ray is not installed; run: make ray, or write local")
    # On a cluster the nodes compute, and this machine need not have what they have.
    if wanted.compute.engine == "local" and (fault := extra.missing(wanted.evaluate.backend)):
        found.append(fault)
    if found:
        raise faults.refusal(path, found)
    return wanted


def _clusters(wanted: Params) -> Iterator[str]:
    """Clusters that no source has; where rows say themselves of which one they are, render tells that later."""
    known: set[str] = set()
    for name, source in wanted.ingest.sources.items():
        own = _clusters_of(name, source)
        if own is None:
            return
        known |= own
    related = [name for names in wanted.render.related.values() for name in names]
    for key, names in (("held_out", wanted.render.held_out), ("related", related)):
        for name in (name for name in names if name not in known):
            yield f"render.{key}: {name}: no source has such a cluster; {errors.suggestion(name, known)}"


def _clusters_of(name: str, source: Source) -> set[str] | None:
    form = formats.FORMATS.get(source.format)
    if form is formats.starter.FORMAT:
        return {folder.name for folder in Path(source.path).glob("[!_]*/")} or None
    return None if form is None or form.names_clusters else {source.cluster or name}


def _source(name: str, source: Source) -> Iterator[str]:
    key, path = f"ingest.sources.{name}", Path(source.path)
    known = [*formats.FORMATS, "auto"]
    if source.format not in known:
        yield f"{key}.format: {source.format}: unknown; {errors.suggestion(source.format, known)}"
    yield from _missing(f"{key}.path", path)
    if path.is_dir() and not any(file.is_file() for file in path.glob(source.files)):
        yield f"{key}.files: no file in {path} fits {source.files}"


def _measures(wanted: Params) -> Iterator[str]:
    """Measures of the gate that no benchmark can have: neither a held-out cluster nor an included task."""
    known = set(samples.NAMES)
    for suite in wanted.evaluate.include.keys() & wanted.evaluate.suites:
        own = _own_measures(Path(wanted.evaluate.include[suite]))
        if own is None:
            return
        known |= own
    for measure in wanted.gate.measures:
        # The name of one of lm-eval's filters may stand behind a measure's.
        if measure not in known and not any(measure.startswith(f"{name}_") for name in known):
            yield f"gate.measures: {measure}: no benchmark has this measure; {errors.suggestion(measure, known)}"


def _own_measures(folder: Path) -> set[str] | None:
    """The measures that the tasks of a folder name; None where one leaves them to lm-eval, or to code."""
    found: set[str] = set()
    for path in folder.rglob("*.yaml"):
        text = path.read_text(encoding="utf-8", errors="replace")
        if (
            re.search(r"^(include|group|class|use_prompt)\b|metric['\"]?\s*:\s*!", text, re.MULTILINE)
            or "metric_list" not in text
        ):
            return None
        found.update(re.findall(r"\bmetric['\"]?\s*:\s*['\"]?([\w.-]+)", text))
    return found


def _missing(key: str, path: Path) -> Iterator[str]:
    if path.exists():
        return
    folder = path.parent
    if folder.is_dir():
        yield f"{key}: {path}: no such file; {errors.suggestion(path.name, [entry.name for entry in folder.iterdir()])}"
    else:
        yield f"{key}: {path}: no such file, nor a folder {folder}"
