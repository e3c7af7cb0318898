"""Whether an answer does what its instruction asks, as far as a program can tell: the hooks of following.yaml.

Each function takes the answer, without white space around it, and what the instruction says.
"""

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def words(answer: str, least: int = 1, most: int = 10**9) -> bool:
    """As many words; a hyphen or an apostrophe joins."""
    return least <= len(_WORD.findall(answer)) <= most


def sentences(answer: str, number: int) -> bool:
    """So many sentences, each ended by a mark."""
    return len(re.findall(r"[.!?]+[\"'”’)]*(?=\s|$)", answer)) == number and answer.rstrip("\"'”’)")[-1:] in set(".!?")


def lines(answer: str, number: int) -> bool:
    """So many lines that are not empty."""
    return len(_lines(answer)) == number


def paragraphs(answer: str, number: int) -> bool:
    """So many blocks of text with empty lines between them."""
    return len([block for block in re.split(r"\n\s*\n", answer) if block.strip()]) == number


def bullets(answer: str, number: int, mark: str = "-") -> bool:
    """So many lines, each beginning with the mark, and nothing else."""
    return len(_lines(answer)) == number and all(re.match(rf"{re.escape(mark)}\s+\S", one) for one in _lines(answer))


def numbered(answer: str, number: int) -> bool:
    """The lines 1. to NUMBER., and nothing else."""
    found = [re.match(r"(\d+)[.)]\s+\S", one) for one in _lines(answer)]
    return [match and int(match[1]) for match in found] == list(range(1, number + 1))


def listed(answer: str, number: int, separator: str = ",") -> bool:
    """So many items on one line, with the separator between them."""
    items = answer.split(separator)
    return "\n" not in answer and len(items) == number and all(_WORD.search(item) for item in items)


def json_object(answer: str, keys: Sequence[str]) -> bool:
    """A JSON object with these keys and no others, with no text around it."""
    value = _parsed(answer)
    return isinstance(value, dict) and value.keys() == set(keys)


def json_array(answer: str, number: int) -> bool:
    """A JSON array of so many strings, with no text around it."""
    value = _parsed(answer)
    return isinstance(value, list) and len(value) == number and all(isinstance(item, str) for item in value)


def upper_case(answer: str) -> bool:
    """Capital letters alone."""
    return answer.isupper()


def lower_case(answer: str) -> bool:
    """Small letters alone."""
    return answer.islower()


def without(answer: str, words: Sequence[str]) -> bool:
    """None of these words, in whatever case."""
    return bool(answer) and not any(_count(answer, word) for word in words)


def holding(answer: str, words: Sequence[str], times: int = 1) -> bool:
    """Each of these words, in whatever case, at least so often."""
    return all(_count(answer, word) >= times for word in words)


def without_marks(answer: str, marks: str) -> bool:
    """None of these characters."""
    return bool(answer) and not set(answer) & set(marks)


def beginning(answer: str, phrase: str) -> bool:
    """The phrase comes first, letter by letter."""
    return answer.startswith(phrase)


def ending(answer: str, phrase: str) -> bool:
    """The phrase comes last, letter by letter."""
    return answer.endswith(phrase)


def enclosed(answer: str, left: str, right: str) -> bool:
    """The whole answer stands between two marks."""
    inner = answer[len(left) : -len(right)]
    return answer == f"{left}{inner}{right}" and bool(inner.strip())


def one_of(answer: str, options: Sequence[str]) -> bool:
    """One of the options, and nothing else."""
    return answer in options


CHECKS: dict[str, Callable[..., bool]] = {
    check.__name__: check
    for check in (
        words, sentences, lines, paragraphs, bullets, numbered, listed, json_object, json_array, upper_case, lower_case,
        without, holding, without_marks, beginning, ending, enclosed, one_of,
    )
}  # fmt: skip


def followed(answer: str, checks: Sequence[dict[str, Any]]) -> list[bool]:
    """Which of the checks, `{check: NAME, ...}` with what it needs, the answer passes."""
    plain = answer.strip()
    return [CHECKS[one["check"]](plain, **{key: one[key] for key in one if key != "check"}) for one in checks]


def process_results(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: whether everything was followed, and the share of it that was."""
    passed = followed(results[0], json.loads(doc["checks"]))
    return {"followed": float(all(passed)), "share_followed": sum(passed) / len(passed)}


def demands(doc: dict[str, Any]) -> str:
    """lm-eval's hook for what is expected: the checks for people, for instance `words (least 5, most 5)`."""
    told = []
    for one in json.loads(doc["checks"]):
        wanted = ", ".join(f"{key} {_told(value)}" for key, value in one.items() if key != "check")
        name = one["check"].replace("_", " ")
        told.append(f"{name} ({wanted})" if wanted else name)
    return "; ".join(told)


def _told(value: Any) -> str:
    return " / ".join(map(str, value)) if isinstance(value, list) else str(value)


def _lines(answer: str) -> list[str]:
    return [line.strip() for line in answer.splitlines() if line.strip()]


def _count(answer: str, word: str) -> int:
    return len(re.findall(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE))


def _parsed(answer: str) -> Any:
    try:
        return json.loads(answer)
    except ValueError:
        return None
