"""A grid: which variants are compared, on which hold-outs, and how often each is repeated.

A grid file lays values over params.yaml: `common` for all runs, then those of the variant.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from tasks import errors, params, sheets
from tasks.params import Name, Section

Changes = dict[str, Any]

BASE = "base"
"""What the untuned model is called; no variant has its name."""


class Grid(Section):
    """The content of a grid file."""

    reference: Name
    """The variant that the others and the base are compared with: instruction tuning as params.yaml has it."""
    seeds: list[Annotated[int, Field(ge=0)]] = Field(min_length=1)
    """Each variant is trained once with each as `train.seed`; the data, and so the base's scores, are the same."""
    common: Changes = Field(default={})
    """What all runs change of params.yaml."""
    leave_out: list[Name] = Field(default=[])
    """Clusters that are held out one at a time, each from models of its own; none takes the hold-out of params.yaml."""
    related: dict[Name, list[Name]] = Field(default={})
    """Clusters that are dropped with one of `leave_out`, beside those that params.yaml names in `render.related`."""
    variants: dict[Name, Changes] = Field(min_length=1)
    """What each variant changes; `{}` is the reference."""

    @model_validator(mode="after")
    def _names_fit(self) -> "Grid":
        if self.reference not in self.variants:
            hint = errors.suggestion(self.reference, list(self.variants))
            raise ValueError(f"`reference`: {self.reference!r} is no variant; {hint}")
        if BASE in self.variants:
            raise ValueError(f"`variants`: {BASE!r} is the untuned model, which every run scores; give it another name")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("`seeds`: a seed stands twice; the same training twice shows nothing")
        return self


@dataclass(frozen=True)
class Run:
    """One training of a comparison: a variant and a seed, and the cluster that is left out, empty where none is."""

    name: str
    variant: str
    left_out: str
    seed: int
    changes: Changes
    related: list[str] = field(default_factory=list)

    def values(self, own: Mapping[str, Any]) -> Changes:
        """The params of the run, over the values of params.yaml."""
        values = params.overlay(dict(own), self.changes)
        if self.left_out:
            known = values["render"].get("related", {}).get(self.left_out, [])
            related = {self.left_out: list(dict.fromkeys([*known, *self.related]))}
            values["render"] = values["render"] | {"held_out": [self.left_out], "related": related}
            values["evaluate"] = values["evaluate"] | {"suites": [self.left_out]}
        return values


def read(path: Path) -> Grid:
    """The grid of a file. Raises UserError that names each faulty key."""
    return sheets.read_as(Grid, path)


def runs(grid: Grid, name: str) -> list[Run]:
    """The runs of a grid; of each hold-out every variant once before any is repeated."""
    return [
        Run(
            "-".join(filter(None, (name, left_out, variant, f"s{seed}"))),
            variant,
            left_out,
            seed,
            functools.reduce(params.overlay, (grid.common, grid.variants[variant], {"train": {"seed": seed}})),
            grid.related.get(left_out, []),
        )
        for left_out in grid.leave_out or [""]
        for seed in grid.seeds
        for variant in grid.variants
    ]
