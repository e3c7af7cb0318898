"""What the documents of an included task say, how many there are, and the scores that need no model."""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from tasks import suites


class Described(NamedTuple):
    """Numbers of a task, and what each of its documents says: benchmark, document, texts and prompt."""

    sizes: dict[str, Any]
    asked: list[dict[str, Any]]


def describe(suite: str, task: Any) -> Described:
    """A loaded lm-eval task."""
    documents = list(task.eval_docs)
    benchmark = f"{suite}/{task.task_name}"
    asked = [
        {
            "benchmark": benchmark,
            "document": suites.identity(document, place),
            "texts": list(texts(document)),
            "prompt": _text(task.doc_to_text(document)),
        }
        for place, document in enumerate(documents)
    ]
    stated: Mapping[str, Any] = task.config.metadata or {}
    told = {key: str(stated[key]) for key in ("cluster", "licence") if key in stated}
    sizes = {"documents": len(documents), **without_a_model(task, documents), **told}
    return Described({**sizes, "measures": sorted(metric["metric"] for metric in task.config.metric_list or [])}, asked)


def texts(value: Any) -> Iterator[str]:
    """Every text in a document, however deep it lies."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for below in value.values() if isinstance(value, Mapping) else value:
            yield from texts(below)


def without_a_model(task: Any, documents: list[Any]) -> dict[str, float]:
    """Chance, the majority class, and always taking the first option; zero where there is nothing to choose from."""
    if task.OUTPUT_TYPE != "multiple_choice":
        return {"chance": 0.0, "majority_class": 0.0, "first_option": 0.0}
    choices = [list(map(str, task.doc_to_choice(document))) for document in documents]
    gold = [_place(task.doc_to_target(document), own) for document, own in zip(documents, choices, strict=True)]
    number = max(1, len(documents))
    return {
        "chance": round(sum(1 / len(own) for own in choices) / number, 4),
        "majority_class": round(max(Counter(gold).values(), default=0) / number, 4),
        "first_option": round(gold.count(0) / number, 4),
    }


def page(suite: str, described: Mapping[str, Described]) -> str:
    """The README of a suite that brings none."""
    lines = [f"# {suite}", "", "| task | measures | documents | chance | licence |", "|---|---|---|---|---|"]
    for task, (sizes, _) in sorted(described.items()):
        chance = f"{sizes['chance']:.3f}" if sizes["chance"] else "–"
        measures = ", ".join(sizes["measures"])
        licence = sizes.get("licence", "not stated")
        lines.append(f"| {task} | {measures} | {sizes['documents']:,} | {chance} | {licence} |")
    return "\n".join(lines) + "\n"


def _place(target: Any, choices: list[str]) -> int:
    """The right choice's place; lm-eval takes the place, the choice itself, or several places."""
    first = target[0] if isinstance(target, list) else target
    if isinstance(first, str) and first in choices:
        return choices.index(first)
    if not str(first).isdecimal():
        raise ValueError(f"the right answer {first!r} is none of {', '.join(choices)}")
    return int(first)


def _text(prompt: Any) -> str:
    """The prompt; some tasks of lm-eval ask by number (Winogrande), which holds no text."""
    return prompt if isinstance(prompt, str) else ""
