"""What evaluate tells: scores of any lm-eval task, how answers end, what depends on the wording, and how it was
measured."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tasks.chat import Chat
from tasks.errors import UserError
from tasks.evaluate import __main__ as evaluate
from tasks.evaluate import extra, wordings
from tasks.evaluate.endings import ends_by_itself
from tasks.guards import GuardError
from tests import benchmark_folder
from tests.project import Project


@pytest.fixture(scope="module")
def benchmarks(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the suite `mine` lies, as render puts it."""
    home = tmp_path_factory.mktemp("included")
    with pytest.MonkeyPatch.context() as patch:
        benchmark_folder.include(project, benchmark_folder.write(home / "folder"), patch, home / "benchmarks")
    return home / "benchmarks"


@pytest.fixture(scope="module")
def mine(project: Project, benchmarks: Path) -> Path:
    """The tuned model's results on it."""
    with pytest.MonkeyPatch.context() as patch:
        project.enter(patch)
        evaluate.run("tuned", "mine", benchmarks=benchmarks, out=benchmarks.parent / "results")
    return benchmarks.parent / "results"


@pytest.fixture(scope="module")
def held_out(project: Project) -> Path:
    """Its results on the held-out cluster."""
    return project.root / "reports/evaluate/tuned/inference"


def told(folder: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return loaded


def rows(folder: Path, benchmark: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines())
    return [row for row in lines if row["benchmark"] == benchmark]


def test_any_task_s_own_measures_are_told_of_each_document_and_of_all(mine: Path) -> None:
    metrics = told(mine, "metrics.json")
    assert {name: set(scores) for name, scores in metrics.items()} == {
        "mine_colours_rank": {"acc", "acc_norm"},
        "mine_saying_generate": {"said", "letters", "stopped"},
    }
    for name, scores in metrics.items():
        own = rows(mine, name)
        assert [row["document"] for row in own] == ["0", "1", "2", "3"]
        assert scores == {key: pytest.approx(sum(row[key] for row in own) / 4, abs=1e-6) for key in scores}


def test_answers_and_right_answers_are_told_as_text_and_prompts_are_not(mine: Path) -> None:
    assert [row["expected"] for row in rows(mine, "mine_colours_rank")] == ["blue", "green", "yellow", "white"]
    assert {row["answer"] for row in rows(mine, "mine_colours_rank")} <= {
        "blue",
        "green",
        "red",
        "yellow",
        "black",
        "white",
    }
    assert "colour of" not in (mine / "samples.jsonl").read_text()


def test_a_held_out_task_is_asked_with_and_without_options_and_in_several_templates(held_out: Path) -> None:
    metrics = told(held_out, "metrics.json")
    forms = ("generate", "rank", "templates", "unlisted")
    assert set(metrics) == {f"inference_{task}_{form}" for task in ("follows", "relation") for form in forms}
    assert set(metrics["inference_follows_unlisted"]) == {"accuracy"}
    assert set(metrics["inference_follows_generate"]) == {"exact_match", "valid_answer", "stopped"}
    assert {"consistency", "exact_match_spread", "stopped"} <= set(metrics["inference_follows_templates"])


def test_each_template_s_score_is_told_with_their_mean_and_spread(held_out: Path) -> None:
    [found] = [told(held_out, "results.json")["templates"]["inference_follows_templates"]["exact_match"]]
    scores = [own["score"] for own in found["templates"].values()]
    assert len(scores) == 5
    assert {own["documents"] for own in found["templates"].values()} == {12}
    assert found["mean"] == pytest.approx(sum(scores) / 5, abs=1e-5)
    assert found["spread"] == told(held_out, "metrics.json")["inference_follows_templates"]["exact_match_spread"]


def test_how_it_was_measured_is_told_without_place_and_time(held_out: Path, project: Project, chat: Chat) -> None:
    measured = told(held_out, "results.json")["measured"]
    trained = told(project.root / "models/tuned", "training.json")
    assert measured["chat"]["hash"] == chat.hash == trained["chat_hash"]
    assert measured["backend"] == "own"
    assert measured["compute"] == {"dtype": "float32", "threads": 2}
    assert measured["versions"]["lm_eval"].count(".") == 2
    assert measured["benchmarks"]["inference_follows_rank"] | {"hash": 0} == {
        "hash": 0, "version": 1, "documents": 12, "shots": 0, "measures": ["acc"], "generation": {},
    }  # fmt: skip
    assert str(project.root) not in (held_out / "results.json").read_text()


def test_the_hash_of_a_benchmark_follows_its_documents_and_not_the_model(project: Project, held_out: Path) -> None:
    base = told(project.root / "reports/evaluate/base/inference", "results.json")["measured"]["benchmarks"]
    assert base == told(held_out, "results.json")["measured"]["benchmarks"]
    assert base["inference_follows_rank"]["hash"] != base["inference_relation_rank"]["hash"]


def test_a_second_evaluation_gives_the_same_bytes(
    in_project: Project, benchmarks: Path, mine: Path, tmp_path: Path
) -> None:
    evaluate.run("tuned", "mine", benchmarks=benchmarks, out=tmp_path)
    assert all((tmp_path / path.name).read_bytes() == path.read_bytes() for path in mine.iterdir())


def test_documents_that_changed_since_they_were_included_stop_the_run(
    in_project: Project, benchmarks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tmp_path / "mine"
    shutil.copytree(benchmarks / "mine", changed)
    here = told(changed, "included.json") | {"colours": "other"}
    (changed / "included.json").write_text(json.dumps(here))
    with pytest.raises(GuardError, match=r"mine: other documents .* included: colours; run: dvc repro -f include@mine"):
        evaluate.run("base", "mine", benchmarks=tmp_path)


def test_a_folder_without_benchmarks_and_a_suite_that_is_not_there_are_told(
    in_project: Project, tmp_path: Path
) -> None:
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="no YAML here defines an lm-eval task"):
        evaluate.run("base", "nothing", benchmarks=tmp_path)
    with pytest.raises(UserError, match=r"noting: no such suite; did you mean nothing\?"):
        evaluate.run("base", "noting", benchmarks=tmp_path)


def test_a_model_that_is_not_there_is_told_with_those_that_are(in_project: Project, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"models/tunde: no adapter that train wrote; did you mean tuned.* base, tuned"):
        evaluate.run("tunde", "inference")
    with pytest.raises(UserError, match="base: no base model here; run: dvc repro fetch"):
        evaluate.run("base", "inference", models=tmp_path)


def test_a_backend_that_is_not_installed_is_told_before_anything_is_computed(
    project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    values = yaml.safe_load((project.root / "params.yaml").read_text(encoding="utf-8"))
    values["evaluate"]["backend"] = "vllm"
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^evaluate\.backend: vllm: vLLM is not installed here"):
        evaluate.run("base", "inference", models=project.root / "models")


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every answer of the model is empty."""
    generate = evaluate.Watched.generate_until
    monkeypatch.setattr(
        evaluate.Watched, "generate_until", lambda self, asked, **options: [" " for _ in generate(self, asked)]
    )
    return


@pytest.mark.usefixtures("silent")
def test_a_model_that_generates_nothing_stops_the_run(in_project: Project, benchmarks: Path, tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="tuned on mine: all 4 generated answers are empty: the model ends its turn"):
        evaluate.run("tuned", "mine", benchmarks=benchmarks, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_answer_that_ends_its_turn_before_any_stop_text_ended_by_itself(chat: Chat) -> None:
    end = chat.end_of_turn_id

    def ended(*parts: str | int, stop: tuple[str, ...] = ("\n",)) -> bool:
        ids = [token for part in parts for token in ([part] if isinstance(part, int) else chat.encode(part))]
        return ends_by_itself(ids, end, stop, chat.tokenizer)

    assert ended("It rains.", end)
    assert ended(end, end)
    assert ended("one\ntwo", end, stop=(chat.end_of_turn,))
    assert not ended("It rains.")
    assert not ended("It rains.\n")
    assert not ended("It rains.\n", end, end)  # cut off at the line break, and padded
    assert not ended("It rains.\nIt pours.", end)
    assert not ended("one\n\ntwo", end, end)


def asked(answers: list[list[str]]) -> list[dict[str, Any]]:
    return [
        {"benchmark": "b_templates", "document": f"d{place}", "template": f"t{number}", "answer": answer, "right": 1}
        for place, own in enumerate(answers)
        for number, answer in enumerate(own)
    ]


def consistency(answers: list[list[str]]) -> float:
    found = [row["consistency"] for row in wordings.compared(asked(answers))]
    return sum(found) / len(found)


def test_consistency_is_the_share_of_pairs_of_templates_with_the_same_answer() -> None:
    assert consistency([["yes", "Yes", "yes"], ["no", "no", "no"]]) == 1
    assert consistency([["yes", "no", "perhaps"]]) == 0
    assert consistency([["yes", "yes", "no"]]) == pytest.approx(1 / 3, abs=1e-5)
    assert consistency([["yes"] * 4, ["yes", "no", "a", "b"]]) == pytest.approx(1 / 2, abs=1e-5)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=3, max_size=3), min_size=1, max_size=5), st.randoms())
def test_consistency_depends_on_no_order(answers: list[list[str]], random: Any) -> None:
    shuffled = [random.sample(own, 3) for own in answers]
    assert consistency(shuffled) == pytest.approx(consistency(answers), abs=1e-5)


def test_the_spread_over_templates_is_zero_where_all_score_alike() -> None:
    even = [row | {"right": int(row["document"] == "d0")} for row in asked([["a", "b"], ["a", "b"]])]
    assert wordings.spreads(even) == {"right_spread": 0.0}
    uneven = [row | {"right": int(row["template"] == "t0")} for row in even]
    assert wordings.spreads(uneven) == {"right_spread": 0.5}
