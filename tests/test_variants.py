import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tasks.errors import UserError
from tasks.statistics import Verdict
from tasks.variants import answer, conclusions, page, scores, story
from tasks.variants.grid import BASE, Grid, read, runs
from tasks.variants.scores import Benchmark
from tasks.variants.story import Story, Trained
from tests.data_fixtures import ROOT, sections
from tests.project import Project

SMALL = {
    "reference": "instructions",
    "seeds": [1, 2],
    "common": {"render": {"examples": 5}},
    "variants": {"instructions": {}, "bare": {"render": {"wording": "none"}}},
}


def grid(**changes: Any) -> Grid:
    return Grid.model_validate(SMALL | changes)


def test_a_grid_gives_each_variant_and_seed_a_run_of_its_own() -> None:
    made = runs(grid(), "small")
    assert [run.name for run in made] == [
        "small-instructions-s1", "small-bare-s1", "small-instructions-s2", "small-bare-s2",
    ]  # fmt: skip
    values = made[3].values(sections())
    assert (values["render"]["examples"], values["render"]["wording"], values["train"]["seed"]) == (5, "none", 2)
    assert made[2].values(sections())["render"] == sections()["render"] | {"examples": 5}


def test_one_cluster_after_the_other_is_left_out_with_what_is_related_to_it() -> None:
    left = grid(leave_out=["inference", "topic"], related={"topic": ["sentiment"]}, seeds=[1])
    own = sections(render={"held_out": ["inference", "commonsense"], "related": {"inference": ["paraphrase"]}})
    found = {run.name: run.values(own) for run in runs(left, "full")}
    told = found["full-topic-bare-s1"]
    assert told["render"]["held_out"] == told["evaluate"]["suites"] == ["topic"]
    assert told["render"]["related"] == {"topic": ["sentiment"]}
    assert found["full-inference-bare-s1"]["render"]["related"] == {"inference": ["paraphrase"]}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"reference": "instruction"}, "'instruction' is no variant; did you mean instructions?"),
        ({"variants": {"instructions": {}, "base": {}}}, "'base' is the untuned model"),
        ({"seeds": [1, 1]}, "a seed stands twice"),
        ({"seed": 1}, "seed: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_grid_is_refused_with_its_file(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(SMALL | changes))
    with pytest.raises(UserError, match=r"mine\.yaml: .*" + told):
        read(path)


@pytest.mark.parametrize("path", sorted((ROOT / "infra/compare").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_grids_that_are_here_fit_the_params(path: Path) -> None:
    from tasks import params, sheets

    for run in runs(read(path), path.stem):
        params.check(run.values(sheets.read(ROOT / "params.yaml")), path)


def benchmark(rates: dict[str, list[float]], suite: str = "inference", measured: str = "exact answer") -> Benchmark:
    """A benchmark of 200 documents, of which each variant's seeds have these shares right, the easy ones first."""
    rows = {name: np.array([np.arange(200) < 200 * rate for rate in own], float) for name, own in rates.items()}
    return Benchmark("", suite, "follows", measured, np.arange(200), rows)


def told(*benchmarks: Benchmark, **wordings: str) -> Story:
    """The story of these scores."""
    means = scores.means(benchmarks)
    names = [name for name in benchmarks[0].scores if name != BASE]
    trained = [
        Trained(
            name, {"render.wording": wordings[name]} if name in wordings else {}, 2, 5, 50, {"topic": 5}, 1, 0, 1, 0.5
        )
        for name in names
    ]
    differences = story.differences(means, "instructions")
    return Story("instructions", [], 0, trained, means, differences, {}, ["inference"])


def test_a_held_out_mean_weighs_each_suite_alike() -> None:
    rates = {"instructions": [0.5, 0.7]}
    means = scores.means([benchmark(rates), benchmark({"instructions": [0.1, 0.3]}, "commonsense")])
    assert means["exact answer", ""]["instructions"].mean == pytest.approx(0.4)
    assert means["exact answer", "inference"]["instructions"].mean == pytest.approx(0.6)


def test_seeds_that_differ_widen_the_interval_as_much_as_their_own_spread_says() -> None:
    certain = {"apart": np.array([[0.2] * 50, [0.8] * 50]), "one": np.array([[0.5] * 50])}
    means = scores.means([Benchmark("", "inference", "follows", "exact answer", np.arange(50), certain)])
    found = means["exact answer", ""]
    assert found["apart"].drawn.std() == pytest.approx(0.3, rel=0.05)  # of a mean of two: 0.42 / sqrt(2)
    assert found["one"].drawn.std() == pytest.approx(0)


def test_documents_of_one_group_are_drawn_together() -> None:
    rows = {"one": np.repeat(np.arange(20) % 2, 10).astype(float)[None]}
    by_group, alone = (
        scores.means([Benchmark("", "inference", "follows", "exact answer", groups, rows)])["exact answer", ""]["one"]
        for groups in (np.repeat(np.arange(20), 10), np.arange(200))
    )
    assert by_group.drawn.std() == pytest.approx(np.sqrt(10) * alone.drawn.std(), rel=0.1)


def test_equal_models_are_not_told_apart() -> None:
    found = told(benchmark({BASE: [0.4], "instructions": [0.4, 0.4], "bare": [0.4, 0.4]}))
    assert {one.verdict for one in found.differences} == {Verdict.NONE}
    assert {one.p for one in found.differences} == {1.0}


def test_p_is_corrected_for_all_comparisons() -> None:
    found = told(benchmark({BASE: [0.2], "instructions": [0.6, 0.6], "bare": [0.2, 0.2]}))
    smallest = min(one.p for one in found.differences)
    assert smallest == pytest.approx(len(found.differences) * 2 / (scores.RESAMPLES + 1))


def test_the_conclusion_says_that_instruction_tuning_helped_and_that_it_was_the_instructions() -> None:
    found = told(benchmark({BASE: [0.2], "bare": [0.3, 0.31], "instructions": [0.6, 0.61]}), bare="none")
    first, second, *_ = conclusions.sentences(found)
    assert first.startswith("Instruction tuning helped on tasks that no model had been trained on: better in exact")
    assert second.startswith("Against the same tuning without instructions (bare), instructions are better in exact")


def test_the_conclusion_says_that_instruction_tuning_did_not_help() -> None:
    found = told(benchmark({BASE: [0.5], "bare": [0.5, 0.5], "instructions": [0.5, 0.51]}), bare="none")
    first, second, *_ = conclusions.sentences(found)
    assert first.startswith("Instruction tuning did not help here")
    assert "instructions are not shown to make a difference" in second


def test_the_conclusion_says_that_instruction_tuning_made_it_worse() -> None:
    found = told(benchmark({BASE: [0.8], "named": [0.8, 0.8], "instructions": [0.3, 0.3]}), named="name")
    first, second, *_ = conclusions.sentences(found)
    assert first.startswith("Instruction tuning made the model worse here: exact answer (-0.500)")
    assert second.startswith("Against tuning with the task's name alone (named), instructions are worse in exact")


def test_the_conclusion_tells_form_from_right_answers() -> None:
    right = benchmark({BASE: [0.4], "instructions": [0.4, 0.4]})
    valid = benchmark({BASE: [0.4], "instructions": [0.9, 0.9]}, measured="valid answer")
    assert conclusions.overall(told(right, valid)).endswith("that more answers are right is not shown.")
    assert "form" not in conclusions.overall(told(benchmark({BASE: [0.1], "instructions": [0.9]})))


def test_a_curve_is_of_the_variants_that_change_nothing_else() -> None:
    found = told(benchmark({BASE: [0.2], "instructions": [0.5], "one": [0.3], "bare": [0.2]}), bare="none")
    one = next(number for number, trained in enumerate(found.trained) if trained.name == "one")
    found.trained[one] = Trained("one", {"render.clusters": 1}, 2, 5, 50, {"topic": 5}, 1, 0, 1, None)
    assert page.curves(found) == {"clusters": [(1.0, "one"), (1.0, "instructions")]}


def test_the_answer_is_the_same_bytes_again_and_needs_nothing_beside_it(tmp_path: Path) -> None:
    found = told(benchmark({BASE: [0.2], "bare": [0.3, 0.31], "instructions": [0.6, 0.61]}), bare="none")
    for name in ("one", "two"):
        answer.write(tmp_path / name, found)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two")]
    assert files[0] == files[1]
    text = files[0]["answer.html"].decode()
    assert "Instruction tuning helped" in text
    assert 'src="data:image/png' in text
    assert "http" not in text.replace("http-equiv", "")


@pytest.mark.parametrize("left_out", [[], ["inference"]])
def test_equal_runs_are_gathered_from_their_checkouts_and_show_no_difference(
    project: Project, tmp_path: Path, left_out: list[str]
) -> None:
    own = grid(leave_out=left_out)
    made = runs(own, "small")
    for run in made:
        (tmp_path / run.name).symlink_to(project.root)
    found = story.gather(own, made[:-1], tmp_path, len(made))
    pairs = {(one.variant, one.against): one for one in found.differences if one.measured == "valid answer"}
    assert pairs["instructions", "bare"].mean == 0
    assert pairs["instructions", "bare"].verdict is Verdict.NONE
    assert {one.name: one.runs for one in found.trained} == {"instructions": 2, "bare": 1}
    assert (
        0
        < found.trained[0].tokens
        <= json.loads((project.root / "models/tuned/training.json").read_text())["tokens"] * 1.01
    )
    assert found.suites == ["inference"]
    assert found.own[made[1].name] == found.own[made[2].name]
    assert found.own[made[1].name]["exact answer"] == pytest.approx(
        found.means["exact answer", ""]["bare"].mean, abs=1e-6
    )
    assert "1 run of this grid failed" in conclusions.sentences(found)[-1]
    assert set(found.spreads) == {BASE, "instructions", "bare"}


def test_runs_of_other_documents_are_not_compared(project: Project, tmp_path: Path) -> None:
    own = grid()
    made = runs(own, "small")[:2]
    (tmp_path / made[0].name).symlink_to(project.root)
    other = tmp_path / made[1].name / "reports/evaluate/tuned/inference"
    shutil.copytree(project.root / "reports/evaluate/tuned/inference", other)
    lines = (other / "samples.jsonl").read_text().splitlines(keepends=True)
    (other / "samples.jsonl").write_text("".join(lines[1:]))
    with pytest.raises(UserError, match="small-bare-s1: other documents of inference"):
        story.gather(own, made, tmp_path, 2)


def test_without_a_run_of_the_reference_there_is_no_answer(tmp_path: Path) -> None:
    own = grid()
    with pytest.raises(UserError, match="no run of the reference 'instructions' is there"):
        story.gather(own, [run for run in runs(own, "small") if run.variant == "bare"], tmp_path, 4)
