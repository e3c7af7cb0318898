"""The gate lets a better candidate through and no worse one, one at a time, and its log tells every move."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from tasks import locks, tracking
from tasks.errors import UserError
from tasks.params import Gate
from tasks.promote import __main__ as promote
from tasks.promote import gate, moves
from tasks.records import write_lines
from tasks.report import samples
from tasks.report.compare import Paired
from tests import registered
from tests.registered import BASE, DOCUMENTS, GOOD, NAME, POOR, add, rows


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[MlflowClient]:
    """An empty registry, and a folder with params."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    registered.settings(tmp_path)
    yield tracking.client()


def aliases(client: MlflowClient) -> dict[str, str]:
    return {name: str(version) for name, version in client.get_registered_model(NAME).aliases.items()}


def judged(client: MlflowClient, version: str) -> str:
    return client.get_model_version(NAME, version).tags[promote.DECISION]


def reason(client: MlflowClient, version: str) -> str:
    return client.get_model_version(NAME, version).tags[promote.REASON]


def test_the_first_candidate_that_is_better_than_its_base_becomes_the_champion(client: MlflowClient) -> None:
    add(client, rows(GOOD))
    promote.run()
    assert aliases(client) == {"candidate": "1", "champion": "1"}


def test_a_candidate_that_is_not_better_than_its_base_is_refused_with_the_reason(client: MlflowClient) -> None:
    add(client, BASE)
    promote.run()
    assert aliases(client) == {"candidate": "1"}
    assert "better than the base on exact answer: +0.000" in reason(client, "1")


def test_a_worse_candidate_is_refused_and_the_champion_stays(client: MlflowClient) -> None:
    add(client, rows(GOOD))
    promote.run()
    add(client, rows([1] * 30 + [0] * 30))  # better than the base, worse than the champion
    promote.run()
    assert aliases(client) == {"candidate": "2", "champion": "1"}
    assert "no worse than the champion on exact answer: -0.300" in reason(client, "2")


def test_an_equal_candidate_passes_as_non_inferior_and_not_as_superior(client: MlflowClient, tmp_path: Path) -> None:
    add(client, rows(GOOD))
    promote.run()
    add(client, rows(GOOD))
    registered.settings(tmp_path, policy="superior")
    promote.run()
    assert aliases(client)["champion"] == "1"
    registered.settings(tmp_path)
    promote.run()
    assert aliases(client) == {"candidate": "2", "champion": "2", "previous": "1"}


def test_a_fall_below_the_floor_refuses_although_the_chosen_measures_rose(client: MlflowClient, tmp_path: Path) -> None:
    registered.settings(tmp_path, measures=["exact_match"], valid_answer=None, stopped=None)
    add(client, rows(GOOD, stopped=[1] * 20 + [0] * 40))
    promote.run()
    assert aliases(client) == {"candidate": "1"}
    assert "no fall below the base's scores: inference / follows, ended by itself -0.667" in reason(client, "1")


def test_a_floor_is_judged_by_the_interval(client: MlflowClient, tmp_path: Path) -> None:
    fallen = rows(GOOD, stopped=[1] * 50 + [0] * 10)  # 0.17 below the base, and no floor of 0.2 for the interval
    registered.settings(tmp_path, stopped=None)
    add(client, fallen)
    promote.run()
    assert judged(client, "1") == "refused"


def test_the_few_documents_in_every_wording_are_not_judged_a_second_time() -> None:
    keys = [(f"d/{place}", "t") for place in range(DOCUMENTS)]
    before, after = (np.array(scores, dtype=np.float64) for scores in (POOR, GOOD))
    usual = Paired("inference", "follows", "", "exact_match", keys, before, after, np.arange(DOCUMENTS))
    fallen = replace(usual, form=samples.EVERY_WORDING, before=after, after=before)
    asked = Gate(measures=["exact_match"])
    assert gate.decide(asked, "1", None, [usual, fallen], [], []).promoted
    assert not gate.decide(asked, "1", None, [usual, replace(fallen, form="")], [], []).promoted


def test_a_fall_that_is_no_number_is_refused() -> None:
    keys = [(f"d/{place}", "t") for place in range(DOCUMENTS)]
    pair = Paired("inference", "follows", "", "exact_match", keys, np.array(POOR), np.array(GOOD), np.arange(DOCUMENTS))
    [sound] = gate.compared([pair])
    assert gate.keeps_floor(Gate(measures=["exact_match"]), [sound], "base").passed
    broken = replace(sound, low=math.nan)
    assert not gate.keeps_floor(Gate(measures=["exact_match"]), [broken], "base").passed


@pytest.mark.parametrize(("measure", "named"), [("valid_answer", "valid answer"), ("stopped", "ended by itself")])
def test_a_rate_that_is_too_low_is_refused(client: MlflowClient, tmp_path: Path, measure: str, named: str) -> None:
    registered.settings(tmp_path, floor=1.0, valid_answer=0.9, stopped=0.9, measures=["exact_match"])
    add(client, rows(GOOD, **{measure: [1] * 54 + [0] * 6}))  # 0.9 itself, and no interval above it
    promote.run()
    assert f"{named} on inference: 0.900" in reason(client, "1")


def test_a_listed_word_in_an_answer_refuses(client: MlflowClient, tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("blast\ndarn it\n")
    registered.settings(tmp_path, words="words.txt")
    add(client, rows(GOOD, answer="No blasting here."))
    promote.run()
    assert judged(client, "1") == "promoted"
    add(client, rows(GOOD, answer="Darn it, no."))
    promote.run()
    assert "none of the listed words: 60 of 60 answers hold one of 2" in reason(client, "2")


def test_a_champion_that_was_measured_otherwise_is_no_ground_to_promote(client: MlflowClient) -> None:
    add(client, rows(GOOD))
    promote.run()
    add(client, rows(GOOD), {"benchmarks": {registered.BENCHMARK: {"hash": "beef", "version": 1, "generation": {}}}})
    promote.run()
    assert aliases(client)["champion"] == "1"
    assert f"other documents or settings in inference / {registered.BENCHMARK}" in reason(client, "2")


@pytest.mark.parametrize(("backend", "decision"), [("own", "promoted"), ("vllm", "refused")])
def test_results_of_another_backend_are_not_compared_and_those_that_name_none_are_the_own_one_s(
    client: MlflowClient, backend: str, decision: str
) -> None:
    add(client, rows(GOOD))
    promote.run()
    add(client, rows(GOOD), {**registered.MEASURED, "backend": backend})
    promote.run()
    assert judged(client, "2") == decision
    assert ("other documents or settings" in reason(client, "2")) == (backend == "vllm")


def test_a_rollback_restores_and_the_same_candidate_does_not_come_back_by_itself(client: MlflowClient) -> None:
    for _ in range(2):
        add(client, rows(GOOD))
        promote.run()
    promote.rollback("answers in French")
    assert aliases(client) == {"candidate": "2", "champion": "1"}
    promote.run()
    assert aliases(client)["champion"] == "1"
    assert "answers in French" in reason(client, "2")
    promote.run("2")
    assert aliases(client) == {"candidate": "2", "champion": "2", "previous": "1"}


def test_without_an_earlier_champion_there_is_nothing_to_go_back_to(client: MlflowClient) -> None:
    add(client, rows(GOOD))
    promote.run()
    with pytest.raises(UserError, match="no earlier champion"):
        promote.rollback("no")


def test_the_log_tells_who_when_why_from_and_to(client: MlflowClient, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        add(client, rows(GOOD))
        promote.run()
    promote.rollback("answers in French")
    told = moves.log(client, NAME)
    assert [(move.what, move.before, move.after) for move in told] == [
        ("promoted", None, "1"), ("promoted", "1", "2"), ("rolled back", "2", "1"),
    ]  # fmt: skip
    assert all("@" in move.who and move.when.startswith("20") for move in told)
    assert told[-1].why == "answers in French"
    promote.show_log()
    assert "2 -> 1; answers in French" in capsys.readouterr().out


def test_an_alias_that_was_moved_past_the_gate_is_in_the_log(client: MlflowClient) -> None:
    for scores in (GOOD, POOR):
        add(client, rows(scores))
        promote.run()
    client.set_registered_model_alias(NAME, moves.CHAMPION, "2")
    promote.run()
    assert [(move.what, move.before, move.after) for move in moves.log(client, NAME)][1:] == [
        ("moved by hand", "1", "2")
    ]


def test_a_move_that_was_written_down_and_not_made_is_made(
    client: MlflowClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(client, rows(GOOD))
    with monkeypatch.context() as patch:
        patch.setattr(moves, "carry_out", lambda *_: sys.exit(9))
        with pytest.raises(SystemExit):
            promote.run()
    assert "champion" not in aliases(client)
    promote.run()
    assert aliases(client)["champion"] == "1"
    assert len(moves.log(client, NAME)) == 1


@pytest.mark.parametrize(("now", "fallen"), [(POOR, True), ([1] * 40 + [0] * 20, False), (GOOD, False)])
def test_a_version_has_fallen_where_fresh_documents_show_it(
    client: MlflowClient, tmp_path: Path, now: list[int], fallen: bool
) -> None:
    version = add(client, rows(GOOD))
    fresh = tmp_path / "build/version/results/inference"
    fresh.mkdir(parents=True)
    others = [row | {"document": f"fresh/{place}"} for place, row in enumerate(rows(now))]
    write_lines(fresh / "samples.jsonl", others)
    promote.beside_before(f"models:/{NAME}/{version}", "inference", fresh)
    told = json.loads((tmp_path / "build/version/beside.json").read_text())
    assert told["fallen"] is fallen
    assert "exact answer on 1 benchmarks: 0.800 (" in told["told"]


def test_two_candidates_at_once_are_judged_one_after_the_other(client: MlflowClient, tmp_path: Path) -> None:
    registered.settings(tmp_path, policy="superior")
    for _ in range(2):
        add(client, rows(GOOD))
    with locks.registry():  # both wait for it
        started = [
            subprocess.Popen([sys.executable, "-m", "tasks.promote", "run", "--version", version], cwd=tmp_path,
                             env={**os.environ, "PYTHONPATH": str(registered.ROOT)},
                             stdout=subprocess.PIPE, text=True)
            for version in ("1", "2")
        ]  # fmt: skip
        for process in started:
            assert process.stdout is not None
            assert "waiting for another process" in process.stdout.readline()
        assert "champion" not in aliases(client)
    for process in started:
        process.communicate()
    assert sorted(judged(client, version) for version in ("1", "2")) == ["promoted", "refused"]
    assert len(moves.log(client, NAME)) == 1


def test_a_decision_is_kept_with_its_numbers(client: MlflowClient, tmp_path: Path) -> None:
    version = add(client, rows(GOOD))
    promote.run()
    run = client.get_model_version(NAME, version).run_id
    kept = json.loads(
        Path(client.download_artifacts(run, "promotion/beside-none/decision.json", str(tmp_path))).read_text()
    )
    assert kept["promoted"] is True
    [exact] = [item for item in kept["against_base"] if item["measure"] == "exact_match"]
    assert (exact["documents"], exact["base"], exact["tuned"]) == (DOCUMENTS, 0.1, 0.8)
    assert "| better than the base on exact answer" in (tmp_path / "build/promote/decision.md").read_text()


def test_without_a_version_the_gate_says_what_to_run(client: MlflowClient) -> None:
    with pytest.raises(UserError, match="no version is registered; run: make run"):
        promote.run()


def test_the_flow_of_a_variant_judges_nothing(client: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    add(client, rows(GOOD))
    monkeypatch.setenv("DVC_EXP_NAME", "odd-name")
    promote.run()
    assert aliases(client) == {"candidate": "1"}
