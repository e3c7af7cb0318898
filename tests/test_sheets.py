"""YAML files that people write are read in full, or refused at the place that is wrong."""

from pathlib import Path

import pytest

from tasks import sheets
from tasks.errors import UserError


def read(folder: Path, content: str) -> object:
    path = folder / "sheet.yaml"
    path.write_text(content, encoding="utf-8")
    return sheets.read(path)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("seed: 1\nother: 2\nseed: 3\n", "line 3: the key 'seed' stands in line 1 already"),
        ("train:\n  lora:\n    r: 1\n    'r': 2\n", "line 4: the key 'r' stands in line 3 already"),
        ("{a: 1, a: 1}\n", "line 1: the key 'a' stands in line 1 already"),
        ("- {1: one}\n- {1: one, 1: uno}\n", "line 2: the key '1' stands in line 2 already"),
    ],
)
def test_a_key_that_stands_twice_is_refused_with_file_and_line(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(UserError, match=rf"sheet\.yaml: .*{told}"):
        read(tmp_path, content)


def test_the_same_key_in_two_mappings_is_no_fault(tmp_path: Path) -> None:
    assert read(tmp_path, "a: {seed: 1}\nb: {seed: 2}\n1: x\n'1': y\n") == {
        "a": {"seed": 1}, "b": {"seed": 2}, 1: "x", "1": "y",
    }  # fmt: skip


def test_a_key_may_stand_over_one_that_is_merged_in(tmp_path: Path) -> None:
    assert read(tmp_path, "base: &base {r: 1, s: 2}\nmine: {<<: *base, r: 3}\n") == {
        "base": {"r": 1, "s": 2}, "mine": {"r": 3, "s": 2},
    }  # fmt: skip
