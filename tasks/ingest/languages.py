"""Which language a text is in, by py3langid: a naive Bayes model over byte n-grams that the package carries.

Lui and Baldwin 2012, langid.py. The same text always gets the same answer; nothing is loaded from the network.
"""

from collections.abc import Iterable
from functools import cache
from typing import Any

from tasks import guards
from tasks.records import Record

UNKNOWN = "und"
"""ISO 639-2's code for a language that is not determined."""

_SURE = 0.5
"""Probability from which an answer counts."""

_SHORTEST = 40
"""Characters of a text that is judged at all; a label or a name is of no language."""

_READ = 600
"""Characters that are looked at; more change little and cost time."""


@cache
def _model() -> Any:
    # Loading the model takes half a second, which a run that asks for no language does not pay.
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True, min_confidence=_SURE)


def language(text: str) -> str:
    """The ISO 639-1 code of a text's language (639-3 where there is none); `und` for a short or unclear text."""
    return str(_model().classify(text[:_READ])[0]) if len(text) >= _SHORTEST else UNKNOWN


def check(codes: Iterable[str]) -> None:
    """Raises UserError where a code of params.yaml is none that the model knows."""
    guards.known("ingest.clean.languages", list(codes), _model().labels)


def fault(record: Record, wanted: frozenset[str]) -> str | None:
    """Why a record is dropped: one of its texts is surely in another language. What is unclear is kept."""
    for text in (*record.fields.values(), *record.turns, record.output):
        found = language(text)
        if found != UNKNOWN and found not in wanted:
            return f"language: {found}, and ingest.clean.languages asks for {', '.join(sorted(wanted))}"
    return None
