"""lm-eval's results as rows: what was answered to each document, and what it scored, without any prompt."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks import suites
from tasks.evaluate import wordings
from tasks.evaluate.endings import Endings, ending

RENAMED = {"acc": "accuracy"}
"""lm-eval's names of measures that have another one in the benchmarks of held-out clusters."""

Row = dict[str, Any]
"""A document's result: `benchmark`, `document`, `template`, `answer`, `expected`, and its measures: every number."""


@dataclass(frozen=True)
class Answers:
    """A row for each document of each benchmark, and lm-eval's scores of each benchmark as a whole."""

    rows: dict[str, list[Row]]
    whole: dict[str, dict[str, float]]

    @classmethod
    def read(cls, results: Mapping[str, Any], suite: str, endings: Endings) -> "Answers":
        """The answers in lm-eval's results of a suite."""
        rows, whole = {}, {}
        for task, samples in sorted(results["samples"].items()):
            kind = results["configs"][task]["output_type"]
            benchmark = suites.called(suite, task, kind)
            own = [_row(benchmark, kind, one, endings) for one in _by_document(samples)]
            rows[benchmark] = wordings.compared(own) if benchmark.endswith("_templates") else own
            whole[benchmark] = _scores(results["results"][task], {sample["filter"] for sample in samples})
        return cls(rows, whole)

    def metrics(self) -> dict[str, dict[str, float]]:
        """Scores by benchmark: means over documents, and what lm-eval computes of all documents together."""
        found = {}
        for benchmark, rows in self.rows.items():
            means = {name: round(sum(row[name] for row in rows) / len(rows), 6) for name in measures(rows[0])}
            together = {} if "accuracy" in means else self.whole[benchmark]
            spread = wordings.spreads(rows) if benchmark.endswith("_templates") else {}
            found[benchmark] = {**together, **means, **spread}
        return found

    def generated(self) -> list[str]:
        """The texts that the model generated."""
        return [row["answer"] for rows in self.rows.values() for row in rows if "stopped" in row]


def measures(row: Row) -> list[str]:
    """The names of a row's scores."""
    return [name for name, value in row.items() if isinstance(value, int | float)]


def _by_document(samples: list[Row]) -> list[list[Row]]:
    """lm-eval's samples of each document, one for each of its filters."""
    found: dict[int, list[Row]] = defaultdict(list)
    for sample in samples:
        found[sample["doc_id"]].append(sample)
    return [found[place] for place in sorted(found)]


def _row(benchmark: str, kind: str, samples: list[Row], endings: Endings) -> Row:
    first = samples[0]
    ours, document = _is_ours(first["doc"]), first["doc"]
    row: Row = {
        "benchmark": benchmark,
        "document": suites.identity(document, first["doc_id"]),
        "template": str(document.get("template", "")),
        "answer": _answer(kind, first),
        "expected": _expected(kind, first),
    }
    for sample in samples:
        for name in sample["metrics"]:
            if isinstance(value := sample[name], bool | int | float):
                row[_measure(RENAMED.get(name, name) if ours else name, sample["filter"], len(samples))] = _number(
                    value
                )
    if kind != "generate_until":
        return row
    if ours:
        row["valid_answer"] = int(plain(row["answer"]) in {plain(choice) for choice in document["choices"]})
    return row | {"stopped": int(ending(endings, *first["arguments"][0]))}


def _answer(kind: str, sample: Row) -> str:
    """The text that was generated, or the choice that is the most likely one."""
    if kind == "generate_until":
        text = sample["filtered_resps"][0]
        return str(text[0] if isinstance(text, list) else text).strip()
    if kind == "loglikelihood_rolling":
        return ""
    likely = [float(response[0]) for response in sample["filtered_resps"]]
    return _choices(sample)[likely.index(max(likely))]


def _expected(kind: str, sample: Row) -> str:
    """The right answer as text; lm-eval's target may be its place among the choices."""
    if _is_ours(sample["doc"]):
        return str(sample["doc"]["answer"])
    target, choices = sample["target"], _choices(sample) if kind == "multiple_choice" else []
    return choices[target] if isinstance(target, int) and target < len(choices) else str(target)


def _choices(sample: Row) -> list[str]:
    return [str(request[-1]).strip() for request in sample["arguments"]]


def _is_ours(document: Row) -> bool:
    """Whether render wrote it, for a held-out cluster."""
    return {"id", "template", "choices", "answer"} <= document.keys()


def _scores(results: Mapping[str, Any], filters: set[str]) -> dict[str, float]:
    """lm-eval's scores of a task, without standard errors; it calls them `MEASURE,FILTER`."""
    found = {}
    for key, value in results.items():
        name, _, filtered = key.partition(",")
        if filtered in filters and not name.endswith("_stderr") and isinstance(value, int | float):
            found[_measure(name, filtered, len(filters))] = round(float(value), 6)
    return found


def _measure(name: str, filtered: str, filters: int) -> str:
    return name if filters == 1 else f"{name}_{filtered}"


def _number(value: float) -> float:
    """Ones and zeros as whole numbers."""
    return int(value) if value in (0, 1) else round(float(value), 6)


def plain(text: str) -> str:
    """Text as lm-eval's exact match compares it here: without case and punctuation."""
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter.isspace()).strip()
