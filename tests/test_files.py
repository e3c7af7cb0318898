"""Containers, folders and hub data sets: the same rows, however a file is written, and places that can be found."""

import gzip
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import outputs
from tasks.errors import UserError
from tasks.ingest import files
from tasks.ingest.containers import stream
from tasks.ingest.containers.block import LONGEST
from tasks.ingest.origin import Origin, Row
from tasks.records import Reject

ROWS = [{"prompt": f'Say {number}, "please";\nthen stop.', "response": f"Tschüß {number}"} for number in range(3)]


def read(path: Path, **more: Any) -> list[Row | Reject]:
    source = Origin("made", path, "own", "CC0-1.0", **more)
    return [row for block in files.blocks(source) for row in files.rows(block, source)]


def values(path: Path, **more: Any) -> list[dict[str, Any]]:
    rows = read(path, **more)
    assert all(isinstance(row, Row) for row in rows), rows
    return [row.value for row in rows if isinstance(row, Row)]


def rejects(path: Path) -> list[tuple[str, str]]:
    return [(row.place, row.reason.split(":")[0]) for row in read(path) if isinstance(row, Reject)]


def sheet(delimiter: str) -> bytes:
    def quoted(cell: str) -> str:
        return '"' + cell.replace('"', '""') + '"'

    lines = [list(ROWS[0]), *([quoted(cell) for cell in row.values()] for row in ROWS)]
    return "".join(delimiter.join(line) + "\r\n" for line in lines).encode()


def json_lines() -> bytes:
    return "".join(json.dumps(row) + "\n" for row in ROWS).encode()


TEXTS: dict[str, Callable[[], bytes]] = {
    "rows.jsonl": json_lines,
    "rows.ndjson": json_lines,
    "rows.json": lambda: json.dumps(ROWS, indent=1).encode(),
    "rows.csv": lambda: sheet(","),
    "rows.tsv": lambda: sheet("\t"),
    "ROWS.CSV": lambda: sheet(","),
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("name", TEXTS)
def test_every_container_gives_the_same_rows(tmp_path: Path, name: str, packed: str) -> None:
    path = tmp_path / (name + packed)
    path.write_bytes(PACKED[packed](TEXTS[name]()))
    assert values(path) == ROWS


def test_parquet_gives_the_same_rows_and_their_numbers(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS * 1_000), tmp_path / "rows.parquet")
    assert values(tmp_path / "rows.parquet") == ROWS * 1_000
    assert read(tmp_path / "rows.parquet")[-1].place == "row 3000"


@pytest.mark.parametrize("part", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("name", TEXTS)
def test_where_the_parts_of_a_file_are_cut_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, part: int
) -> None:
    monkeypatch.setattr(stream, "_PART", max(part, 3))
    path = tmp_path / name
    path.write_bytes(TEXTS[name]())
    assert values(path) == ROWS


@pytest.mark.parametrize("part", [3, 5, 4_000_000])
def test_an_array_s_fault_is_placed_by_line_and_column_wherever_it_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int
) -> None:
    monkeypatch.setattr(stream, "_PART", part)
    (tmp_path / "rows.json").write_bytes('[{"a": "ü"},\n\n {"b": 12345, "c": "d"} x]'.encode())
    with pytest.raises(UserError, match=r"rows\.json: line 3, column 25: Expecting ',' delimiter"):
        read(tmp_path / "rows.json")


@pytest.mark.parametrize("part", [3, 5, 4_000_000])
def test_numbers_are_not_cut_in_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    monkeypatch.setattr(stream, "_PART", part)
    (tmp_path / "rows.json").write_bytes(b"[1234567890, -12.5e3]")
    assert [row.row for row in read(tmp_path / "rows.json") if isinstance(row, Reject)] == ["1234567890", "-12500.0"]


def test_lines_in_several_blocks_keep_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_PART", 10)
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n\n\n{"b": 2}\n[]\n{"c": 3}')
    assert [row.place for row in read(tmp_path / "rows.jsonl")] == ["line 1", "line 4", "line 5", "line 6"]


def test_rows_of_a_sheet_that_are_wrong_are_rejected_with_the_line_where_they_begin(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b'a,b\n"x\ny",2\n1\n\n1,2,3\n\xff,4\n"5"x,6\n7,8\n"9,10\n')
    assert values_of(read(tmp_path / "rows.csv")) == [{"a": "x\ny", "b": "2"}, {"a": "7", "b": "8"}]
    assert rejects(tmp_path / "rows.csv") == [
        ("line 4", "columns"),
        ("line 6", "columns"),
        ("line 7", "not UTF-8"),
        ("line 8", "no valid CSV"),
        ("line 10", "no valid CSV"),
    ]


def values_of(rows: list[Row | Reject]) -> list[dict[str, Any]]:
    return [row.value for row in rows if isinstance(row, Row)]


@pytest.mark.parametrize("header", [b"a,a\n", b"a,\n", b'"a\n'])
def test_a_sheet_must_name_each_column_once(tmp_path: Path, header: bytes) -> None:
    (tmp_path / "rows.csv").write_bytes(header + b"1,2\n")
    with pytest.raises(UserError, match=r"rows\.csv: line 1"):
        read(tmp_path / "rows.csv")


def test_a_folder_is_read_in_the_order_of_its_paths_and_each_place_names_its_file(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.jsonl", "a/.hidden.jsonl", ".git/c.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"a": 1}\n')
    (tmp_path / "c.json").write_text("[{}]")
    assert [row.place for row in read(tmp_path)] == ["a/z.jsonl, line 1", "b.jsonl, line 1", "c.json, row 1"]
    assert [row.place for row in read(tmp_path, files="*.jsonl")] == ["b.jsonl, line 1"]


@pytest.mark.parametrize("pattern", ["../*.jsonl", "/etc/*", "a/../../*", "***/x", "absent/*"])
def test_a_pattern_that_leaves_the_folder_or_finds_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(UserError, match=r"params\.yaml, ingest\.sources\.made\.files"):
        read(tmp_path / "in", files=pattern)


def test_a_file_that_cannot_be_read_is_refused_with_the_endings_that_can(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(UserError, match=r"notes\.txt: not known how to read it; .*\.jsonl.*\.parquet.*\.files says"):
        read(tmp_path)


def test_a_line_that_never_ends_is_rejected_and_the_next_one_is_read(tmp_path: Path) -> None:
    zeros = bytes(LONGEST + 5 * 2**20).replace(b"\0", b"0")
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(b'{"a": 1}\n{"b": "' + zeros + b'"}\n{"c": 3}\n', 1))
    assert [row.place for row in read(tmp_path / "rows.jsonl.gz")] == ["line 1", "line 2", "line 3"]
    assert rejects(tmp_path / "rows.jsonl.gz") == [("line 2", "too long")]


@pytest.mark.parametrize("name", ["rows.json.gz", "rows.csv.gz", "object.json.gz"])
def test_a_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path, name: str) -> None:
    head = {"rows": b'[{"a": "', "object": b'{"a": "'}[name.split(".")[0]]
    with gzip.open(tmp_path / name, "wb", compresslevel=1) as packed:
        packed.write(head)
        packed.write(bytes(4 * LONGEST))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"64 MB|Invalid control character"):
        read(tmp_path / name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * LONGEST


def hub_folder(folder: Path) -> Path:
    made = folder / "set"
    made.mkdir()
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - {split: train, path: train.jsonl}\n---\n"
    (made / "README.md").write_text(card)
    (made / "train.jsonl").write_bytes(json_lines())
    return made


def hub_file(folder: Path, **values: str) -> Path:
    path = folder / "set.hub.yaml"
    path.write_text(json.dumps(values))
    return path


def test_a_data_set_in_a_hub_s_layout_is_read_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    made = hub_folder(tmp_path)
    named = hub_file(tmp_path, dataset=str(made), revision=outputs.digest_path(made), split="train")
    assert values(named) == ROWS


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"revision": "main"}, r"revision: the digest of .*set is [0-9a-f]{64}, not main"),
        ({"split": "absent"}, "split 'absent': cannot be read"),
        ({"dataset": "someone/something", "revision": "main"}, "'main' is no full commit hash"),
        ({"token": "x"}, "token: Extra inputs are not permitted"),
    ],
)
def test_a_data_set_that_is_not_pinned_or_not_there_is_refused(
    tmp_path: Path, change: dict[str, str], fault: str
) -> None:
    made = hub_folder(tmp_path)
    wanted = {"dataset": str(made), "revision": outputs.digest_path(made), "split": "train"}
    with pytest.raises(UserError, match=rf"set\.hub\.yaml: .*{fault}"):
        read(hub_file(tmp_path, **wanted | change))
