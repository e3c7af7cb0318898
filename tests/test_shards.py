"""Shards are read back as they were packed, and say so where a byte is missing or other."""

import hashlib
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks import shards as store
from tasks.chat import Chat
from tasks.errors import UserError
from tests.project import Project


@pytest.fixture
def folder(project: Project, tmp_path: Path) -> Path:
    """A copy of shards that a test may harm."""
    for path in (project.root / "data/pack").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_rows_are_read_back_as_they_were_packed(folder: Path, chat: Chat) -> None:
    shards = store.read_shards(folder)
    row = shards.row(0)
    ends = np.cumsum(row["lengths"]) - 1
    assert sum(row["lengths"]) == len(row["ids"]) == len(row["supervised"])
    assert {int(row["ids"][end]) for end in ends} == {chat.end_of_turn_id}


def test_every_example_is_named_once_by_its_row(folder: Path) -> None:
    shards = store.read_shards(folder)
    named = [example for row in range(len(shards)) for example in shards.examples(row)]
    assert sorted(named) == sorted(pl.read_parquet(folder / "sequences.parquet")["id"])
    assert len(set(named)) == len(named) == shards.index["sequences"] == 24


def test_a_row_names_its_examples_in_the_order_of_its_sequences(folder: Path) -> None:
    shards = store.read_shards(folder)
    sizes = dict(pl.read_parquet(folder / "sequences.parquet").select("id", "tokens").iter_rows())
    assert [sizes[name] for name in shards.examples(0)] == shards.row(0)["lengths"].tolist()


def test_a_row_holds_the_tokens_of_its_sequences(folder: Path) -> None:
    shards = store.read_shards(folder)
    last, bounds = len(shards) - 1, shards.boundaries
    members = shards.members[shards.rows[last] : shards.rows[last + 1]]
    expected = [token for one in members for token in shards.tokens[bounds[one] : bounds[one + 1]]]
    assert shards.row(last)["ids"].tolist() == expected


def test_parts_make_the_array_that_numpy_would_save(tmp_path: Path) -> None:
    with store.ArrayWriter(tmp_path, "tokens") as writer:
        writer.append(np.arange(3))
        writer.append(np.arange(3, 7))
        writer.close()
    np.save(tmp_path / "whole.npy", np.arange(7, dtype=np.int32))
    assert (tmp_path / "tokens.npy").read_bytes() == (tmp_path / "whole.npy").read_bytes()


def test_the_index_holds_the_digest_of_every_array(folder: Path) -> None:
    arrays = {name: np.load(folder / f"{name}.npy").tobytes() for name in store.KINDS}
    told = {name: array["sha256"] for name, array in store.read_shards(folder).index["arrays"].items()}
    assert told == {name: hashlib.sha256(content).hexdigest() for name, content in arrays.items()}


@pytest.mark.parametrize("name", store.KINDS)
def test_a_changed_byte_is_told_with_its_file(folder: Path, name: str) -> None:
    store.verify(folder)
    content = bytearray((folder / f"{name}.npy").read_bytes())
    content[-1] ^= 1
    (folder / f"{name}.npy").write_bytes(content)
    with pytest.raises(UserError, match=rf"{name}\.npy: its digest is not that of index\.json"):
        store.verify(folder)


def test_a_file_that_was_cut_off_is_told_before_training(folder: Path) -> None:
    path = folder / "supervised.npy"
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(UserError, match=r"supervised\.npy: cannot be read"):
        store.read_shards(folder)


def test_an_array_of_another_run_is_told_by_its_length(folder: Path) -> None:
    np.save(folder / "rows.npy", np.arange(3))
    with pytest.raises(UserError, match=r"rows\.npy: holds 3 items, and index\.json says"):
        store.read_shards(folder)


def test_no_shards_yet_tells_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no token shards here yet; run: dvc repro pack"):
        store.read_shards(tmp_path)
