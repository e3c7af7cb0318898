import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tasks.examples import read_examples
from tasks.params import Decontaminate
from tasks.records import Record
from tasks.render import index
from tasks.render.decontaminate import overlaps
from tasks.render.index import Asked
from tests.data_fixtures import record
from tests.rendered import own, render

LONG = "the old bridge over the river was closed last winter since its stones had begun to move"


def asks(number: int) -> Record:
    """A held-out record whose premise has 19 words of its own."""
    fields = {"premise": f"Number {number}: {LONG}, {number}.", "hypothesis": f"It moved {number} times."}
    return record(number, ("yes", "no")[number % 2])._replace(fields=fields)


HELD = [asks(number) for number in range(20)]
CHAT = [own(number) for number in range(20)]
PLANTED = f"Please rewrite: Number 3: {LONG}, 3."


def dropped(home: Path) -> list[dict[str, Any]]:
    text = (home / "contamination" / "dropped.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def marks(home: Path) -> dict[str, list[str]]:
    loaded: dict[str, list[str]] = json.loads((home / "contamination" / "marks.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.parametrize(
    "change", [str, str.upper, lambda text: text.replace(" ", " \n\t"), lambda text: text.replace(" ", " -- ")]
)
def test_a_planted_document_is_dropped_and_listed_with_both_sides(tmp_path: Path, change: Any) -> None:
    home = render(tmp_path, [*HELD, *CHAT, own(99, change(PLANTED))])
    found = {row["document"]: row for row in dropped(home)}
    assert found["toy/follows/3"]["record"] == "toy/chat/99"
    assert found["toy/follows/3"]["benchmark"] == "inference/follows"
    assert len(found["toy/follows/3"]["shared"].split()) == 13
    assert "toy/follows/3" in marks(home)["inference/follows"]
    assert "toy/chat/99" not in {row.record for row in read_examples(home / "examples.parquet")}


@pytest.mark.parametrize(
    "text", ["那座古老的石桥去年冬天关闭了", "古い石のアーチは昨年の冬に閉鎖", "สะพานหินเก่าข้ามแม่น้ำ"]
)
def test_a_document_in_a_script_without_spaces_is_found_inside_a_longer_text(tmp_path: Path, text: str) -> None:
    held = [*HELD[:-1], HELD[-1]._replace(fields={"premise": text, "hypothesis": "It moved."})]
    home = render(tmp_path, [*held, *CHAT, own(98, text[:6]), own(99, f"{text[0] * 3}{text}{text[-1] * 3}")])
    assert {(row["record"], row["document"]) for row in dropped(home)} == {("toy/chat/99", HELD[-1].id)}


def test_an_answer_that_tells_a_document_is_found_too(tmp_path: Path) -> None:
    answered = own(99)._replace(outputs=[PLANTED])
    assert {row["record"] for row in dropped(render(tmp_path, [*HELD, *CHAT, answered]))} == {"toy/chat/99"}


def test_nothing_else_is_dropped(tmp_path: Path) -> None:
    home = render(tmp_path, [*HELD, *CHAT])
    assert (dropped(home), marks(home)) == ([], {})
    assert len(list(read_examples(home / "examples.parquet"))) == 20


def test_a_benchmark_that_touches_no_example_leaves_the_examples_bytes(tmp_path: Path) -> None:
    apples = "Apples of the {} kind are red and sweet and ripe in autumn, and keep through the whole winter."
    other = [row._replace(task="relation", cluster="other", id=f"toy/relation/{n}") for n, row in enumerate(HELD)]
    other = [row._replace(fields={"premise": apples.format(n), "hypothesis": ""}) for n, row in enumerate(other)]
    rows = [*HELD, *other, *CHAT, own(99, apples.format(5))]
    wanted: dict[str, Any] = {"held_out": ["inference", "other"], "examples": 5}
    one = render(tmp_path / "one", rows, suites=["inference"], **wanted)
    two = render(tmp_path / "two", rows, suites=["inference", "other"], **wanted)
    assert (dropped(one), {row["record"] for row in dropped(two)}) == ([], {"toy/chat/99"})
    for name in ("examples.parquet", "validation.parquet", "mixture.csv"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def found(documents: list[Asked], *texts: str, home: Path, **wanted: int) -> list[tuple[int, int, str]]:
    index.write(documents, Decontaminate(**wanted), home)
    return list(overlaps(pl.Series(texts, dtype=pl.String), index.load(home)))


NUMBERS = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def test_thirteen_words_count_and_twelve_do_not(tmp_path: Path) -> None:
    document = Asked("b", "d", [NUMBERS])
    thirteen, twelve = NUMBERS.rsplit(" ", 1)[0], NUMBERS.rsplit(" ", 2)[0]
    assert [hit[0] for hit in found([document], thirteen, twelve, home=tmp_path)] == [0]


def test_words_of_two_neighbouring_records_are_not_joined(tmp_path: Path) -> None:
    first, second = NUMBERS.split(" six ")
    assert found([Asked("b", "d", [NUMBERS])], first, f"six {second}", home=tmp_path) == []


def test_a_short_document_is_looked_for_whole(tmp_path: Path) -> None:
    documents = [Asked("b", "nine", ["a b c d e f g h i"]), Asked("b", "seven", ["p q r s t u v"])]
    texts = ("x a b c d e f g h i y", "a b c d e f g h", "p q r s t u v")
    assert [hit[:2] for hit in found(documents, *texts, home=tmp_path)] == [(0, 0)]


def test_the_wording_of_a_template_does_not_count_but_a_prompt_of_its_own_does(tmp_path: Path) -> None:
    wording = "read the two lines below and say in one word whether the second one follows from the first"
    documents = [Asked("b", f"{n}", [f"line {n}"], f"{wording}: line {n}") for n in range(3)]
    assert found(documents, wording, home=tmp_path) == []
    assert [hit[:2] for hit in found(documents, f"{wording}: line 2", home=tmp_path)] == [(0, 2)]


@pytest.mark.parametrize(("documents", "count"), [(10, 10), (11, 0)])
def test_what_many_documents_of_a_benchmark_say_is_its_wording(tmp_path: Path, documents: int, count: int) -> None:
    asked = [Asked("b", f"{n}", [NUMBERS, f"question {n}"]) for n in range(documents)]
    assert len(found(asked, NUMBERS, home=tmp_path)) == count


def test_a_passage_of_several_documents_counts_for_each(tmp_path: Path) -> None:
    documents = [Asked("b", f"{n}", [NUMBERS, f"question {n}"]) for n in range(3)]
    assert [hit[1] for hit in found(documents, NUMBERS, home=tmp_path)] == [0, 1, 2]


@pytest.mark.parametrize("text", ["", "  ", "...", "\u00e9t\u00e9 \u4e2d\u6587"])
def test_odd_texts_are_looked_up_like_others(tmp_path: Path, text: str) -> None:
    assert found([Asked("b", "d", [NUMBERS]), Asked("b", "e", [text])], text, "", home=tmp_path) == []


def test_without_documents_nothing_is_found(tmp_path: Path) -> None:
    assert found([], NUMBERS, home=tmp_path) == []
