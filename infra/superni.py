"""python -m infra.superni FOLDER: what instruction tuning is for, on Super-NaturalInstructions.

FOLDER holds `superni` and `superni_test` under `train`, files of https://github.com/allenai/natural-instructions in the
official split, and `rte.jsonl` and `copa.jsonl` under `eval`, as data sets of a hub give them. No category of
`superni_test` is trained on; its tasks, RTE and COPA become one suite. The grid is infra/compare/superni.yaml.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tasks import errors, outputs, sheets
from tasks.errors import UserError
from tasks.ingest.formats import superni
from tasks.ingest.origin import Origin, Row
from tasks.records import Record, digest, write_lines
from tasks.render import benchmarks, templates
from tasks.render.templates import Bank
from tasks.settings import BUILD

HERE = Path("infra")
PRESET, WORDINGS, ROUGE = HERE / "compare/superni.yaml", HERE / "superni_wordings.yaml", HERE / "rouge.py"
SUITE = "superni"
FORMS = ("rank", "generate", "templates", "named")
SEED = 17

LABELS = 5
"""Different answers of a task, up to which they are options to choose from."""

DOCUMENTS, FREE = 100, 50
"""Documents of each task with options, and of those whose answers are texts of their own, which take longer."""


def main(arguments: list[str]) -> None:
    """Write the suite and the grid into build/superni, and compare."""
    if len(arguments) != 1:
        raise UserError("usage: make compare-superni DATA=FOLDER")
    data, home = Path(arguments[0]).resolve(), BUILD / "superni"
    with outputs.whole_folder(home / SUITE) as folder:
        write_suite(data, folder)
    from flows import compare  # here, since Prefect takes seconds to import

    compare.main(write_grid(data, home))


def write_grid(data: Path, home: Path) -> Path:
    """The preset as a grid with the paths of the data, in `home`."""
    grid = sheets.read(PRESET)
    grid["common"]["ingest"]["sources"]["superni"]["path"] = str(data / "train/superni")
    grid["common"]["evaluate"]["include"][SUITE] = str((home / SUITE).resolve())
    with outputs.whole(home / PRESET.name) as scratch:
        scratch.write_text(yaml.safe_dump(grid, sort_keys=False), encoding="utf-8")
    return home / PRESET.name


def write_suite(data: Path, folder: Path) -> None:
    """Write the tasks of the official test split, RTE and COPA as a folder of lm-eval tasks."""
    tasks: dict[str, list[Record]] = defaultdict(list)
    for record in [*test_split(data), *rte(data), *copa(data)]:
        tasks[record.task].append(record)
    wordings = templates.read_templates(WORDINGS)
    for task, rows in sorted(tasks.items()):
        labels = sorted({row.output for row in rows})
        if any(row.options for row in rows):
            write_ranked(folder, rows, Bank(HERE, {task: wordings}))
        elif len(labels) <= LABELS:
            write_ranked(folder, [row._replace(options=labels) for row in rows], Bank(HERE, {task: wordings}))
        else:
            write_free(folder, rows)
    (folder / ROUGE.name).write_bytes(ROUGE.read_bytes())


def write_ranked(folder: Path, records: list[Record], bank: Bank) -> None:
    """A task with options, in the forms of a held-out cluster."""
    task, cluster = records[0].task, records[0].cluster
    forms = benchmarks.in_forms(benchmarks.balanced(records, DOCUMENTS, SEED), bank)
    for form in FORMS:
        benchmarks.write_benchmark(folder, Path(SUITE), task, form, forms[form])
        path = folder / f"{task}_{form}.yaml"
        benchmark = sheets.read(path)
        lines = Path(benchmark["dataset_kwargs"]["data_files"]["test"]).name
        _write(path, benchmark | _of(lines, cluster))


def write_free(folder: Path, records: list[Record]) -> None:
    """A task whose answers are texts of their own, scored by ROUGE-L, as the data set's authors do."""
    task, cluster = records[0].task, records[0].cluster
    rows = sorted(records, key=lambda record: digest([SEED, record.id]))[:FREE]
    asked = [f"{row.fields['instruction']}\n\n{row.fields['input']}" for row in rows]
    write_lines(
        folder / f"{task}.jsonl", ({"prompt": p, "answers": r.outputs} for p, r in zip(asked, rows, strict=True))
    )
    benchmark = {
        "task": f"{SUITE}_{task}_generate",
        "dataset_path": "json",
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "prompt",
        "doc_to_target": "{{answers[0]}}",
        "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 32},
        "metric_list": [{"metric": "rouge_l", "aggregation": "mean", "higher_is_better": True}],
    }
    path = folder / f"{task}_generate.yaml"
    _write(path, benchmark | _of(f"{task}.jsonl", cluster))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"process_results: !function {ROUGE.stem}.scored\n")


def test_split(data: Path) -> Iterator[Record]:
    """The records of the official test tasks."""
    folder = data / "train/superni_test"
    origin = Origin("superni", folder, "superni", "unknown")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise UserError(f"{folder}: no task files of Super-NaturalInstructions")
    for path in paths:
        whole = Row(path.name, json.loads(path.read_text(encoding="utf-8")), path.stem)
        yield from (superni.record(row, origin) for row in superni.every(whole))


def rte(data: Path) -> Iterator[Record]:
    """RTE (Dagan et al. 2005): does the second text follow from the first?"""
    for row in _lines(data / "eval/rte.jsonl"):
        asked = "Decide whether the second text follows from the first one. Answer yes or no."
        both = f"First text: {row['sentence1']}\nSecond text: {row['sentence2']}"
        yield _record("rte", "textual_entailment", asked, both, ["yes", "no"], row["label"])


def copa(data: Path) -> Iterator[Record]:
    """COPA (Roemmele et al. 2011): which of two sentences is the likelier cause or effect?"""
    for row in _lines(data / "eval/copa.jsonl"):
        asked = f"Something happened. Choose the likelier {row['question']} of it, and repeat it word for word."
        options = [row["choice1"], row["choice2"]]
        yield _record("copa", "cause_effect_classification", asked, row["premise"], options, row["label"])


def _record(task: str, cluster: str, asked: str, given: str, options: list[str], right: int) -> Record:
    fields = {"instruction": asked, "input": given}
    identity = f"{task}/{task}/{digest([fields, options])}"
    return Record(identity, task, cluster, task, "unknown", fields, [options[right]], options)


def _of(lines: str, cluster: str) -> dict[str, Any]:
    """A benchmark's documents, which lie beside it, and its cluster, which must not be trained on."""
    files = {"dataset_kwargs": {"data_files": {"test": lines}}}
    return files | {"metadata": {"version": 1, "cluster": cluster}}


def _write(path: Path, benchmark: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(benchmark, sort_keys=False), encoding="utf-8")


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


if __name__ == "__main__":
    errors.run(lambda: main(sys.argv[1:]))
