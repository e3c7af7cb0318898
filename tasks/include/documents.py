"""What the documents of an included task say, how many there are, and the scores that need no model."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from lm_eval import utils

from tasks import errors, suites
from tasks.errors import UserError


class Described(NamedTuple):
    """Numbers of a task, and what each of its documents says: benchmark, document, texts and prompt."""

    sizes: dict[str, Any]
    asked: list[dict[str, Any]]


class Read(NamedTuple):
    """What lm-eval reads in a document: the prompt, and of a choice the choices and the right one's place."""

    prompt: Any
    choices: list[str]
    right: int


def describe(suite: str, task: Any) -> Described:
    """A loaded lm-eval task. Raises UserError with the document that cannot be asked or scored as it is meant."""
    for key in ("doc_to_text", "doc_to_target"):
        names_a_field(key, vars(task.config), getattr(task, "features", ()))
    asked, read = [], []
    with nothing_is_left_open():
        for place, document in enumerate(task.eval_docs):
            with suites.reading(f"document {place} (counted from 0)"):
                read.append(_read(task, document))
            asked.append(
                {
                    "benchmark": f"{suite}/{task.task_name}",
                    "document": suites.identity(document, place),
                    "texts": list(texts(document)),
                    "prompt": _text(read[-1].prompt),
                }
            )
    stated: Mapping[str, Any] = task.config.metadata or {}
    told = {key: str(stated[key]) for key in ("cluster", "licence") if key in stated}
    sizes = {"documents": len(read), **without_a_model(read), **told}
    return Described({**sizes, "measures": sorted(metric["metric"] for metric in task.config.metric_list or [])}, asked)


def texts(value: Any) -> Iterator[str]:
    """Every text in a document, however deep it lies."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for below in value.values() if isinstance(value, Mapping) else value:
            yield from texts(below)


def names_a_field(key: str, config: Mapping[str, Any], fields: Collection[str]) -> None:
    """A bare word in a task's YAML is a field; lm-eval takes one that no document has for the text itself.

    Raises UserError for such a word, unless it is an answer among choices or one that the task's own code reads.
    """
    word = config.get(key)
    answer = key == "doc_to_target" and (config.get("doc_to_choice") or config.get("process_results"))
    if fields and isinstance(word, str) and word.isidentifier() and word not in fields and not answer:
        raise UserError(f"{key}: no document has a field {word}; {errors.suggestion(word, fields)}")


@contextmanager
def nothing_is_left_open() -> Iterator[None]:
    """A field that a document lacks is an error in templates: rows of JSON get null for it, which would be printed."""
    before, utils.env.finalize = utils.env.finalize, _said
    try:
        yield
    finally:
        utils.env.finalize = before


def without_a_model(read: list[Read]) -> dict[str, float]:
    """Chance, the majority class, and always taking the first option; zero where there is nothing to choose from."""
    choosing = [one for one in read if one.choices]
    number, places = max(1, len(choosing)), Counter(one.right for one in choosing)
    return {
        "chance": round(sum(1 / len(one.choices) for one in choosing) / number, 4),
        "majority_class": round(max(places.values(), default=0) / number, 4),
        "first_option": round(places[0] / number, 4),
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


def _read(task: Any, document: Any) -> Read:
    prompt, target = task.doc_to_text(document), task.doc_to_target(document)
    if prompt is None:
        raise UserError("doc_to_text: the field is missing or null")
    if task.OUTPUT_TYPE != "multiple_choice":
        if target is None and task.config.process_results is None:
            raise UserError("doc_to_target: the field is missing or null")
        return Read(prompt, [], 0)
    choices = task.doc_to_choice(document)
    if not isinstance(choices, list | tuple) or not choices:
        raise UserError(f"doc_to_choice: a list of choices is expected, not {choices!r}")
    named = list(map(str, choices))
    if isinstance(task.config.doc_to_choice, list) and any("{{" in one or "{%" in one for one in named):
        remedy = "write one template that makes the list, for instance '{{[first, second]}}'"
        raise UserError(f"doc_to_choice: lm-eval fills in no template in a list, here {named[0]!r}; {remedy}")
    # A prompt that is a number is the right one of several prompts (Winogrande).
    return Read(prompt, named, _place(prompt if isinstance(prompt, int) else target, named))


def _place(target: Any, choices: list[str]) -> int:
    """The right choice's place; lm-eval takes the place, the choice itself, or several of them."""
    if isinstance(target, list):
        several = [_place(one, choices) for one in target]
        if not several:
            raise UserError("doc_to_target: names no right answer")
        return several[0]
    if isinstance(target, str) and target in choices:
        return choices.index(target)
    if not str(target).isdecimal() or int(target) >= len(choices):
        places = f"0 to {len(choices) - 1}, or one of {', '.join(choices)}"
        raise UserError(f"doc_to_target: the right answer {target!r} is none of the choices ({places})")
    return int(target)


def _said(value: Any) -> Any:
    if value is None:
        raise UserError("a template prints a field that is missing or null")
    return value


def _text(prompt: Any) -> str:
    """The prompt; some tasks of lm-eval ask by number (Winogrande), which holds no text."""
    return prompt if isinstance(prompt, str) else ""
