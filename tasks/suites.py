"""A suite: the lm-eval tasks that the YAMLs of a folder define, and those of lm-eval's own that its groups name."""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.exceptions import DatasetGenerationError
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import Kind

from tasks import errors, guards
from tasks.errors import UserError

# lm-eval tells of every default that it takes; what matters of them is decided here and tested.
logging.getLogger("lm_eval").setLevel(logging.ERROR)

ITSELF = "rank", "unlisted", "generate", "templates", "named"
"""How a benchmark asks, the last part of its name: by rank, by rank with the options not listed in the prompt, by
generation, by generation with each document in several templates, and by rank with the task's name."""


INCLUDED = "included.json"
"""A file of an included suite: each task's documents, as a digest."""


@dataclass(frozen=True)
class Suite:
    """The names of a folder's lm-eval tasks, and the manager that knows them; `place` names it in errors."""

    folder: Path
    place: Path
    names: list[str]
    manager: TaskManager

    def load(self) -> dict[str, Any]:
        """lm-eval's tasks by name, with their documents. Raises UserError where one cannot be loaded."""
        found: dict[str, Any] = {}
        for name in self.names:
            found |= self.load_one(name)
        return found

    def load_one(self, name: str) -> dict[str, Any]:
        """One of them, or those of one group, the same way."""
        with reading(f"{self.yaml_of(name)}: task {name} cannot be loaded"):
            return dict(self.manager.load([name])["tasks"])

    def yaml_of(self, name: str) -> Path:
        """The file that defines a task, as errors name it; the folder for a task of lm-eval's own."""
        entry = self.manager.task_index.get(name)
        path = entry.yaml_path if entry else None
        return self.place / path.relative_to(self.folder) if path and path.is_relative_to(self.folder) else self.place


@contextmanager
def reading(what: str) -> Iterator[None]:
    """Whatever goes wrong inside is a UserError: a task brings code and data of its own, which may fail in any way."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{what}: {_reason(error)}") from error


def find(folder: Path, place: Path | None = None) -> Suite:
    """The suite of a folder; errors call it `place`.

    Raises UserError where there is no such folder, and where it names no task, or one that does not exist.
    """
    place = place or folder
    if not folder.is_dir():
        hint = errors.suggestion(folder.name, [path.name for path in folder.parent.glob("*/")])
        raise UserError(f"{place}: no such suite; {hint}")
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    own, elsewhere = manager.all_subtasks, sorted(set(_members(manager)) - set(manager.all_tasks))
    if not own and not elsewhere:
        raise UserError(f"{place}: no YAML here defines an lm-eval task (a key `task`)")
    if elsewhere:
        # Only these need lm-eval's own tasks: reading all of their YAMLs takes seconds.
        manager = TaskManager(include_path=str(folder), include_defaults=True)
        guards.known(f"{place}: task", elsewhere, manager.all_tasks)
    return Suite(folder, place, [*own, *elsewhere], manager)


def called(suite: str, task: str, output_type: str) -> str:
    """A benchmark's name, SUITE_TASK_HOW; the YAMLs that render writes have such names already."""
    if task.startswith(f"{suite}_") and task.rpartition("_")[2] in ITSELF:
        return task
    return f"{suite}_{task}_{'generate' if output_type == 'generate_until' else 'rank'}"


def contents(tasks: dict[str, Any]) -> dict[str, str]:
    """A digest of each loaded task's documents."""
    return {
        name: hashlib.sha256(
            json.dumps([*task.eval_docs], default=str, sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest()
        for name, task in sorted(tasks.items())
    }


def identity(document: dict[str, Any], place: int) -> str:
    """What names a document in results: its own id where it is one of this repository's, else its place."""
    return str(document["id"]) if {"id", "template"} <= document.keys() else str(place)


def _members(manager: TaskManager) -> Iterator[str]:
    """The tasks that the groups name; one that is changed in the group is a mapping."""
    for entry in manager.task_index.values():
        if entry.kind == Kind.GROUP:
            members: Iterable[Any] = (entry.cfg or {}).get("task") or []
            yield from (str(one["task"] if isinstance(one, dict) else one) for one in members)


def _reason(error: Exception) -> str:
    """What went wrong in one line, with what to do where it is the network."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, DatasetGenerationError) and isinstance(error.__cause__, Exception):
        return _reason(error.__cause__)
    text = " ".join(f"{error}".split()) or type(error).__name__
    if isinstance(error, ConnectionError):
        return (
            f"{text}; its documents are on a hub that cannot be reached from here, nor are they in its cache:"
            " run it once where it can, or take the suite out of evaluate.include"
        )
    return f"{type(error).__name__}: {text}"
