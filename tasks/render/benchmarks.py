"""Held-out clusters as lm-eval tasks: documents as JSON lines, and a YAML for each way in which they are asked."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks import outputs, params
from tasks.errors import UserError
from tasks.records import Record, digest, write_lines
from tasks.render import wording
from tasks.render.index import Asked
from tasks.render.mixture import divide
from tasks.render.templates import Bank, Template, render

POOL = 64
"""Records of a task from which one document is chosen: a task of more is represented by its first ones by key."""

REPEATED = 12
"""Documents that are asked in every template: they show how much an answer depends on the wording alone."""


@dataclass(frozen=True)
class Document:
    """One question of a benchmark, as lm-eval reads it; `gold` is the right choice's position."""

    id: str
    template: str
    prompt: str
    choices: list[str]
    gold: int
    answer: str


def write_suite(folder: Path, home: Path, records: Iterable[Record], bank: Bank, wanted: params.Render) -> list[Asked]:
    """Write the suite of one held-out cluster into `folder`; its YAMLs name the documents by their path in `home`.

    Every task of the cluster whose records have options gives a benchmark of each form in `wanted.forms`. `suite.json`
    tells their sizes and the scores that need no model, README.md the same for people. Returns what the documents ask.
    Raises UserError where the cluster has no such task.
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
        taken = balanced(rows, wanted.documents, wanted.seed)
        forms = in_forms(taken, bank)
        for form in (form for form in forms if form in wanted.forms):
            write_benchmark(folder, home, task, form, forms[form])
        asked += [_asked(home.name, record, one.prompt) for record, one in zip(taken, forms["rank"], strict=True)]
        described[task] = without_a_model(forms["rank"]) | {"licences": sorted({record.licence for record in taken})}
    outputs.write_json(folder / "suite.json", described)
    (folder / "README.md").write_text(page(home.name, described, "named" in wanted.forms), encoding="utf-8")
    return asked


def in_forms(records: list[Record], bank: Bank) -> dict[str, list[Document]]:
    """The documents of each benchmark of a task, by the last part of its name.

    Templates take turns. `unlisted` asks in those that do not list the options, where the task has some; `templates`
    asks the first documents in each of those that do, where there are several; `named` asks by the task's name.
    """
    listing = [_templates(record, bank, listed=True) for record in records]
    if not all(listing):
        task = records[0].task
        raise UserError(f"task {task!r} is held out and has no direct template with options to evaluate it in")
    plain = [_templates(record, bank, listed=False) for record in records]
    forms = {"rank": _in_turn(records, listing)}
    forms["generate"] = forms["rank"]
    if all(plain):
        forms["unlisted"] = _in_turn(records, plain)
    if all(len(own) > 1 for own in listing):
        repeated = list(zip(records, listing, strict=True))[:REPEATED]
        forms["templates"] = [_document(record, template) for record, own in repeated for template in own]
    forms["named"] = [_document(record, wording.named(record)) for record in records]
    return forms


def write_benchmark(folder: Path, home: Path, task: str, form: str, documents: list[Document]) -> None:
    """Write one benchmark's YAML, and its documents where no other one has the same."""
    lines = f"{task}.jsonl" if form in ("rank", "generate") else f"{task}_{form}.jsonl"
    write_lines(folder / lines, (vars(document) for document in documents))
    body = _RANK if form in ("rank", "unlisted", "named") else _GENERATE
    benchmark = {"task": f"{home.name}_{task}_{form}", **_COMMON, **body}
    benchmark["dataset_kwargs"] = {"data_files": {"test": (home / lines).as_posix()}}
    (folder / f"{task}_{form}.yaml").write_text(yaml.safe_dump(benchmark, sort_keys=False), encoding="utf-8")


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
        "chance": round(sum(1 / len(document.choices) for document in documents) / len(documents), 4),
        "majority_class": round(max(classes.values()) / len(documents), 4),
        "first_option": round(sum(document.gold == 0 for document in documents) / len(documents), 4),
    }


def page(suite: str, described: dict[str, dict[str, Any]], named: bool = False) -> str:
    """The suite's README: what is measured, on how many documents, and what a guess would score."""
    lines = [
        f"# {suite}",
        "",
        _MEASURED + _NAMED * named,
        "",
        "| task | documents | chance | majority class | licence |",
    ]
    lines.append("|---|---|---|---|---|")
    for task, told in described.items():
        numbers = f"{told['documents']:,} | {told['chance']:.3f} | {told['majority_class']:.3f}"
        lines.append(f"| {task} | {numbers} | {', '.join(told['licences'])} |")
    return "\n".join(lines) + "\n"


def _templates(record: Record, bank: Bank, listed: bool) -> list[Template]:
    return [one for one in bank.for_record(record) if one.kind == "direct" and one.lists_options == listed]


def _in_turn(records: list[Record], templates: Sequence[list[Template]]) -> list[Document]:
    pairs = enumerate(zip(records, templates, strict=True))
    return [_document(record, own[number % len(own)]) for number, (record, own) in pairs]


def _document(record: Record, template: Template) -> Document:
    gold = record.options.index(record.output)
    return Document(record.id, template.id, render(record, template).prompt, record.options, gold, record.output)


def _asked(suite: str, record: Record, prompt: str) -> Asked:
    return Asked(f"{suite}/{record.task}", record.id, [*record.fields.values(), *record.turns], prompt)


_MEASURED = """\
The tasks of a cluster that no training example is of, zero-shot, each asked in several ways. *TASK_rank*: whether the
right option is the most likely one, the options being listed in the prompt; *TASK_unlisted*: the same without the list.
*TASK_generate*: whether the generated text is the right option, whether it is one of the options at all, and whether it
ended by itself. *TASK_templates*: a few documents in every wording, and how often their answers are the same."""

_NAMED = """
*TASK_named*: by rank, asked with the names of cluster and task instead of an instruction."""

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
