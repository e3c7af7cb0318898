import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.errors import UserError
from tasks.ingest.__main__ import run
from tasks.records import read_records
from tests.data_fixtures import ROOT, write_params

GOOD = {"instruction": "Say hello.", "input": "", "output": "Hello."}
OTHER = {"instruction": "Add.", "input": "1 and 2", "output": "3"}

Rows = list[dict[str, Any]]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def ingest(content: bytes, name: str = "rows.jsonl") -> tuple[Rows, Rows]:
    Path(name).write_bytes(content)
    write_params(Path(), ingest={"sources": {"toy": {"path": name, "format": "alpaca"}}})
    run("toy")
    return read("data/ingest/toy/records.parquet"), read("data/ingest/toy/rejects.jsonl")


def read(path: str) -> Rows:
    if path.endswith(".parquet"):
        return [record._asdict() for record in read_records(Path(path))]
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def lines(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def counts(shown: str) -> dict[str, int]:
    return {name: int(count) for name, count in re.findall(r"(rows|records|rejects) +\S +(\d+)", shown)}


def test_a_row_becomes_a_record() -> None:
    [made], rejects = ingest(lines(OTHER))
    assert made["fields"] == {"instruction": "Add.", "input": "1 and 2"}
    assert (made["outputs"], made["options"], made["task"], made["cluster"]) == (["3"], [], "toy", "toy")
    assert rejects == []


def test_an_array_and_lines_of_the_same_rows_give_the_same_records() -> None:
    as_lines, _ = ingest(lines(GOOD, OTHER))
    as_array, _ = ingest(json.dumps([GOOD, OTHER]).encode(), "rows.json")
    assert as_lines == as_array


@pytest.mark.parametrize("row", [{**GOOD, "input": None}, {"instruction": "Say hello.", "output": "Hello."}])
def test_the_input_may_be_null_or_missing(row: dict[str, Any]) -> None:
    assert ingest(lines(row)) == ingest(lines(GOOD))


def test_white_space_around_a_text_makes_no_other_record() -> None:
    records, rejects = ingest(lines(GOOD, {**GOOD, "output": " Hello.\n"}))
    assert (len(records), len(rejects)) == (1, 1)


def test_a_broken_line_is_rejected_with_its_number() -> None:
    records, [reject] = ingest(lines(GOOD) + b'{"instruction": \n' + lines(OTHER))
    assert (len(records), reject["source"], reject["place"]) == (2, "toy", "line 2")
    assert reject["reason"].startswith("no valid JSON: ")
    assert reject["row"] == '{"instruction": '


def test_blank_lines_are_no_rows_and_still_count_as_lines() -> None:
    records, [reject] = ingest(b"\n" + lines(GOOD) + b"  \r\n{\n")
    assert (len(records), reject["place"]) == (1, "line 4")


def test_lines_may_end_as_on_windows() -> None:
    assert ingest(lines(GOOD, OTHER).replace(b"\n", b"\r\n")) == ingest(lines(GOOD, OTHER))


def test_only_a_line_feed_ends_a_line() -> None:
    [made], _ = ingest(json.dumps({**GOOD, "output": "a\u2028b\x85c"}, ensure_ascii=False).encode())
    assert made["outputs"] == ["a\u2028b\x85c"]


@pytest.mark.parametrize("missing", ["instruction", "output"])
def test_a_row_without_a_field_is_rejected_and_tells_what_it_has(missing: str) -> None:
    row = {name: text for name, text in GOOD.items() if name != missing}
    _, [reject] = ingest(lines(GOOD, row))
    assert reject["place"] == "line 2"
    assert reject["reason"] == f"no field {missing!r}; the row has {', '.join(sorted(row))}"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("output", 3, "field 'output' is int, not text"),
        ("instruction", ["a"], "field 'instruction' is list, not text"),
        ("input", {"a": 1}, "field 'input' is dict, not text"),
        ("input", False, "field 'input' is bool, not text"),
        ("output", " \n", "field 'output' is empty"),
        ("instruction", None, "field 'instruction' is empty"),
    ],
)
def test_a_field_of_a_wrong_type_is_rejected_by_name(field: str, value: object, reason: str) -> None:
    _, [reject] = ingest(json.dumps([GOOD, {**GOOD, field: value}]).encode(), "rows.json")
    assert (reject["place"], reject["reason"]) == ("row 2", reason)


@pytest.mark.parametrize(("row", "kind"), [(["a"], "list"), ("text", "str"), (5, "int"), (None, "NoneType")])
def test_a_row_that_is_no_object_is_rejected(row: object, kind: str) -> None:
    _, [reject] = ingest(lines(row, GOOD))
    assert (reject["place"], reject["reason"]) == ("line 1", f"a JSON object is expected, not {kind}")


def test_a_line_in_another_encoding_is_rejected_and_the_others_are_kept() -> None:
    records, [reject] = ingest(lines(GOOD) + '{"instruction": "Café"}\n'.encode("latin-1") + lines(OTHER))
    assert (len(records), reject["place"]) == (2, "line 2")
    assert reject["reason"].startswith("not UTF-8: ")


def test_an_array_in_another_encoding_is_refused_with_its_line() -> None:
    with pytest.raises(UserError, match=r"rows\.json: line 2: not UTF-8 .*convert the file to UTF-8"):
        ingest('[\n{"instruction": "Café"}]'.encode("latin-1"), "rows.json")


@pytest.mark.parametrize("name", ["rows.json", "rows.jsonl"])
def test_a_byte_order_mark_is_passed_over(name: str) -> None:
    content = json.dumps([GOOD]).encode() if name == "rows.json" else lines(GOOD)
    assert ingest(b"\xef\xbb\xbf" + content, name) == ingest(content, name)


@pytest.mark.parametrize("content", [b"", b" \n\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(content: bytes) -> None:
    with pytest.raises(UserError, match=r"rows\.jsonl: the file is empty"):
        ingest(content)


def test_an_array_without_rows_is_refused() -> None:
    with pytest.raises(UserError, match=r"rows\.json: no rows in it"):
        ingest(b"[]", "rows.json")


def test_a_missing_file_is_named_with_its_key_in_the_params() -> None:
    write_params(Path(), ingest={"sources": {"toy": {"path": "absent.json", "format": "alpaca"}}})
    with pytest.raises(UserError, match=r"absent\.json: no such file \(params\.yaml, ingest\.sources\.toy\.path\)"):
        run("toy")


def test_a_json_file_that_is_no_array_is_refused() -> None:
    with pytest.raises(UserError, match="a JSON array of rows is expected, not dict"):
        ingest(json.dumps(GOOD).encode(), "rows.json")


def test_one_object_a_line_named_json_is_refused_with_the_remedy() -> None:
    with pytest.raises(UserError, match=r"rows\.json: line 2, column 1: Extra data; .* then name it \.jsonl"):
        ingest(lines(GOOD, OTHER), "rows.json")


def test_a_broken_array_is_refused_with_line_and_column() -> None:
    with pytest.raises(UserError, match=r"rows\.json: line 2, column 1: "):
        ingest(b'[{"instruction": "a"},\n', "rows.json")


def test_a_duplicate_is_kept_once_and_rejected_once() -> None:
    records, [reject] = ingest(lines(GOOD, OTHER, GOOD))
    assert len(records) == 2
    assert reject["reason"].startswith("duplicate: ")


def test_a_duplicate_is_rejected_with_its_number() -> None:
    _, [reject] = ingest(lines(GOOD, OTHER, GOOD))
    assert reject["place"] == "line 3"


def test_half_an_emoji_is_rejected_with_its_line() -> None:
    _, [reject] = ingest(lines(GOOD) + rb'{"instruction": "Smile \ud83d", "output": "b"}')
    assert reject["place"] == "line 2"


@pytest.mark.parametrize("line", [b'{"output": ' + b"1" * 5_000 + b"}", b"[" * 100_000])
def test_a_line_that_python_cannot_hold_is_rejected_with_its_number(line: bytes) -> None:
    _, [reject] = ingest(lines(GOOD) + line)
    assert reject["place"] == "line 2"


def test_every_row_is_a_record_or_a_reject(capsys: pytest.CaptureFixture[str]) -> None:
    records, rejects = ingest(lines(GOOD, 5, OTHER, GOOD, {"output": "x"}) + b"{\n")
    assert (len(records), len(rejects)) == (2, 4)
    assert counts(capsys.readouterr().out) == {"rows": 6, "records": 2, "rejects": 4}


def test_the_same_file_gives_the_same_bytes() -> None:
    written = []
    for _ in range(2):
        ingest(lines(GOOD, 5, OTHER))
        written.append([path.read_bytes() for path in sorted(Path("data").rglob("*.*"))])
    assert written[0] == written[1]


def test_the_command_reads_a_source_of_several_parts_in_processes_of_its_own() -> None:
    rows = [{"instruction": f"Say {number}.", "output": f"{number}"} for number in range(5_000)]
    here, _ = ingest(json.dumps(rows).encode(), "rows.json")
    done = subprocess.run(
        [sys.executable, "-m", "tasks.ingest", "run", "toy"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert counts(done.stdout.replace(",", "")) == {"rows": 5_000, "records": 5_000, "rejects": 0}, done.stderr
    assert read("data/ingest/toy/records.parquet") == here


def test_a_record_s_id_does_not_depend_on_its_place() -> None:
    one, _ = ingest(lines(GOOD, OTHER))
    two, _ = ingest(lines(OTHER, GOOD))
    assert {row["id"] for row in one} == {row["id"] for row in two}


def test_where_nothing_is_usable_the_rejects_are_kept_in_build() -> None:
    with pytest.raises(UserError, match=r"all 2 rows are rejected, the first \(line 1\): .*build/rejects/toy\.jsonl"):
        ingest(lines(5, {"output": "x"}))
    assert [row["place"] for row in read("build/rejects/toy.jsonl")] == ["line 1", "line 2"]
    assert not list(Path("data/ingest").iterdir())


@pytest.mark.parametrize("content", [b"", b"{\n", lines(5)])
def test_a_failed_run_leaves_the_previous_output(content: bytes) -> None:
    before = ingest(lines(GOOD, OTHER))
    with pytest.raises(UserError):
        ingest(content)
    assert (read("data/ingest/toy/records.parquet"), read("data/ingest/toy/rejects.jsonl")) == before
    assert [path.name for path in Path("data/ingest").iterdir()] == ["toy"]


def test_a_long_row_is_kept_by_its_beginning() -> None:
    _, [reject] = ingest(lines(GOOD, {"output": "x" * 10_000}))
    assert reject["row"] == '{"output": "' + "x" * (500 - 12)


def test_an_unknown_source_is_refused_with_those_there_are() -> None:
    write_params(Path())
    with pytest.raises(UserError, match="source: other: unknown; there are toy"):
        run("other")


def test_an_unknown_format_is_refused_with_those_there_are() -> None:
    write_params(Path(), ingest={"sources": {"toy": {"path": "a", "format": "alpacca"}}})
    with pytest.raises(
        UserError,
        match=r"ingest\.sources\.toy\.format: alpacca: unknown; did you mean alpaca\? there are alpaca, auto, ",
    ):
        run("toy")


def test_cluster_and_licence_come_from_the_source() -> None:
    Path("rows.jsonl").write_bytes(lines(GOOD))
    source = {"path": "rows.jsonl", "format": "alpaca", "cluster": "chat", "licence": "CC0-1.0"}
    write_params(Path(), ingest={"sources": {"toy": source}})
    run("toy", Path("elsewhere"))
    [made] = read("elsewhere/records.parquet")
    assert (made["cluster"], made["licence"], made["task"]) == ("chat", "CC0-1.0", "toy")


def test_on_the_command_line_a_mistake_is_one_message_and_status_1() -> None:
    write_params(Path())
    command = [sys.executable, "-m", "tasks.ingest", "run", "toy"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert done.stderr == "error: rows.jsonl: no such file (params.yaml, ingest.sources.toy.path)\n"
