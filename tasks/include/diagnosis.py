"""What is wrong with a task that lm-eval cannot load, where its own error names neither the file nor the remedy."""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
from jinja2 import UndefinedError
from lm_eval.api import registry

from tasks import errors
from tasks.errors import UserError
from tasks.include.documents import names_a_field, texts
from tasks.suites import Suite

_SPLITS = ("test_split", "validation_split", "training_split", "fewshot_split")


def check(suite: Suite, name: str, error: BaseException | None) -> None:
    """Look at a task's data, measures, splits and fields. Raises UserError at the first fault; there may be none."""
    entry = suite.manager.task_index.get(name)
    if entry is None or entry.cfg is None or "task" not in entry.cfg:
        return
    for text in texts((entry.cfg.get("dataset_kwargs") or {}).get("data_files")):
        if Path(text).is_relative_to(suite.folder):
            _whole(Path(text), suite.place / Path(text).relative_to(suite.folder))
    try:
        _measures(entry.cfg)
        aggregations(entry.cfg)
        _documents(entry.cfg, error)
    except UserError as fault:
        raise UserError(f"{suite.yaml_of(name)}: task {name}: {fault}") from fault


def aggregations(config: Mapping[str, Any]) -> None:
    """How measures are summed up. Raises UserError for a way that lm-eval does not know; it asks for it at the end."""
    for entry in config.get("metric_list") or ():
        if _is_name(how := entry.get("aggregation")):
            _one_of("metric_list: aggregation", how, registry.AGGREGATION_REGISTRY)


def _measures(config: Mapping[str, Any]) -> None:
    for entry in () if config.get("process_results") else config.get("metric_list") or ():
        if _is_name(metric := entry.get("metric")) and not entry.get("hf_evaluate"):
            _one_of("metric_list: metric", metric, registry.METRIC_REGISTRY)


def _is_name(value: Any) -> bool:
    """Whether it names what is lm-eval's; the task's own (`!function`) is code, or the path of it."""
    return isinstance(value, str) and "/" not in value


def _documents(config: Mapping[str, Any], error: BaseException | None) -> None:
    try:
        loaded = datasets.load_dataset(
            config["dataset_path"], config.get("dataset_name"), **(config.get("dataset_kwargs") or {})
        )
    except Exception:  # what it is stands in the error of lm-eval, which loads it the same way
        return
    for key in (key for key in _SPLITS if config.get(key) is not None):
        _one_of(key, config[key], [*loaded])
    split = config.get("test_split") or config.get("validation_split")
    if split is None:
        raise UserError(f"test_split: missing; there are {', '.join(sorted(map(str, loaded)))}")
    if config.get("process_docs") is None:
        _fields(config, [*loaded[split].features], error)


def _fields(config: Mapping[str, Any], fields: list[str], error: BaseException | None) -> None:
    keys = ("doc_to_text", "doc_to_choice", "doc_to_target")
    for key in keys:
        names_a_field(key, config, fields)
    if isinstance(error, UndefinedError):
        key = next((key for key in keys if _unknown(error) in str(config.get(key))), "a template")
        raise UserError(
            f"{key}: no document has a field {_unknown(error)}; {errors.suggestion(_unknown(error), fields)}"
        )
    if isinstance(error, IndexError) and config.get("doc_to_choice") is not None:
        raise UserError("document 0 (counted from 0): doc_to_target: the right answer is none of the choices")


def _unknown(error: UndefinedError) -> str:
    """The name in jinja's message, `'NAME' is undefined`."""
    return str(error.message).partition("'")[2].partition("'")[0]


def _one_of(key: str, name: str, choices: Iterable[str]) -> None:
    known = [str(one) for one in choices]
    if name not in known:
        raise UserError(f"{key}: {name}: unknown; {errors.suggestion(str(name), known)}")


def _whole(path: Path, place: Path) -> None:
    """A data file's text. Raises UserError where it is empty, and at the first line that is no JSON object."""
    content = path.read_bytes()
    if not content.strip():
        raise UserError(f"{place}: holds no document")
    if path.suffix not in (".json", ".jsonl") or _is_json(content):
        return
    for number, line in _filled(content):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise UserError(f"{place}:{number}: no valid JSON: {error}; write one object a line") from error
        if not isinstance(value, dict):
            raise UserError(f"{place}:{number}: a JSON object is expected, not {type(value).__name__}")


def _filled(content: bytes) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(content.split(b"\n"), start=1) if line.strip())


def _is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True
