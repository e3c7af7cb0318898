from pathlib import Path

import pytest

from flows import processes


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("begins\nerror: params.yaml: 1 fault\n  a.b: missing\nmore\n", "params.yaml: 1 fault a.b: missing"),
        ("12:00:00 | INFO | Task run 'pack' - error: too long\nerror: stages failed: pack\n", "too long"),
        ("begins\nKilled\n", "Killed"),
        ("", "it said nothing"),
    ],
)
def test_the_first_error_of_a_log_is_told_with_what_belongs_to_it(tmp_path: Path, log: str, told: str) -> None:
    (tmp_path / "run.log").write_text(log)
    assert processes.fault(tmp_path / "run.log") == told
