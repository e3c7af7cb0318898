"""The program that checks whether an instruction was followed, and the prompts that it checks."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.include.following import checks

FOLDER = Path(checks.__file__).parent
ROWS = [json.loads(line) for line in (FOLDER / "instructions.jsonl").read_text(encoding="utf-8").splitlines()]
WORDS = st.lists(st.from_regex(r"[a-z]{1,9}", fullmatch=True), min_size=1, max_size=9)

PASSES: list[tuple[str, dict[str, Any], str]] = [
    ("words", {"least": 3, "most": 3}, "Well-made, isn't it?"),
    ("sentences", {"number": 2}, 'It rains. He said: "Come in!"'),
    ("lines", {"number": 2}, "one\n\ntwo"),
    ("paragraphs", {"number": 2}, "one\nmore\n \ntwo"),
    ("bullets", {"number": 2}, "- one\n- two"),
    ("numbered", {"number": 2}, "1. one\n2) two"),
    ("listed", {"number": 3, "separator": ";"}, "a; b; c"),
    ("json_object", {"keys": ["b", "a"]}, '{"a": 1, "b": [2]}'),
    ("json_array", {"number": 2}, '["a", "b"]'),
    ("upper_case", {}, "MIND THE GAP, 24 HOURS!"),
    ("lower_case", {}, "the thames, in london."),
    ("without", {"words": ["hot"]}, "A hotel is photographed."),
    ("holding", {"words": ["never"], "times": 2}, "Never say never."),
    ("without_marks", {"marks": ",;"}, "Plain text."),
    ("beginning", {"phrase": "Put simply,"}, "Put simply, yes."),
    ("ending", {"phrase": "Do you agree?"}, "It helps. Do you agree?"),
    ("enclosed", {"left": "[", "right": "]"}, "[Oslo]"),
    ("one_of", {"options": ["yes", "no"]}, "no"),
]

FAILS: list[tuple[str, dict[str, Any], str]] = [
    ("words", {"least": 3, "most": 3}, "one two three four"),
    ("words", {}, "?!"),
    ("sentences", {"number": 2}, "It rains. And then"),
    ("sentences", {"number": 1}, "It costs 3.5 pounds. Really."),
    ("lines", {"number": 2}, "one"),
    ("paragraphs", {"number": 2}, "one\ntwo"),
    ("bullets", {"number": 2}, "Here you are:\n- one\n- two"),
    ("bullets", {"number": 1, "mark": "*"}, "- one"),
    ("bullets", {"number": 1}, "-one"),
    ("numbered", {"number": 2}, "1. one\n3. two"),
    ("numbered", {"number": 2}, "one\ntwo"),
    ("listed", {"number": 2}, "a,\nb"),
    ("listed", {"number": 3}, "a, , b"),
    ("json_object", {"keys": ["a"]}, 'Sure: {"a": 1}'),
    ("json_object", {"keys": ["a"]}, '{"a": 1, "b": 2}'),
    ("json_array", {"number": 2}, '{"a": "b", "c": "d"}'),
    ("json_array", {"number": 2}, "[1, 2]"),
    ("upper_case", {}, "Mind"),
    ("lower_case", {}, "London"),
    ("upper_case", {}, "12"),
    ("without", {"words": ["hot"]}, "It is HOT."),
    ("holding", {"words": ["never", "ever"]}, "Never."),
    ("without_marks", {"marks": ","}, "a, b"),
    ("beginning", {"phrase": "Put simply,"}, "put simply, yes"),
    ("ending", {"phrase": "END"}, "END."),
    ("enclosed", {"left": "[", "right": "]"}, "[]"),
    ("enclosed", {"left": '"', "right": '"'}, '"'),
    ("one_of", {"options": ["yes", "no"]}, "No."),
]


@pytest.mark.parametrize(("check", "wanted", "answer"), PASSES)
def test_an_answer_that_does_as_it_is_told_passes(check: str, wanted: dict[str, Any], answer: str) -> None:
    assert checks.followed(f" {answer}\n", [{"check": check, **wanted}]) == [True]


@pytest.mark.parametrize(("check", "wanted", "answer"), FAILS)
def test_an_answer_that_does_not_fails(check: str, wanted: dict[str, Any], answer: str) -> None:
    assert checks.followed(answer, [{"check": check, **wanted}]) == [False]


def test_each_check_is_shown_to_pass_and_to_fail() -> None:
    assert {check for check, *_ in PASSES} == {check for check, *_ in FAILS} == set(checks.CHECKS)


@given(WORDS)
def test_forms_are_recognised_whatever_the_words(items: list[str]) -> None:
    number = len(items)
    assert checks.words(" ".join(items), number, number)
    assert checks.bullets("\n".join(f"- {item}" for item in items), number)
    assert checks.numbered("\n".join(f"{place}. {item}" for place, item in enumerate(items, 1)), number)
    assert checks.listed(", ".join(items), number)
    assert checks.json_array(json.dumps(items), number)
    assert checks.json_object(json.dumps(dict.fromkeys(items)), items)
    assert checks.sentences(". ".join(items) + ".", number)
    assert checks.holding(" ".join(items), items)


def test_what_is_expected_is_told_in_words() -> None:
    document = {"checks": json.dumps([{"check": "lower_case"}, {"check": "holding", "words": ["a", "b"], "times": 2}])}
    assert checks.demands(document) == "lower case; holding (words a / b, times 2)"


@given(st.text(), st.sampled_from([one for row in ROWS for one in json.loads(row["checks"])]))
def test_any_answer_is_judged_without_an_error_and_an_empty_one_never_passes(
    answer: str, check: dict[str, Any]
) -> None:
    assert checks.followed(answer, [check])[0] in (True, False)
    assert checks.followed("  \n", [check]) == [False]


def test_a_prompt_of_two_demands_is_followed_when_both_are() -> None:
    document = {"checks": json.dumps([{"check": "lower_case"}, {"check": "words", "most": 2}])}
    assert checks.process_results(document, ["small letters"]) == {"followed": 1.0, "share_followed": 1.0}
    assert checks.process_results(document, ["Two words"]) == {"followed": 0.0, "share_followed": 0.5}


def test_prompts_are_distinct_and_of_many_kinds() -> None:
    assert len({row["prompt"] for row in ROWS}) == len({row["id"] for row in ROWS}) == len(ROWS) >= 100
    assert min(Counter(row["template"] for row in ROWS).values()) >= 3
    assert {one["check"] for row in ROWS for one in json.loads(row["checks"])} == set(checks.CHECKS)


def test_what_a_prompt_quotes_is_what_is_checked() -> None:
    for row in ROWS:
        for one in json.loads(row["checks"]):
            quoted = [*one.get("keys", ()), *one.get("words", ()), *([one["phrase"]] if "phrase" in one else [])]
            assert all(text in row["prompt"] for text in quoted), row["id"]


def test_the_readme_tells_how_many_there_are() -> None:
    assert f"| {len(ROWS)} |" in (FOLDER / "README.md").read_text(encoding="utf-8")
