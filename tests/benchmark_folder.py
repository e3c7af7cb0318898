"""A folder of lm-eval tasks as a user may have it, and its way into a small project."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.include.__main__ import run
from tasks.render import included
from tests.project import Project

COLOURS = [
    {"thing": "the sky at noon on a day without any clouds in sight", "colours": ["blue", "green"], "right": 0},
    {"thing": "fresh grass in a meadow after a warm and rainy spring", "colours": ["blue", "green"], "right": 1},
    {"thing": "a ripe banana", "colours": ["red", "yellow", "black"], "right": 1},
    {"thing": "snow", "colours": ["white", "red"], "right": 0},
]

CHOICE: dict[str, Any] = {
    "task": "colours",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "colours.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "What is the colour of {{thing}}?",
    "doc_to_choice": "colours",
    "doc_to_target": "right",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    "metadata": {"version": 2, "licence": "CC0-1.0"},
}

SAYING = """\
include: base
task: saying
output_type: generate_until
doc_to_text: "Name the colour of {{thing}}."
doc_to_target: "{{colours[right]}}"
process_results: !function scores.both
generation_kwargs: {until: [], do_sample: false, max_gen_toks: 3}
metric_list:
  - {metric: said, aggregation: mean, higher_is_better: true}
  - {metric: letters, aggregation: mean, higher_is_better: true}
"""

SCORES = """\
def both(doc, results):
    return {"said": results[0] == doc["colours"][doc["right"]], "letters": len(results[0]) / 7}
"""


def write(folder: Path, **changes: Any) -> Path:
    """The folder; `changes` are laid over the YAML of its multiple choice."""
    folder.mkdir(parents=True)
    rows = "".join(json.dumps(row) + "\n" for row in COLOURS)
    (folder / "colours.jsonl").write_text(rows, encoding="utf-8")
    (folder / "colours.yaml").write_text(yaml.safe_dump(CHOICE | changes, sort_keys=False), encoding="utf-8")
    shared = {key: CHOICE[key] for key in ("dataset_path", "dataset_kwargs", "test_split", "metadata")}
    (folder / "base").write_text(yaml.safe_dump(shared), encoding="utf-8")
    (folder / "saying.yaml").write_text(SAYING, encoding="utf-8")
    (folder / "scores.py").write_text(SCORES, encoding="utf-8")
    return folder


def include(project: Project, folder: Path, patch: pytest.MonkeyPatch, benchmarks: Path) -> Path:
    """Include the folder as the suite `mine` of the project, and put it where evaluate looks; returns that place."""
    values = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
    values["evaluate"] |= {"include": {"mine": str(folder)}, "suites": ["inference", "mine"]}
    (benchmarks / "work").mkdir(parents=True)
    (benchmarks / "work" / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    patch.setattr("tasks.include.__main__.HOME", benchmarks)
    with patch.context() as inner:
        inner.chdir(benchmarks / "work")
        run("mine")
        wanted = Project(Path()).params.evaluate
        included.suites(Path("data/include"), wanted, benchmarks)
    return benchmarks / "mine"
