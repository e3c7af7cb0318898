"""Look before you train: examples as the model reads them, tokens as it learns them, and what a run would do."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import plan
from tasks.errors import UserError
from tasks.examples import read_examples
from tasks.pack.__main__ import app as pack
from tasks.render.__main__ import app as render
from tasks.shards import read_shards
from tests import rendered
from tests.data_fixtures import record
from tests.project import Project
from tests.rendered import own


def test_preview_shows_rendered_examples_of_each_task(in_project: Project) -> None:
    shown = CliRunner().invoke(render, ["preview"]).stdout
    assert all(task in shown for task in ("follows", "news_topic", "to_json"))


def test_preview_of_one_task_shows_as_many_as_asked_for(in_project: Project) -> None:
    shown = CliRunner().invoke(render, ["preview", "--task", "news_topic", "-n", "3"]).stdout
    assert shown.count("topic / news_topic") == 3


def test_preview_shows_every_turn_of_a_conversation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    talk = own(1)._replace(system="Be kind.", turns=["Who?", "Ada.", "Why?"], outputs=["She asked."])
    rendered.render(tmp_path, [*map(record, range(20)), talk])
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(render, ["preview", "--task", "chat"]).stdout.split("\n")
    assert [line for line in shown if line in ("Be kind.", *talk.turns, *talk.outputs)] == [
        "Be kind.", "Who?", "Ada.", "Why?", "She asked."
    ]  # fmt: skip


def test_preview_shows_the_exemplars_that_a_run_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [*map(record, range(20)), *map(own, range(20))]
    home = rendered.render(tmp_path, rows, few_shot={"share": 1.0})
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(render, ["preview", "--task", "chat", "-n", "20"]).stdout
    trained = list(read_examples(home / "examples.parquet"))
    assert [len(row.shots) > 0 for row in trained] == [True] * 20
    assert not [row.prompt for row in trained if " ".join(row.prompt.split()) not in " ".join(shown.split())]


def test_preview_goes_on_past_a_task_without_templates_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labelled = record(1, task="amounts")._replace(cluster="general", fields={"amount": "1"})
    rendered.write_sources(tmp_path, [labelled, own(1, task="zoo")])
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(render, ["preview"])
    assert done.exit_code == 0
    assert "general / amounts · not shown" in done.stdout
    assert "Say the number 1." in done.stdout
    assert "amounts" in done.stdout.split("not shown")[1].split("zoo")[0]


def test_preview_of_an_unknown_task_tells_the_nearest_one(in_project: Project) -> None:
    with pytest.raises(UserError, match=r"task: nwes_topic: unknown; did you mean news_topic\?"):
        CliRunner().invoke(render, ["preview", "--task", "nwes_topic"], catch_exceptions=False)


def test_show_prints_prompt_and_answer_of_each_sequence(in_project: Project) -> None:
    first = read_shards(in_project.root / "data/pack").examples(0)[0]
    shown = CliRunner().invoke(pack, ["show", "-n", "1"]).stdout
    assert first in shown
    assert "</s>" in shown


def test_show_of_a_row_that_is_not_there_tells_how_many_there_are(in_project: Project) -> None:
    with pytest.raises(UserError, match="--row 999: there are"):
        CliRunner().invoke(pack, ["show", "--row", "999"], catch_exceptions=False)


def test_verify_says_that_every_array_is_whole(in_project: Project) -> None:
    assert "every array is whole" in CliRunner().invoke(pack, ["verify"]).stdout


def test_a_plan_names_every_stage_and_the_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    plan.main()
    printed = capsys.readouterr().out
    assert "stages would run" in printed
    assert all(stage in printed for stage in ("fetch", "train", "register"))
    assert "minutes of work" in printed


def test_help_on_a_plan_makes_none_and_another_word_is_refused() -> None:
    shown = CliRunner().invoke(plan.app, ["--help"])
    assert shown.exit_code == 0
    assert "Usage:" in shown.stdout
    assert CliRunner().invoke(plan.app, ["--hepl"]).exit_code == 2


def test_a_timing_keeps_the_params_that_it_was_measured_with(in_project: Project) -> None:
    timing = json.loads((in_project.root / "build/timings/train.json").read_text())
    assert timing["params"]["render.examples"] == 24
