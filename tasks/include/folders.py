"""A folder of task YAMLs, copied so that the copy is whole: the data files it names are its own."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import yaml

from tasks import errors
from tasks.errors import UserError


def copy(source: Path, target: Path, home: Path) -> Path:
    """Copy `source` to `target`; its YAMLs name their data files by the path that they will have in `home`.

    Returns `target`. Raises UserError for a YAML that cannot be read, and for a file that is missing or elsewhere.
    """
    if not source.is_dir():
        raise UserError(f"evaluate.include: {source}: no such folder")
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for path, (text, root) in _yamls(source).items():
        (target / path.relative_to(source)).write_text(_at_home(path, text, root, source, home), encoding="utf-8")
    return target


def _yamls(source: Path) -> dict[Path, tuple[str, yaml.Node | None]]:
    """The text and the nodes of each YAML of the folder, and of those files there that they include."""
    found: dict[Path, tuple[str, yaml.Node | None]] = {}
    waiting = sorted(source.rglob("*.yaml"))
    for path in waiting:
        found[path] = _parsed(path)
        waiting += [other for other in _includes(path, found[path][1], source) if other not in waiting]
    return found


def _includes(path: Path, root: yaml.Node | None, source: Path) -> Iterator[Path]:
    for leaf in (leaf for key, value in _entries(root) if key == "include" for leaf in _leaves(value)):
        # lm-eval passes over a YAML in silence where what it includes is not there.
        yield source / _inside("include", path, leaf, source)


def _parsed(path: Path) -> tuple[str, yaml.Node | None]:
    try:
        text = path.read_text(encoding="utf-8")
        return text, yaml.compose(text, Loader=yaml.SafeLoader)
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"{path}: no valid YAML: {error}") from error


def _at_home(path: Path, text: str, root: yaml.Node | None, source: Path, home: Path) -> str:
    """The YAML's text with other paths; everything else, lm-eval's `!function` too, stays as it is written."""
    for node in [node for node in _data_files(root) if "://" not in node.value][::-1]:
        place = json.dumps((home / _inside("data file", path, node, source)).as_posix(), ensure_ascii=False)
        text = text[: node.start_mark.index] + place + text[node.end_mark.index :]
    return text


def _data_files(root: yaml.Node | None) -> Iterator[yaml.ScalarNode]:
    """The paths under `dataset_kwargs.data_files`, in their order in the file."""
    for key, value in _entries(root):
        if key == "dataset_kwargs":
            yield from (leaf for name, below in _entries(value) if name == "data_files" for leaf in _leaves(below))


def _entries(node: yaml.Node | None) -> list[tuple[str, yaml.Node]]:
    return [(key.value, value) for key, value in node.value] if isinstance(node, yaml.MappingNode) else []


def _leaves(node: yaml.Node) -> Iterator[yaml.ScalarNode]:
    if isinstance(node, yaml.ScalarNode):
        yield node
    else:
        below = [value for _, value in _entries(node)] or node.value
        for one in below:
            yield from _leaves(one)


def _inside(what: str, path: Path, node: yaml.ScalarNode, source: Path) -> Path:
    """The file relative to the folder; a relative path is the YAML's neighbour, or as seen from here.

    A file elsewhere is refused, since a change of it would not be seen.
    """
    line = f"{path}:{node.start_mark.line + 1}"
    found = next((one for one in (path.parent / node.value, Path(node.value)) if one.is_file()), None)
    if found is None:
        hint = errors.suggestion(Path(node.value).name, [one.name for one in path.parent.iterdir() if one.is_file()])
        raise UserError(f"{line}: {what} {node.value}: no such file; {hint}")
    # A link's own place counts, not that of the file behind it.
    place, root = found.parent.resolve() / found.name, source.resolve()
    if not place.is_relative_to(root):
        raise UserError(f"{line}: {what} {node.value} lies outside {source}: put it, or a link to it, beside the YAML")
    return place.relative_to(root)
