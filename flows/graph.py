"""dvc.yaml as the flows see it: the stages, their edges, and which of them would run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo

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
            graph = repo.index.graph
            stages = [
                Stage(
                    node.addressing,
                    node.desc or "",
                    frozenset(upstream.addressing for upstream in graph.successors(node)),
                    node.meta or {},
                )
                for node in in_order(graph)
            ]
            return Plan(stages, reasons(stages, repo.status()))
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


def reasons(stages: list[Stage], status: dict[str, list[Any]]) -> dict[str, list[str]]:
    """Why each stage would run: what DVC finds changed, or a stage before it that would run."""
    found: dict[str, list[str]] = {}
    for stage in stages:
        own = [text for change in status.get(stage.address, []) for text in _describe(change)]
        before = [f"{name} would run" for name in sorted(stage.upstream) if name in found]
        if own or before:
            found[stage.address] = own or before
    return found


def _describe(change: Any) -> list[str]:
    """One change of DVC's status in words, for instance `train.learning_rate modified`."""
    if isinstance(change, str):
        return [change]
    texts = []
    for kind, paths in change.items():
        for path, what in paths.items():
            entries = what.items() if isinstance(what, dict) else [(path, what)]
            texts += [f"{'output ' if 'outs' in kind else ''}{name} {state}" for name, state in entries]
    return texts
