import asyncio
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from flows import pipeline, processes
from flows.graph import Stage
from tasks.errors import UserError
from tests import guarded
from tests.data_fixtures import ROOT


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
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell lets what it runs in the background ignore it

    async def flow(run: subprocess.Popen[bytes]) -> None:
        signal.raise_signal(signal.SIGINT)
        run.wait(5)  # as a flow waits for its tasks

    with subprocess.Popen(["sleep", "60"], start_new_session=True) as run:
        monkeypatch.setitem(processes._RUNNING, "one", run)
        with pytest.raises(KeyboardInterrupt), processes.ctrl_c_first(processes.stop):
            asyncio.run(flow(run))
        assert run.wait(10) == -signal.SIGINT
    assert processes._STOPPED.is_set()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_what_takes_longer_than_its_limit_is_ended_with_all_that_it_started() -> None:
    with (
        subprocess.Popen(["bash", "-c", "sleep 60 & wait"]) as process,
        processes.limited(process.pid, 0.3) as late,
    ):
        process.wait(timeout=30)
    assert late.is_set()


def test_what_ends_in_time_is_left_alone() -> None:
    with subprocess.Popen(["true"]) as process, processes.limited(process.pid, 60) as late:
        process.wait()
    assert (process.returncode, late.is_set()) == (0, False)


FLOW = """
from flows import processes
for line in processes.lines(["sh", "-c", "echo begun; sleep 1; echo further; touch done"]):
    print(line, flush=True)
"""


def test_what_a_killed_flow_had_begun_goes_on_to_its_end(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", FLOW], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as flow:
        assert flow.stdout is not None
        assert any("begun" in line for line in flow.stdout)
        flow.kill()
    for _ in range(100):
        if (tmp_path / "done").exists():
            return
        time.sleep(0.1)
    raise AssertionError("it ended with the flow")


def test_what_a_process_wrote_last_is_told_without_a_line_s_end(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(["printf", "one\\ntwo"], stdout=log) as process:
        assert list(processes.following(process, tmp_path / "log")) == ["one", "two"]


def test_a_server_that_refuses_the_credentials_or_is_not_there_is_told() -> None:
    with guarded.server() as address, pytest.raises(UserError, match="refuses these credentials; set PREFECT_API_AUTH"):
        pipeline.check_access(address)
    with pytest.raises(UserError, match="no Prefect server answers there"):
        pipeline.check_access("http://127.0.0.1:9")


def test_a_stage_ends_well_without_a_server_that_takes_its_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise httpx.ConnectError("Connection refused")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "create_markdown_artifact", gone)
    monkeypatch.setattr(pipeline, "create_link_artifact", gone)
    monkeypatch.setattr(pipeline, "get_run_logger", logging.getLogger)
    (tmp_path / "table.md").write_text("| a |")
    (tmp_path / "links.json").write_text('{"run": "http://127.0.0.1:5000"}')
    stage = Stage("report", "", frozenset(), {"artifact": "table.md", "links": "links.json"})
    pipeline._publish(stage)
    assert [record.getMessage().split(": ")[1] for record in caplog.records] == ["Connection refused"] * 2


def test_the_cache_is_pruned_only_while_nobody_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INSTRUCTFLOW_HOME", str(tmp_path))
    with processes.cache_in_use(), processes.cache_in_use(), processes.cache_for_itself() as is_free:
        assert not is_free
    with processes.cache_for_itself() as is_free:
        assert is_free
