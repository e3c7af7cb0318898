"""lm-eval's results as rows: what was answered to each document, and what it scored, without any prompt."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tasks import suites
from tasks.evaluate import wordings
from tasks.evaluate.endings import Endings

RENAMED = {"acc": "accuracy"}
"""lm-eval's names of measures that have a longer one here."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """One row for each document that was asked, by benchmark; and lm-eval's scores of each benchmark as a whole."""

    rows: dict[str, list[Row]]
    whole: dict[str, dict[str, float]]

    @classmethod
    def read(cls, results: dict[str, Any], suite: str, endings: Endings) -> "Answers":
        """The answers in lm-eval's results of a suite."""
        rows, whole = {}, {}
        for task, own in sorted(results["samples"].items()):
            kind = results["configs"][task]["output_type"]
            benchmark = suites.called(suite, task, kind)
            rows[benchmark] = [_row(benchmark, kind, one, endings) for one in _by_document(own)]
            whole[benchmark] = _scores(results["results"][task], {row["filter"] for row in own})
        return cls(rows, whole)

    def samples(self) -> Iterator[Row]:
        """One row for each document; where it was asked in several templates, what they have in common."""
        for benchmark, rows in self.rows.items():
            yield from wordings.agreement(rows) if benchmark.endswith("_templates") else rows

    def metrics(self) -> dict[str, dict[str, float]]:
        """Scores by benchmark: means over documents, and what lm-eval computes of all documents together."""
        found: dict[str, dict[str, float]] = {}
        by_benchmark: dict[str, list[Row]] = defaultdict(list)
        for row in self.samples():
            by_benchmark[row["benchmark"]].append(row)
        for benchmark, rows in by_benchmark.items():
            means = {name: mean([row[name] for row in rows]) for name in measures(rows[0])}
            if benchmark.endswith("_templates"):
                found[benchmark] = means | wordings.spreads(self.rows[benchmark])
            else:
                found[benchmark] = {**_called_here(self.whole[benchmark], benchmark), **means}
        return found

    def generated(self) -> list[str]:
        """The texts that the model generated."""
        return [row["answer"] for rows in self.rows.values() for row in rows if "stopped" in row]


def measures(row: Row) -> list[str]:
    """The names of a row's scores."""
    return [name for name, value in row.items() if isinstance(value, int | float)]


def mean(values: list[float]) -> float:
    """The mean, to six places."""
    return round(sum(values) / len(values), 6)


def _by_document(rows: list[Row]) -> list[list[Row]]:
    """lm-eval's samples of each document, one for each of its filters."""
    found: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["doc_id"]].append(row)
    return [found[place] for place in sorted(found)]


def _row(benchmark: str, kind: str, samples: list[Row], endings: Endings) -> Row:
    first, document = samples[0], samples[0]["doc"]
    told: Row = {
        "benchmark": benchmark,
        "document": suites.identity(document, first["doc_id"]),
        "template": str(document.get("template", "")) if isinstance(document, dict) else "",
        "answer": _answer(kind, first),
        "expected": _expected(kind, first),
    }
    scores = {
        _measure(name, sample["filter"], len(samples)): _number(sample[name])
        for sample in samples
        for name in sample["metrics"]
        if isinstance(sample[name], bool | int | float)
    }
    told |= _called_here(scores, benchmark)
    if kind != "generate_until":
        return told
    if _is_ours(document):
        told["valid_answer"] = int(plain(told["answer"]) in {plain(choice) for choice in document["choices"]})
    prompt, asked = first["arguments"][0]
    return told | {"stopped": int(endings[prompt, asked["max_gen_toks"]])}


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
    target = sample["target"]
    choices = _choices(sample) if kind == "multiple_choice" else []
    return choices[target] if isinstance(target, int) and target < len(choices) else str(target)


def _choices(sample: Row) -> list[str]:
    return [str(request[-1]).strip() for request in sample["arguments"]]


def _is_ours(document: Row) -> bool:
    """Whether render wrote it, for a held-out cluster."""
    return isinstance(document, dict) and {"id", "template", "choices", "answer"} <= document.keys()


def _scores(results: dict[str, Any], filters: set[str]) -> dict[str, float]:
    """lm-eval's scores of a task, without standard errors; it calls them `MEASURE,FILTER`."""
    found = {}
    for key, value in results.items():
        name, _, filtered = key.partition(",")
        if filtered in filters and not name.endswith("_stderr") and isinstance(value, int | float):
            found[_measure(name, filtered, len(filters))] = round(float(value), 6)
    return found


def _called_here(scores: dict[str, float], benchmark: str) -> dict[str, float]:
    """The scores under the names that they have here; accuracy without the options has one of its own."""
    ending = "_unlisted" if benchmark.endswith("_unlisted") else ""
    return {f"{RENAMED.get(name, name)}{ending}": value for name, value in scores.items()}


def _measure(name: str, filtered: str, filters: int) -> str:
    return name if filters == 1 else f"{name}_{filtered}"


def _number(value: float) -> float:
    """Ones and zeros as whole numbers."""
    return int(value) if value == int(value) else round(float(value), 6)


def plain(text: str) -> str:
    """Text as lm-eval's exact match compares it here: without case and punctuation."""
    return "".join(letter for letter in text.lower() if letter.isalnum() or letter.isspace()).strip()
