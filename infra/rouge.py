"""ROUGE-L for lm-eval: the best F-measure over the accepted answers, as Super-NaturalInstructions is scored."""

from typing import Any

from rouge_score import rouge_scorer

_SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)


def scored(document: dict[str, Any], results: list[str]) -> dict[str, float]:
    """The score of one generated answer."""
    given = results[0].strip()
    return {"rouge_l": max(_SCORER.score(answer, given)["rougeL"].fmeasure for answer in document["answers"])}
