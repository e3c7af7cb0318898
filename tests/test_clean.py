"""What cleaning takes away, and what it must leave alone; each way is off until it is asked for."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import UserError
from tasks.ingest import clean, languages, near, personal
from tasks.ingest.__main__ import run
from tasks.params import Clean
from tasks.records import Record
from tests.data_fixtures import write_params
from tests.test_ingest import lines, read

ENDED = (
    "The harbour was built in two stages. The second one took nine years and cost three times what had been planned."
)
BROKEN = "The harbour was built in two stages. The second one took nine years and cost three times what had been"


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def answered(output: str, options: list[str] | None = None, **fields: str) -> Record:
    return Record(
        "toy/toy/0", "toy", "toy", "toy", "CC0-1.0", fields or {"instruction": "Say it."}, [output], options or []
    )


def ingest(rows: list[dict[str, str]], **wanted: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    Path("rows.jsonl").write_bytes(lines(*rows))
    sources = {"toy": {"path": "rows.jsonl", "format": "alpaca"}}
    write_params(Path(), ingest={"clean": wanted, "sources": sources})
    run("toy")
    return read("data/ingest/toy/records.parquet"), read("data/ingest/toy/rejects.jsonl")


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Write to anna.b+c@mail.example.org.", "Write to [EMAIL]."),
        ("<bo@example.com>, x", "<[EMAIL]>, x"),
        ("Call +44 20 7946 0958 now", "Call [PHONE] now"),
        ("Call +14155550123.", "Call [PHONE]."),
        ("(212) 555-0187 or 212-555-0187", "[PHONE] or [PHONE]"),
        ("Tel. 01 42 68 53 00", "Tel. [PHONE]"),
        ("Mobile: 07700 900123", "Mobile: [PHONE]"),
        ("key = 'AKIAIOSFODNN7EXAMPLE'", "key = '[KEY]'"),
        ("ghp_" + "a1B2" * 9, "[KEY]"),
        ("sk-proj-" + "a1B2" * 8, "[KEY]"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\nend", "[KEY]\nend"),
    ],
)
def test_personal_data_is_masked(text: str, masked: str) -> None:
    assert personal.mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "On 2024-03-15 at 10:30, or 15.03.2024, or 03/15/2024",
        "It costs $1,299.99, 2 500 000 euros, 1.234.567,89",
        "ISBN 978-0-306-40615-7 and 0-306-40615-2",
        "version 3.11.4, package@1.2.3, 10.0.0.1, 192.168.100.200",
        "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
        "01 02 03 04 05 06 07 08",
        "5 + 12345678 = 12345683; 555-1234; 3.14159265358979",
        "the years 1914-1918, 1939 - 1945; pages 200-300",
        "@anna said a @ b; sk-learn, sk-something-with-a-long-name; the mask-token",
        "0.125 0.25 0.5; -0123456; 4111 1111 1111 1111",
    ],
)
def test_numbers_of_other_kinds_are_left_alone(text: str) -> None:
    assert personal.mask(text) == text


def test_masking_reaches_every_text_and_is_counted() -> None:
    mail, counts = "a@example.com", Counter[str]()
    record = answered(mail, [mail], input=mail)._replace(turns=[mail], system=mail)
    masked = personal.masked(record, counts)
    assert {masked.output, *masked.options, *masked.fields.values(), *masked.turns, masked.system} == {"[EMAIL]"}
    assert counts == {"EMAIL": 5}


def test_masked_rows_are_records_and_drop_leaves_no_trace_of_the_data() -> None:
    rows = [{"instruction": "Who?", "output": "Ask bo@example.com."}, {"instruction": "Say it.", "output": "It."}]
    [first, _], rejects = ingest(rows, personal_data="mask")
    assert (first["outputs"], rejects) == (["Ask [EMAIL]."], [])
    records, [reject] = ingest(rows, personal_data="drop")
    assert (len(records), reject["reason"]) == (1, "personal data: EMAIL")
    assert "bo@" not in Path("data/ingest/toy/rejects.jsonl").read_text()


def test_a_row_that_cannot_be_read_shows_no_personal_data_where_it_is_masked() -> None:
    _, [reject] = ingest([{"instruction": "a", "output": "b"}, {"output": "bo@example.com"}], personal_data="mask")
    assert reject["row"] == '{"output": "[EMAIL]"}'


@pytest.mark.parametrize(
    "output",
    [
        "As an AI language model, I cannot have opinions.",
        "As an artificial intelligence, I don't have feelings about it.",
        "I'm sorry, but I can't assist with that.",
        "I’m sorry, I cannot provide medical advice.",
        "Sorry, but as an AI assistant I am not able to browse the web.",
        "I am unable to fulfill this request.",
        "Unfortunately, I can't help with that request.",
    ],
)
def test_a_refusal_is_dropped(output: str) -> None:
    assert (clean.refusal(answered(output)) or "").startswith("refusal: ")


@pytest.mark.parametrize(
    "output",
    [
        "As an AI researcher, she never published alone.",
        "I'm sorry, I cannot come to the party on Friday.",
        "As an AI assistant I was built to translate letters.",
        "I can't believe it is over.",
        "The letter says: I am unable to assist you. What comes after it is a long list of reasons.",
    ],
)
def test_an_apology_or_a_mention_of_ai_is_no_refusal(output: str) -> None:
    assert clean.refusal(answered(output)) is None


@pytest.mark.parametrize("output", [BROKEN, ENDED + " It was,", ENDED + "\n```python\nprint(1)\n", ENDED + " See ("])
def test_an_answer_that_breaks_off_is_truncated(output: str) -> None:
    assert (clean.truncated(answered(output)) or "").startswith("truncated: ")


@pytest.mark.parametrize(
    "output",
    [
        ENDED,
        f"“{ENDED}”",
        "Harbour, lighthouse, pier",
        ENDED + "\n- nets\n- ropes",
        ENDED + "\n```python\nprint(1)\n```\nand it prints the number one on the last line of the screen, then stops",
        "\n".join(["The sea is wide and grey and far", "And gulls go out to where boats are"] * 4),
        ENDED + "\n12. A last point that runs on for a good many words and has no full stop at all",
        ENDED + " Come and see it for yourself in the summer of next year with your friends #harbour",
        "港は二段階で建設された。" * 12,
    ],
)
def test_an_answer_that_ends_is_not_truncated(output: str) -> None:
    assert clean.truncated(answered(output)) is None


def test_one_of_the_options_is_never_truncated_nor_too_short() -> None:
    assert clean.truncated(answered(BROKEN, [BROKEN, "other"])) is None
    assert clean.too_short(answered("no", ["no", "yes"]), 5) is None


def test_lengths_are_bounded_where_asked() -> None:
    rows = [{"instruction": "Say it.", "output": text} for text in ("Hm", "Hello there", "long " * 50)]
    [kept], rejects = ingest(rows, shortest=5, longest=100)
    assert kept["outputs"] == ["Hello there"]
    assert [row["reason"].split(":")[0] for row in rejects] == ["too short", "too long"]


def test_another_language_is_dropped_and_an_unclear_text_is_kept() -> None:
    wanted = frozenset({"en"})
    assert languages.fault(answered("Der Hafen wurde in zwei Abschnitten gebaut und später erweitert."), wanted)
    assert languages.fault(answered("The harbour was built in two parts and made larger later."), wanted) is None
    assert languages.fault(answered("Ja"), wanted) is None
    assert languages.fault(answered("x = [3, 4]; y = x[0] * x[1]; print(y, x, sep=';')"), wanted) is None


def test_an_unknown_language_is_refused_with_those_there_are() -> None:
    with pytest.raises(UserError, match=r"ingest\.clean\.languages: xx: unknown; did you mean"):
        ingest([{"instruction": "a", "output": "b"}], languages=["xx"])


def test_nothing_is_looked_for_until_it_is_asked_for() -> None:
    assert clean.checks(Clean()) == []


LONG = " ".join(f"word{number} is in place {number}," for number in range(60))


def test_a_near_duplicate_is_rejected_with_the_record_that_it_repeats() -> None:
    rows = [{"instruction": "Tell it.", "output": text} for text in (LONG, "Short.", LONG.replace("word30", "other"))]
    [first, _], [reject] = ingest(rows, near_duplicates=0.8)
    assert reject["reason"] == f"near duplicate: of {first['id']}"
    assert reject["place"] == "line 3"


def test_rows_of_one_long_instruction_are_no_near_duplicates() -> None:
    rows = [{"instruction": LONG, "input": f"Take the number {number}.", "output": "yes"} for number in range(20)]
    records, rejects = ingest(rows, near_duplicates=0.5)
    assert (len(records), rejects) == (20, [])


def test_rows_that_differ_in_the_label_alone_stay() -> None:
    records, _ = ingest([{"instruction": LONG, "output": label} for label in ("yes", "no")], near_duplicates=0.5)
    assert len(records) == 2


def similar(share: float, size: int = 400) -> tuple[str, str]:
    """Two texts whose 5-grams have about this Jaccard similarity: one begins like the other and ends differently."""
    same = int(size * 2 * share / (1 + share))
    return tuple(  # type: ignore[return-value]
        " ".join(f"w{place if place < same else place + turn * size}" for place in range(size)) for turn in (0, 1)
    )


@pytest.mark.parametrize(("share", "found"), [(0.95, True), (0.9, True), (0.6, False), (0.3, False)])
def test_similarity_is_told_near_the_threshold(share: float, found: bool) -> None:
    records = [answered(text) for text in similar(share)]
    assert bool(near.Index(0.8).add(near.signatures(records, 0.8))) == found


def test_near_duplicates_are_found_across_batches_and_not_of_a_rejected_row() -> None:
    first, second = similar(0.9)
    third = " ".join(second.split()[60:] + [f"end{place}" for place in range(60)])
    index = near.Index(0.8)
    batches = [near.signatures([answered(text)], 0.8) for text in (first, second, third)]
    assert [index.add(batch) for batch in batches] == [{}, {1: 0}, {}]


def test_many_batches_remember_the_first_row() -> None:
    index = near.Index(0.8)
    index.add(near.signatures([answered(LONG)], 0.8))
    for start in range(1, 400, 40):
        rows = [answered(" ".join(f"n{number}x{place}" for place in range(30))) for number in range(start, start + 40)]
        assert index.add(near.signatures(rows, 0.8)) == {}
    assert index.add(near.signatures([answered(LONG)], 0.8)) == {401: 0}
