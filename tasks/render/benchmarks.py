"""Held-out clusters as lm-eval tasks: documents as JSON lines, a YAML for rank scoring and one for generation."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from tasks import outputs
from tasks.errors import UserError
from tasks.records import Record, digest, write_lines
from tasks.render.index import Asked
from tasks.render.mixture import divide
from tasks.render.templates import Bank, render

POOL = 64
"""Records of a task from which one document is chosen: a task of more is represented by its first ones by key."""


@dataclass(frozen=True)
class Document:
    """One question of a benchmark, as lm-eval reads it; `gold` is the right choice's position."""

    id: str
    template: str
    prompt: str
    choices: list[str]
    gold: int
    answer: str


def write_suite(
    folder: Path, home: Path, records: Iterable[Record], bank: Bank, documents: int, seed: int
) -> list[Asked]:
    """Write the suite of one held-out cluster into `folder`; its YAMLs name the documents by their path in `home`.

    Every task of the cluster whose records have options gives two benchmarks. `suite.json` tells their sizes and the
    scores that need no model. Returns what the documents ask. Raises UserError where the cluster has no such task.
    """
    tasks: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        if record.options:
            tasks[record.task].append(record)
    if not tasks:
        raise UserError(f"render.held_out: cluster {home.name!r} has no task with options, so nothing can be ranked")
    folder.mkdir(parents=True)
    described, asked = {}, []
    for task, rows in sorted(tasks.items()):
        taken = balanced(rows, documents, seed)
        chosen = [_document(record, bank, number) for number, record in enumerate(taken)]
        asked += [_asked(home.name, record, one.prompt) for record, one in zip(taken, chosen, strict=True)]
        write_lines(folder / f"{task}.jsonl", (vars(document) for document in chosen))
        for name, body in (("rank", _RANK), ("generate", _GENERATE)):
            benchmark = {"task": f"{home.name}_{task}_{name}", **_COMMON, **body}
            benchmark["dataset_kwargs"] = {"data_files": {"test": (home / f"{task}.jsonl").as_posix()}}
            text = yaml.safe_dump(benchmark, sort_keys=False)
            (folder / f"{task}_{name}.yaml").write_text(text, encoding="utf-8")
        described[task] = without_a_model(chosen)
    outputs.write_json(folder / "suite.json", described)
    return asked


def balanced(records: list[Record], documents: int, seed: int) -> list[Record]:
    """At most `documents` records, equally many for each label, or each place of the right option where these differ.

    Option lists of different lengths are balanced each for itself, in proportion to their records. The order depends
    on the seed and each record's id alone. Raises UserError where `documents` is less than the number of groups.
    """
    fixed_labels = len({tuple(sorted(record.options)) for record in records}) == 1
    groups: dict[int, dict[str, list[Record]]] = defaultdict(lambda: defaultdict(list))
    for record in sorted(records, key=lambda record: digest([seed, record.id, "document"])):
        label = record.output if fixed_labels else f"{record.options.index(record.output)}"
        groups[len(record.options)][label].append(record)
    sizes = {length: sum(map(len, labels.values())) for length, labels in sorted(groups.items())}
    parts = divide(sizes, documents, seed)
    each = {length: min(parts[length] // len(labels), *map(len, labels.values())) for length, labels in groups.items()}
    if not any(each.values()):
        count = max(map(len, groups.values()))
        raise UserError(f"render.documents: {documents} is less than the {count} labels to balance")
    return [
        labels[label][place]
        for place in range(max(each.values()))
        for length, labels in sorted(groups.items())
        for label in sorted(labels)
        if place < each[length]
    ]


def without_a_model(documents: list[Document]) -> dict[str, float]:
    """What a suite's page shows beside every score: size, majority class and always taking the first option."""
    fixed_labels = len({tuple(sorted(document.choices)) for document in documents}) == 1
    classes = Counter(document.answer if fixed_labels else str(document.gold) for document in documents)
    return {
        "documents": len(documents),
        "majority_class": round(max(classes.values()) / len(documents), 4),
        "first_option": round(sum(document.gold == 0 for document in documents) / len(documents), 4),
    }


def _document(record: Record, bank: Bank, number: int) -> Document:
    """The record in one of its direct templates with options; these take turns."""
    templates = [item for item in bank.for_record(record) if item.kind == "direct" and item.lists_options]
    if not templates:
        raise UserError(f"task {record.task!r} is held out and has no direct template with options to evaluate it in")
    template = templates[number % len(templates)]
    gold = record.options.index(record.output)
    return Document(record.id, template.id, render(record, template).prompt, record.options, gold, record.output)


def _asked(suite: str, record: Record, prompt: str) -> Asked:
    return Asked(f"{suite}/{record.task}", record.id, [*record.fields.values(), *record.turns], prompt)


_COMMON = {"dataset_path": "json", "test_split": "test", "doc_to_text": "prompt", "num_fewshot": 0}

_RANK = {
    "output_type": "multiple_choice",
    "doc_to_choice": "choices",
    "doc_to_target": "gold",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    "metadata": {"version": 1},
}

_GENERATE = {
    "output_type": "generate_until",
    "doc_to_target": "answer",
    "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": 24},
    "metric_list": [
        {
            "metric": "exact_match",
            "aggregation": "mean",
            "higher_is_better": True,
            "ignore_case": True,
            "ignore_punctuation": True,
        }
    ],
    "metadata": {"version": 1},
}
