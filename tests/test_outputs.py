from pathlib import Path

import pytest

from tasks import outputs


def test_a_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    with outputs.whole(tmp_path / "new" / "a.txt") as scratch:
        scratch.write_text("done")
        assert not (tmp_path / "new" / "a.txt").exists()
    assert (tmp_path / "new" / "a.txt").read_text() == "done"


def test_an_error_leaves_a_file_as_it_was_and_no_scratch(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), outputs.whole(tmp_path / "a.txt") as scratch:
        scratch.write_text("half")
        raise RuntimeError
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


def test_an_error_leaves_a_folder_as_it_was_and_no_scratch(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").write_text("old")
    with pytest.raises(RuntimeError), outputs.whole_folder(tmp_path / "out") as scratch:
        (scratch / "a.txt").write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "a.txt"]
    assert (tmp_path / "out" / "a.txt").read_text() == "old"


def test_an_interrupted_run_leaves_nothing_half_written(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), outputs.whole(tmp_path / "a.txt") as scratch:
        scratch.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_a_new_folder_keeps_no_file_of_the_old_one(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with outputs.whole_folder(tmp_path / "out") as scratch:
            (scratch / name).touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["second"]


def test_what_a_killed_run_left_behind_is_not_taken_over(tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "stale").touch()
    with outputs.whole_folder(tmp_path / "out") as scratch:
        (scratch / "fresh").touch()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fresh"]


def test_a_block_that_writes_nothing_leaves_the_old_output(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(FileNotFoundError), outputs.whole(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_text() == "old"


def test_equal_values_give_equal_bytes(tmp_path: Path) -> None:
    outputs.write_json(tmp_path / "a", {"b": 1, "a": "é"})
    outputs.write_json(tmp_path / "b", {"a": "é", "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == '{\n  "a": "é",\n  "b": 1\n}\n'.encode()


def test_a_file_s_digest_is_the_sha_256_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert outputs.digest_path(tmp_path / "a").startswith("ba7816bf8f01cfea")


def folder(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(text)
    return path


def test_a_folder_s_digest_does_not_depend_on_its_place_or_the_order_of_writing(tmp_path: Path) -> None:
    one = folder(tmp_path / "one", {"a": "1", "b/c": "2"})
    two = folder(tmp_path / "two", {"b/c": "2", "a": "1"})
    assert outputs.digest_path(one) == outputs.digest_path(two)


@pytest.mark.parametrize("files", [{"a": "2", "b/c": "2"}, {"a": "1", "b/d": "2"}, {"a": "1"}, {"a": "1", "c": "2"}])
def test_another_text_name_or_place_of_a_file_gives_another_digest(tmp_path: Path, files: dict[str, str]) -> None:
    known = folder(tmp_path / "known", {"a": "1", "b/c": "2"})
    assert outputs.digest_path(folder(tmp_path / "other", files)) != outputs.digest_path(known)


def test_bytecode_is_no_part_of_a_digest(tmp_path: Path) -> None:
    known = outputs.digest_path(folder(tmp_path, {"a.py": "1"}))
    assert outputs.digest_path(folder(tmp_path, {"__pycache__/a.pyc": "x"})) == known


def test_nothing_has_no_digest(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        outputs.digest_path(tmp_path / "absent")


def test_folders_of_removed_stages_are_dropped_and_files_stay(tmp_path: Path) -> None:
    folder(tmp_path, {"kept/a": "1", "removed/a": "1", "file": "1"})
    outputs.keep_only(tmp_path, ["kept"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "kept"]


def test_there_is_nothing_to_drop_where_no_folder_is(tmp_path: Path) -> None:
    outputs.keep_only(tmp_path / "absent", ["kept"])
    assert list(tmp_path.iterdir()) == []
