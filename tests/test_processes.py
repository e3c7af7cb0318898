import asyncio
import signal
import subprocess
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


def test_ctrl_c_ends_the_runs_at_once_although_a_flow_s_code_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_STOPPED", processes.threading.Event())

    async def flow(run: subprocess.Popen[bytes]) -> None:
        signal.raise_signal(signal.SIGINT)
        run.wait(5)  # as a flow waits for its tasks

    with subprocess.Popen(["sleep", "60"], start_new_session=True) as run:
        monkeypatch.setitem(processes._RUNNING, "one", run)
        with pytest.raises(KeyboardInterrupt), processes.ended_by_ctrl_c():
            asyncio.run(flow(run))
        assert run.wait(10) == -signal.SIGINT
    assert processes._STOPPED.is_set()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
