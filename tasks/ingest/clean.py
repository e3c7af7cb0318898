"""Cleaning, record by record: what is asked for in `ingest.clean` is masked, or becomes a reject with its reason."""

import functools
import re
from collections import Counter
from collections.abc import Callable

from tasks.ingest import languages, personal
from tasks.ingest.origin import Usable
from tasks.ingest.rights import Forgotten
from tasks.params import Clean
from tasks.records import Record, Reject

Check = Callable[[Record], str | None]
"""Tells why a record is dropped, or None."""

_SHOWN = 200
"""Characters of the answer that are kept with the reason."""

_LONG = 100
"""Characters from which an answer can have been cut off; a short one without a full stop is a word or a title."""

_PROSE = 12
"""Words of a last line that reads as prose; a shorter one may end a list, a poem or a table."""

_LIST_OR_CODE = re.compile(r"\s|[-*+•#|>]|\d+[.)]|```")

_SENTENCE = re.compile(r"[.!?…。！？][\"'”’»)]?\s")

_ASSISTANT = (
    r"as an? (?:ai|artificial intelligence|(?:large )?language model)\b(?: (?:language )?model| assistant| chatbot"
    r"| system| program)?[^.!?\n]{0,80}?\bi\b[^.!?\n]{0,40}?"
    r"(?:can't|cannot|can not|don't|do not|am not|'m not|unable|won't|not able|never)"
)

_SERVICE = (
    "assist|help you|help with|provide|fulfil|comply|answer (?:that|this|your)|generate|engage in|do that|support"
)

_REFUSAL = re.compile(
    rf"(?:.{{0,60}}\b)?{_ASSISTANT}"
    r"|(?:(?:i'm|i am) (?:very |so |really )?(?:sorry|afraid)|sorry|unfortunately|my apologies|i apologi[sz]e)?"
    r"[,.;]?\s*(?:but )?i (?:can't|cannot|can not|am unable to|am not able to|won't|will not|'m unable to)"
    rf"(?: be able to)? (?:{_SERVICE})",
    re.IGNORECASE | re.DOTALL,
)


class Cleaner:
    """Applies what `wanted` asks for; `masked` counts what was masked, by kind."""

    def __init__(self, wanted: Clean, forgotten: Forgotten) -> None:
        self._checks = checks(wanted)
        self._forgotten = forgotten
        self._masks = wanted.personal_data == "mask"
        self._hides = wanted.personal_data != "keep"
        self.masked: Counter[str] = Counter()

    def sort(self, row: Usable | Reject) -> Usable | Reject:
        """The row as it is, masked, or as a reject."""
        if isinstance(row, Reject):
            return row._replace(row=personal.mask(row.row)) if self._hides else row
        record = row.record
        if self._forgotten and (reason := self._forgotten.reason(record)):
            return Reject(record.source, row.place, reason, "")
        if self._masks:
            record = personal.masked(record, self.masked)
        for check in self._checks:
            if reason := check(record):
                shown = personal.mask(record.output) if self._hides else record.output
                return Reject(record.source, row.place, reason, shown[:_SHOWN])
        return Usable(row.place, record) if self._masks else row


def checks(wanted: Clean) -> list[Check]:
    """The checks that are switched on, the cheap ones first."""
    asked: list[tuple[bool, Check]] = [
        (wanted.shortest > 1, functools.partial(too_short, least=wanted.shortest)),
        (wanted.longest is not None, functools.partial(too_long, most=wanted.longest or 0)),
        (wanted.personal_data == "drop", personal.fault),
        (wanted.refusals == "drop", refusal),
        (wanted.truncated == "drop", truncated),
        (bool(wanted.languages), functools.partial(languages.fault, wanted=frozenset(wanted.languages or ()))),
    ]
    return [check for on, check in asked if on]


def too_short(record: Record, least: int) -> str | None:
    """Whether a free answer has fewer than `least` characters."""
    length = len(record.output)
    short = length < least and not record.options
    return f"too short: an answer of {length} characters, at least {least} are asked for" if short else None


def too_long(record: Record, most: int) -> str | None:
    """Whether all texts of a record together have more than `most` characters."""
    length = sum(map(len, (*record.fields.values(), *record.turns, record.output, record.system)))
    return f"too long: {length} characters, at most {most} are asked for" if length > most else None


def refusal(record: Record) -> str | None:
    """Whether the answer begins by refusing in an assistant's stock phrases (in English)."""
    # Two kinds of apostrophe are in use.
    if _REFUSAL.match(record.output[:300].replace("’", "'")):
        return "refusal: the answer begins with an assistant's stock phrase"
    return None


def truncated(record: Record) -> str | None:
    """Whether a free answer breaks off: an open code fence, an open bracket or comma at its end, or in a sentence.

    Made to miss rather than to hit: short answers, lists, headings, tables, code and verse may end without a full stop.
    """
    answer = record.output.rstrip()
    if record.options or len(answer) < _LONG:
        return None
    if answer.count("```") % 2:
        return "truncated: a code fence stays open"
    if "```" in answer:
        return None
    if answer[-1] in ",([{":
        return f"truncated: the answer ends with {answer[-1]!r}"
    last = answer.rsplit("\n", 1)[-1]
    words = last.split()
    tagged = "|" in last or words[-1].startswith("#")
    prose = len(words) >= _PROSE and not tagged and not _LIST_OR_CODE.match(last) and _SENTENCE.search(answer)
    return "truncated: the last sentence has no end" if prose and answer[-1].isalnum() else None
