import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tasks.errors import UserError
from tasks.report import page
from tasks.report.__main__ import run
from tasks.report.compare import Comparison, by_suite, compare, interval
from tests.data_fixtures import write_params

BETTER = Comparison("inference", "follows", "accuracy", 40, 0.5, 0.75, 0.1, 0.4, 0.5, 0.5)
WORSE = replace(BETTER, task="relation", measure="exact_match", tuned=0.25, low=-0.4, high=-0.1)
UNCERTAIN = replace(BETTER, task="unsure", tuned=0.55, low=-0.1, high=0.2)


def ranked(right: list[int], answer: str = "yes", benchmark: str = "inference_follows_rank") -> list[dict[str, Any]]:
    shared = {"benchmark": benchmark, "template": "t", "answer": answer, "expected": "yes"}
    return [{**shared, "document": f"d{number:03}", "accuracy": hit} for number, hit in enumerate(right)]


def generated(right: list[int], answer: str = "yes") -> list[dict[str, Any]]:
    rows = ranked(right, answer, "inference_follows_generate")
    return [{"exact_match": row.pop("accuracy"), "valid_answer": 1} | row for row in rows]


def write_results(base: list[dict[str, Any]], tuned: list[dict[str, Any]]) -> None:
    for model, rows in (("base", base), ("tuned", tuned)):
        folder = Path("reports/evaluate") / model / "inference"
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "samples.jsonl").write_text(text, encoding="utf-8")


def write_facts() -> None:
    facts = {
        "models/tuned/training.json": {"tokens": 12_345, "supervised_tokens": 678},
        "models/base/source.json": {"file": "small.gguf", "name": "package"},
        "data/render/mixture.json": {"got": 560, "clusters": {"topic": 300, "sentiment": 260}},
    }
    for name, value in facts.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(json.dumps(value))
    Path("data/render/contamination").mkdir(exist_ok=True)
    Path("data/render/contamination/dropped.jsonl").touch()


@pytest.fixture(autouse=True)
def evaluated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which base and tuned have answered one suite, with a planted gain."""
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path)
    suite = Path("data/render/benchmarks/inference/suite.json")
    suite.parent.mkdir(parents=True)
    suite.write_text(json.dumps({"follows": {"documents": 40, "majority_class": 0.5, "first_option": 0.45}}))
    write_facts()
    write_results(
        ranked([1, 0] * 20) + generated([0] * 40, "perhaps"), ranked([1] * 30 + [0] * 10) + generated([1] * 40)
    )


def compared() -> list[Comparison]:
    return compare(Path("reports/evaluate"), Path("data/render/benchmarks"), "inference")


def test_models_with_equal_answers_differ_by_zero() -> None:
    assert interval(np.zeros(50)) == (0.0, 0.0)


def test_a_planted_gain_has_an_interval_above_zero() -> None:
    low, high = interval(np.array([1] * 30 + [0] * 65 + [-1] * 5))
    assert 0 < low < 0.25 < high < 0.5


def test_a_planted_loss_has_an_interval_below_zero() -> None:
    low, high = interval(np.array([-1] * 30 + [0] * 65 + [1] * 5))
    assert -0.5 < low < -0.25 < high < 0


def test_as_many_gains_as_losses_show_no_difference() -> None:
    low, high = interval(np.array([1, -1, 0, 0] * 25))
    assert low < 0 < high


def test_more_documents_give_a_narrower_interval() -> None:
    few, many = interval(np.array([1, 0, -1] * 10)), interval(np.array([1, 0, -1] * 100))
    assert many[1] - many[0] < few[1] - few[0]


def test_the_interval_is_the_same_every_time() -> None:
    assert interval(np.array([1, 0, -1] * 10)) == interval(np.array([1, 0, -1] * 10))


def test_the_interval_is_close_to_that_of_the_normal_distribution() -> None:
    differences = np.array([1] * 120 + [0] * 240 + [-1] * 40)
    half = 1.96 * differences.std() / len(differences) ** 0.5
    assert interval(differences) == pytest.approx((0.2 - half, 0.2 + half), abs=0.01)


def test_every_measure_of_a_task_is_compared_on_its_documents() -> None:
    found = {item.measure: item for item in compared()}
    assert (found["accuracy"].base, found["accuracy"].tuned, found["accuracy"].difference) == (0.5, 0.75, 0.25)
    assert (found["exact_match"].difference, found["valid_answer"].difference) == (1.0, 0.0)
    assert {(item.task, item.documents) for item in found.values()} == {("follows", 40)}


def test_a_comparison_carries_the_scores_without_a_model() -> None:
    assert {(item.majority_class, item.first_option) for item in compared()} == {(0.5, 0.45)}


def test_the_order_of_the_documents_does_not_matter() -> None:
    before = compared()
    write_results((ranked([1, 0] * 20) + generated([0] * 40))[::-1], ranked([1] * 30 + [0] * 10) + generated([1] * 40))
    assert compared() == before


@pytest.mark.parametrize("tuned", [ranked([1] * 39), ranked([1] * 41), generated([1] * 40)])
def test_models_that_answered_other_documents_are_not_compared(tuned: list[dict[str, Any]]) -> None:
    write_results(ranked([1] * 40), tuned)
    with pytest.raises(UserError, match="base and tuned have other documents in inference_follows_"):
        compared()


def test_a_benchmark_that_only_the_tuned_model_answered_is_refused() -> None:
    write_results(ranked([1] * 40), ranked([1] * 40) + generated([1] * 40))
    with pytest.raises(UserError, match="other documents"):
        compared()


def test_an_answer_may_hold_any_line_separator() -> None:
    write_results(ranked([1] * 40, "a\u2028b"), ranked([1] * 40))
    assert [item.documents for item in compared()] == [40]


def test_missing_results_are_told_with_the_command_that_makes_them() -> None:
    Path("reports/evaluate/tuned/inference/samples.jsonl").unlink()
    with pytest.raises(UserError, match=r"tuned/inference/samples\.jsonl: no results yet; run: dvc repro evaluate"):
        run()


def test_a_suite_s_score_is_the_mean_over_its_tasks() -> None:
    other = replace(BETTER, task="relation", base=0.25, tuned=1.0)
    assert by_suite([BETTER, other]) == {"inference": {"accuracy": {"base": 0.375, "tuned": 0.875, "gain": 0.5}}}


def test_the_page_lists_what_is_better_and_what_is_worse() -> None:
    facts = {"model": "m", "examples": 1, "tokens": 1, "supervised_tokens": 1, "clusters": 1}
    text = page.page([BETTER, WORSE, UNCERTAIN], facts, [])
    assert "above zero: inference / follows (rank accuracy). Worse" in text
    assert "below zero: inference / relation (exact answer)." in text
    assert "Worse, with an interval below zero: none." in page.page([BETTER, UNCERTAIN], facts, [])


def test_the_table_has_a_row_for_each_comparison() -> None:
    *_, row = page.table([BETTER]).splitlines()
    expected = ["inference / follows", "rank accuracy", "40", "0.500", "0.750", "+0.250 (+0.100 to +0.400)"]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [*expected, "0.500", "0.500"]
    assert len(page.table([BETTER, WORSE, UNCERTAIN]).splitlines()) == 2 + 3


def test_a_valid_answer_has_no_majority_class() -> None:
    row = page.table([replace(BETTER, measure="valid_answer")]).splitlines()[-1]
    assert [cell.strip() for cell in row.split("|")][-3:-1] == ["–", "1.000"]


def test_the_report_tells_what_was_trained_and_shows_answers_side_by_side() -> None:
    run()
    text = Path("reports/report/report.md").read_text(encoding="utf-8")
    assert "small.gguf with a LoRA adapter, trained on 560 examples (12,345 tokens, of which 678 are learnt)" in text
    assert "- `d000` expects **yes**; base: “perhaps”; tuned: “yes”" in text
    assert text.count("expects **") == 3


def test_the_csv_has_a_row_for_each_benchmark_measure_and_model() -> None:
    run()
    with Path("reports/report/comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    name = "inference / follows (rank accuracy)"
    assert {"benchmark": name, "measure": "accuracy", "model": "tuned", "score": "0.75"} in rows
    assert [row["model"] for row in rows] == ["base", "tuned"] * 3


def test_the_summary_is_the_score_of_each_suite() -> None:
    run()
    told = json.loads(Path("reports/report/summary.json").read_text())
    assert told["inference"]["accuracy"] == {"base": 0.5, "tuned": 0.75, "gain": 0.25}


def test_the_same_results_give_the_same_bytes_the_picture_included() -> None:
    run(out=Path("one"))
    run(out=Path("two"))
    names = ["comparison.csv", "data.json", "data_card.md", "gains.png", "report.md", "summary.json", "table.md"]
    assert sorted(path.name for path in Path("one").iterdir()) == names
    assert [Path("one", name).read_bytes() for name in names] == [Path("two", name).read_bytes() for name in names]


def test_the_picture_depends_on_the_scores() -> None:
    page.draw([BETTER], Path("one.png"))
    page.draw([replace(BETTER, tuned=0.6)], Path("two.png"))
    assert Path("one.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert Path("one.png").read_bytes() != Path("two.png").read_bytes()


def test_results_of_suites_that_are_no_longer_asked_for_are_dropped() -> None:
    stale = Path("reports/evaluate/base/sentiment")
    stale.mkdir()
    run()
    assert not stale.exists()


def test_a_failed_report_leaves_the_previous_one() -> None:
    run()
    before = Path("reports/report/report.md").read_bytes()
    write_results(ranked([1] * 40), ranked([1] * 39))
    with pytest.raises(UserError):
        run()
    assert Path("reports/report/report.md").read_bytes() == before
