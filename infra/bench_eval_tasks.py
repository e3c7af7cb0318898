"""The evaluation benchmark's tasks: lm-eval's own task files, pointed at documents that lie in local files."""

import json
import random
from pathlib import Path
from typing import Any

import lm_eval
import yaml

from tasks.errors import UserError
from tasks.records import write_lines

SHOTS = 5
SEED = 17

# What a file's documents call otherwise than the hub's: its rows were converted by the prompt that lm-eval has too.
CONVERTED = {"doc_to_text": "query", "doc_to_choice": "choices", "doc_to_target": "gold", "process_docs": None}
TASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "arc_easy": ("arc/arc_easy.yaml", CONVERTED),
    "hellaswag": ("hellaswag/hellaswag.yaml", CONVERTED),
    "piqa": ("piqa/piqa.yaml", {}),
    "openbookqa": ("openbookqa/openbookqa.yaml", {}),
    "boolq": ("super_glue/boolq/default.yaml", {"doc_to_target": "{{answer | int}}"}),
}
"""By benchmark: lm-eval's file in its folder of tasks, and what is set over it."""


def write(data: Path, folder: Path, documents: int) -> list[str]:
    """Write `documents` of each benchmark in `data`, SHOTS exemplars and a YAML into `folder`; the tasks' names.

    The exemplars are no documents, and every document has the same ones, in the same order (sampler `first_n`).
    Raises UserError where a file is missing or too short.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home = Path(lm_eval.__file__).parent / "tasks"
    for name, (file, over) in TASKS.items():
        drawn = sample(data / f"{name}.jsonl", SHOTS + documents)
        files = {"train": folder / f"{name}_shots.jsonl", "test": folder / f"{name}.jsonl"}
        write_lines(files["train"], drawn[:SHOTS])
        write_lines(files["test"], drawn[SHOTS:])
        task = {
            "include": str(home / file),
            "task": f"bench_{name}",
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(path.resolve()) for split, path in files.items()}},
            "training_split": "train",
            "validation_split": None,
            "test_split": "test",
            "fewshot_config": {"sampler": "first_n"},
        }
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(task | over, sort_keys=False), encoding="utf-8")
    return [f"bench_{name}" for name in TASKS]


def sample(path: Path, count: int) -> list[dict[str, Any]]:
    """`count` rows of a file of JSON lines, drawn by seed. Raises UserError where it is missing or has fewer."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; name the folder of the benchmarks' JSON lines with --data")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    if len(rows) < count:
        raise UserError(f"{path}: holds {len(rows)} documents, and {count} are asked for; lower --documents")
    return random.Random(SEED).sample(rows, count)  # noqa: S311 # a draw, no secret
