"""dvc.yaml as the flows see it: the stages, their edges, and which of them would run."""

import json
import textwrap
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import networkx
from dvc.dependency.param import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo

from tasks import params
from tasks.errors import UserError


@dataclass(frozen=True)
class Stage:
    """A stage by its DVC address (`train`, `evaluate@base-inference`), and the addresses that it depends on."""

    address: str
    description: str
    upstream: frozenset[str]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """The stages in an order in which they can run, and why some of them would: address -> reasons."""

    stages: list[Stage]
    reasons: dict[str, list[str]]


def plan(root: Path = Path()) -> Plan:
    """Read the graph and ask DVC what has changed. Raises UserError where dvc.yaml cannot be read."""
    try:
        with Repo(str(root)) as repo:
            graph, status = repo.index.graph, repo.status()
            nodes = in_order(graph)
            stages = [
                Stage(
                    node.addressing,
                    node.desc or "",
                    frozenset(upstream.addressing for upstream in graph.successors(node)),
                    node.meta or {},
                )
                for node in nodes
            ]
            own = {node.addressing: own_reasons(node, status.get(node.addressing, [])) for node in nodes}
            return Plan(stages, reasons(stages, own))
    except DvcException as error:
        raise UserError(f"dvc.yaml: {error}; {error.__cause__ or 'see `dvc status`'}") from error


def in_order(graph: networkx.DiGraph) -> list[Any]:
    """The nodes, those with the longest way to the end of the graph first, so that nothing long begins late.

    Edges run from a stage to what it depends on; a stage always comes after all of these.
    """
    height: dict[Any, int] = {}
    for node in reversed(list(networkx.topological_sort(graph.reverse()))):
        height[node] = 1 + max((height[after] for after in graph.predecessors(node)), default=0)
    return sorted(graph, key=lambda node: (-height[node], str(node.addressing)))


def reasons(stages: list[Stage], own: dict[str, list[str]]) -> dict[str, list[str]]:
    """Why each stage would run: what has changed for itself, or a stage before it that would run."""
    found: dict[str, list[str]] = {}
    for stage in stages:
        before = [name for name in sorted(stage.upstream) if name in found]
        if why := own[stage.address] or [f"would run before it: {', '.join(before)}"] * bool(before):
            found[stage.address] = why
    return found


def own_reasons(node: Any, changes: list[Any]) -> list[str]:
    """What DVC finds changed for a stage: values first, the old and the new one, then files by their state."""
    if not changes:
        return []
    if not any(item.hash_info for item in (*node.deps, *node.outs)):
        return ["never ran"]
    values = [text for item in node.deps if isinstance(item, ParamsDependency) for text in changed_values(item)]
    named = [change for change in changes if isinstance(change, str)]
    return values + changed_files([change for change in changes if isinstance(change, dict)]) + named


def changed_files(changes: list[dict[str, dict[str, Any]]]) -> list[str]:
    """The files of DVC's status by their state, for instance `modified: tasks/pack, models/base`."""
    files: dict[str, list[str]] = defaultdict(list)
    for kind, paths in (entry for change in changes for entry in change.items()):
        for path, state in paths.items():
            if isinstance(state, str):  # params have a state for each value, and these are told as values
                files[f"output {state}" if "outs" in kind else state].append(path)
    return [f"{state}: {', '.join(paths)}" for state, paths in files.items()]


def changed_values(dependency: ParamsDependency) -> list[str]:
    """The params that are not as in dvc.lock, for instance `train.epochs 1 → 2`."""
    before, now = (params.dotted(values or {}) for values in (dependency.hash_info.value, dependency.read_params()))
    return [
        f"{key} {_shown(before, key)} → {_shown(now, key)}"
        for key in dict.fromkeys([*now, *before])
        if (key in before, before.get(key)) != (key in now, now.get(key))
    ]


def _shown(values: dict[str, Any], key: str) -> str:
    return textwrap.shorten(json.dumps(values[key], ensure_ascii=False), 60) if key in values else "unset"
