"""IFEval's checks are lm-eval's own. They need `pip install langdetect immutabledict nltk` and nltk's `punkt_tab`."""

from typing import Any

from lm_eval.tasks.ifeval import utils


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Whether every instruction was followed, as it stands (strict) and with a first or last line left out (loose)."""
    told = utils.process_results(doc, results)
    return {name: float(told[name]) for name in ("prompt_level_strict_acc", "prompt_level_loose_acc")}
