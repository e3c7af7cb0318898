import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import ModelCard

from tasks.errors import UserError
from tasks.report import answers, conclusions, page, samples, spread
from tasks.report.__main__ import compare_two, run
from tasks.report.compare import Comparison, by_suite, called, compare, corrected, pairs, summary
from tasks.statistics import Verdict
from tests.data_fixtures import write_params

BETTER = Comparison(
    "inference", "follows", "rank", "accuracy", 40, 0.5, 0.75, 0.1, 0.4, 0.01, Verdict.BETTER, None, 0.5, 0.5
)
WORSE = replace(BETTER, task="relation", measure="exact_match", tuned=0.25, low=-0.4, high=-0.1, verdict=Verdict.WORSE)
UNCERTAIN = replace(BETTER, task="unsure", tuned=0.45, low=-0.2, high=0.1, p=0.9, verdict=Verdict.NONE)

BENCHMARKS = Path("data/render/benchmarks")
MARKS = Path("data/render/contamination/marks.json")


def ranked(right: list[int], answer: str = "yes", benchmark: str = "inference_follows_rank") -> list[dict[str, Any]]:
    shared = {"benchmark": benchmark, "template": "t", "answer": answer, "expected": "yes"}
    return [{**shared, "document": f"d{number:03}", "accuracy": hit} for number, hit in enumerate(right)]


def generated(right: list[int], answer: str = "yes") -> list[dict[str, Any]]:
    rows = ranked(right, answer, "inference_follows_generate")
    return [row | {"exact_match": row.pop("accuracy"), "valid_answer": 1} for row in rows]


def write_results(base: list[dict[str, Any]], tuned: list[dict[str, Any]]) -> None:
    for model, rows in (("base", base), ("tuned", tuned)):
        folder = Path("reports/evaluate") / model / "inference"
        folder.mkdir(parents=True, exist_ok=True)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / "samples.jsonl").write_text(text, encoding="utf-8")


HISTORY = [{"step": step, "loss": 3 - step / 20} for step in range(1, 31)]

FACTS: dict[str, Any] = {
    "models/tuned/training.json": {
        "tokens": 12_345, "supervised_tokens": 678, "fingerprint": "0123456789abcdef", "chat_hash": "c0ffee",
        "steps": 30,
        "best_step": 20, "validation_loss": 2.25,
    },
    "models/tuned/history.json": [*HISTORY[:-1], HISTORY[-1] | {"validation_loss": 2.25}],
    "models/tuned/inputs.json": {
        "base": "ba5e", "shards": "54a4d5", "code": {}, "versions": {"torch": "2"},
        "params": {
            "compute": {"dtype": "auto"},
            "train": {
                "epochs": 1, "max_steps": None, "rows_per_step": 1, "learning_rate": 0.1, "schedule": "linear",
                "warmup_share": 0.1, "seed": 17,
                "lora": {"r": 16, "alpha": 32, "dropout": 0, "target_modules": "all-linear"},
            },
        },
    },
    "models/base/source.json": {
        "file": "small.gguf", "name": "package", "source": "package", "revision": "1", "parameters": 135_000_000
    },
    "data/render/mixture.json": {
        "got": 560, "clusters": {"topic": 300, "sentiment": 260}, "kinds": {"direct": 560}, "options": 5, "few_shot": 0,
        "tasks": {"news": {"asked": 300, "got": 300}, "mood": {"asked": 260, "got": 260}},
    },
    "data/render/contamination/marks.json": {},
}  # fmt: skip


def write_facts() -> None:
    for name, value in FACTS.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(json.dumps(value))
    Path("models/tuned/adapter_model.safetensors").write_bytes(b"weights")
    Path("data/render/contamination/dropped.jsonl").touch()
    Path("data/ingest").mkdir(parents=True)


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
    results = Path("reports/evaluate")
    return compare(pairs(results / "base", results / "tuned", BENCHMARKS / "inference"), BENCHMARKS, MARKS)


def write_documents(*rows: dict[str, Any]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (BENCHMARKS / "inference/follows.jsonl").write_text(text)


def test_every_measure_of_a_task_is_compared_on_its_documents() -> None:
    found = {item.measure: item for item in compared()}
    assert (found["accuracy"].base, found["accuracy"].tuned, found["accuracy"].difference) == (0.5, 0.75, 0.25)
    assert (found["exact_match"].difference, found["valid_answer"].difference) == (1.0, 0.0)
    assert {(item.task, item.documents) for item in found.values()} == {("follows", 40)}


def test_a_comparison_carries_the_scores_without_a_model() -> None:
    found = {item.measure: (item.majority_class, item.first_option) for item in compared()}
    assert found == {"accuracy": (0.5, 0.45), "exact_match": (0.5, 0.45), "valid_answer": (None, None)}


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


def test_models_that_answered_through_other_backends_are_not_compared() -> None:
    told = json.dumps({"measured": {"backend": "vllm"}})
    Path("reports/evaluate/tuned/inference/results.json").write_text(told, encoding="utf-8")
    with pytest.raises(UserError, match=r"answered through vllm, .*base/inference through own .*: not comparable"):
        compared()


def test_an_answer_may_hold_any_line_separator() -> None:
    write_results(ranked([1] * 40, "a\u2028b"), ranked([1] * 40))
    assert [item.documents for item in compared()] == [40]


def test_missing_results_are_told_with_the_command_that_makes_them() -> None:
    Path("reports/evaluate/tuned/inference/samples.jsonl").unlink()
    with pytest.raises(UserError, match=r"tuned/inference/samples\.jsonl: no results yet; run: dvc repro evaluate"):
        run()


def test_any_number_of_a_document_is_a_measure() -> None:
    rows = [
        row | {"words_kept": hit / 2, "stopped": True}
        for row, hit in zip(generated([1] * 40), [1, 2] * 20, strict=True)
    ]
    write_results(rows, rows)
    found = {item.measure: item.base for item in compared()}
    assert found == {"exact_match": 1, "valid_answer": 1, "words_kept": 0.75, "stopped": 1}


def test_a_foreign_benchmark_needs_neither_suite_json_nor_a_form() -> None:
    (BENCHMARKS / "inference/suite.json").unlink()
    rows = [row | {"acc_norm": row.pop("accuracy")} for row in ranked([1, 0] * 20, benchmark="arc_easy")]
    write_results(rows, rows)
    [found] = compared()
    assert (found.name, found.measure, found.majority_class) == ("inference / arc_easy", "acc_norm", None)


@pytest.mark.parametrize(
    ("benchmark", "task", "form"),
    [("nli_follows_rank", "follows", "rank"), ("nli_a_b_templates", "a_b", "templates"), ("arc_easy", "arc_easy", "")],
)
def test_a_benchmark_s_name_tells_its_task_and_form(benchmark: str, task: str, form: str) -> None:
    assert samples.asked(benchmark, "nli") == (task, form)


def test_forms_of_a_task_are_apart_in_every_table() -> None:
    rows = ranked([1, 0] * 20) + ranked([1] * 40, benchmark="inference_follows_unlisted")
    write_results(rows, rows)
    assert [item.measured for item in compared()] == ["rank accuracy", "rank accuracy, options not listed"]
    run()
    told = json.loads(Path("reports/report/summary.json").read_text())["inference"]
    assert (told["accuracy"]["base"], told["accuracy_unlisted"]["base"]) == (0.5, 1)


def test_of_documents_in_every_wording_only_the_agreement_of_answers_is_compared() -> None:
    rows = [row | {"consistency": 0.5, "stopped": 1} for row in generated([1, 0] * 20)]
    every = [row | {"benchmark": "inference_follows_templates"} for row in rows]
    write_results(every, every)
    assert [item.measured for item in compared()] == ["same answer in other wordings"]


def test_a_measure_that_falls_when_a_model_improves_is_better_when_lower() -> None:
    before, after = ([row | {"ter": row.pop("accuracy")} for row in ranked(right)] for right in ([1] * 40, [0] * 40))
    write_results(before, after)
    [found] = compared()
    assert (found.difference, found.verdict) == (-1, Verdict.BETTER)


def test_a_planted_regression_is_called_worse_with_a_small_p_value() -> None:
    right = ranked([1] * 28 + [0] * 12)
    write_results(right + generated([1] * 30 + [0] * 10), right + generated([1] * 12 + [0] * 28))
    found = {item.measure: item for item in compared()}
    assert found["exact_match"].verdict is Verdict.WORSE
    assert found["exact_match"].p < 0.001
    assert {found[name].verdict for name in ("accuracy", "valid_answer")} == {Verdict.NONE}


def test_verdicts_are_corrected_for_all_comparisons() -> None:
    alone = replace(BETTER, p=0.02)
    assert [item.verdict for item in corrected([alone])] == [Verdict.BETTER]
    assert {item.verdict for item in corrected([alone, UNCERTAIN, UNCERTAIN])} == {Verdict.NONE}


def test_one_record_in_many_templates_counts_as_one() -> None:
    base, tuned = (
        [row | {"template": name} for name in "abcde" for row in ranked(right)] for right in ([0] * 5, [1] * 5)
    )
    write_results(base, tuned)
    [found] = compared()
    assert (found.documents, found.p) == (25, pytest.approx(2 / 2**5))


def test_documents_with_the_same_choices_belong_together_unless_these_are_labels() -> None:
    keys = [(f"d{number}", "t") for number in range(6)]
    mirrored = {key: {"choices": [f"a{place // 2}", "b"][:: 1 if place % 2 else -1]} for place, key in enumerate(keys)}
    labels = {key: {"choices": ["yes", "no"]} for key in keys}
    assert samples.groups(keys, mirrored) == [0, 0, 1, 1, 2, 2]
    assert samples.groups(keys, labels) == samples.groups(keys, {}) == [0, 1, 2, 3, 4, 5]


def test_the_clean_score_leaves_out_the_marked_documents() -> None:
    MARKS.write_text(json.dumps({"inference/follows": [f"d{number:03}" for number in range(20)]}))
    clean = {item.measure: item.clean for item in compared()}["accuracy"]
    assert clean is not None
    assert (clean.documents, clean.before, clean.after) == (20, 0.5, 0.5)
    run()
    assert re.search(r"inference / follows +\| rank accuracy +\| 20 ", Path("reports/report/report.md").read_text())
    assert "20 of 40" in Path("reports/report/report.html").read_text()


def test_without_marked_documents_there_is_no_clean_score() -> None:
    assert {item.clean for item in compared()} == {None}


def test_a_suite_s_score_is_the_mean_over_its_tasks() -> None:
    [pair] = [pair for pair in pairs(*(Path("reports/evaluate", name) for name in ("base", "tuned")),
                                     BENCHMARKS / "inference") if pair.measure == "accuracy"]  # fmt: skip
    other = replace(pair, task="relation", before=np.zeros(40), after=np.ones(40))
    [mean] = by_suite([pair, other])
    assert (mean.base, mean.tuned) == (0.25, 0.875)
    assert mean.low < 0.625 < mean.high
    assert summary([mean]) == {"inference": {"accuracy": {"base": 0.25, "tuned": 0.875, "gain": 0.625}}}


def test_any_two_models_are_compared_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    compare_two(Path("reports/evaluate/tuned"), Path("reports/evaluate/base"), BENCHMARKS, MARKS.parent)
    [row] = [line for line in capsys.readouterr().out.splitlines() if "exact answer" in line]
    assert [cell.strip() for cell in row.split("|")][4:9] == [
        "1.000", "0.000", "-1.000 (-1.000 to -1.000)", "<0.001", "worse"
    ]  # fmt: skip


def test_two_models_in_folders_of_one_name_are_told_apart_by_the_shortest_path(
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree("reports", "old/reports")
    compare_two(Path("reports/evaluate/base"), Path("old/reports/evaluate/base"), BENCHMARKS, MARKS.parent)
    here = f"{Path.cwd().name}/reports/evaluate/base"
    assert f"| {here} | old/reports/evaluate/base |" in capsys.readouterr().out
    assert called(Path("a/tuned"), Path("b/base")) == ("tuned", "base")
    assert called(Path("/tuned"), Path("/a/tuned")) == ("/tuned", "a/tuned")
    assert called(Path("base"), Path("base")) == ("base", "base")


@pytest.mark.parametrize("folder", ["reports", "reports/evaluate/tuned/inference", "gone"])
def test_a_folder_without_a_model_s_results_is_told_with_what_one_holds(folder: str) -> None:
    with pytest.raises(UserError, match=rf"^{folder}: holds no results on inference: .* folder with samples\.jsonl"):
        compare_two(Path("reports/evaluate/base"), Path(folder), BENCHMARKS, MARKS.parent)


@pytest.mark.parametrize(
    ("line", "fault"),
    [(b"{", "no valid JSON"), (b'"\xff"', "no valid JSON"), (b"[1]", "no result of a document"), (b"{}", "no result")],
)
def test_a_damaged_line_of_results_is_told_with_its_place(line: bytes, fault: str) -> None:
    path = Path("reports/evaluate/base/inference/samples.jsonl")
    path.write_bytes(b"".join([*path.read_bytes().splitlines(keepends=True)[:2], line]))
    with pytest.raises(UserError, match=rf"^{path}:3: {fault}.* damaged$"):
        compare_two(path.parent.parent, Path("reports/evaluate/tuned"), BENCHMARKS, MARKS.parent)


def test_conclusions_tell_what_is_better_what_is_worse_and_what_is_only_lower() -> None:
    found = conclusions.results([BETTER, WORSE, UNCERTAIN])
    assert found[0].startswith("Of 3 comparisons, 1 show the tuned model better, 1 worse, and 1 no difference")
    assert "Rank accuracy: better on 1, no difference shown on 1 of 2 benchmarks." in found
    assert "The tuned model's exact answer scores above the most frequent answer alone on 0 of 1 benchmark." in found
    assert conclusions.losses([BETTER, WORSE, UNCERTAIN]) == (
        "Shown to be worse: inference / relation (exact answer, -0.250)."
        " Lower scores, without a difference shown: inference / unsure (rank accuracy, -0.050)."
    )
    assert conclusions.losses([BETTER]) == "Nowhere was it shown to be worse."


def test_the_table_has_a_row_for_each_comparison() -> None:
    *_, row = page.table([BETTER]).splitlines()
    expected = ["inference / follows", "rank accuracy", "40", "0.500", "0.750", "+0.250 (+0.100 to +0.400)"]
    assert [cell.strip() for cell in row.strip("|").split("|")] == [*expected, "0.010", "better", "0.500"]
    assert len(page.table([BETTER, WORSE, UNCERTAIN]).splitlines()) == 2 + 3


def test_the_report_tells_what_was_trained_and_shows_answers_side_by_side() -> None:
    run()
    text = Path("reports/report/report.md").read_text(encoding="utf-8")
    assert "small.gguf with a LoRA adapter, trained on 560 examples (12,345 tokens, of which 678 are learnt)" in text
    assert "- `d000` (wrong before, right now) expects **yes**; base: “perhaps”; tuned: “yes”" in text
    assert text.count("expects **") == answers.SHOWN


def test_answers_of_every_kind_are_shown_and_none_of_a_ranking() -> None:
    before, after = [1] * 30 + [0] * 10, [1] * 2 + [0] * 28 + [1] * 3 + [0] * 7
    write_results(ranked([1] * 40) + generated(before), ranked([1] * 40) + generated(after))
    chosen = answers.choose(Path("reports/evaluate/base"), Path("reports/evaluate/tuned"), [BENCHMARKS / "inference"])
    kinds = [answer.kind for answer in chosen]
    assert {kind: kinds.count(kind) for kind in answers.Kind} == dict(zip(answers.Kind, (8, 3, 7, 2), strict=True))
    assert {answer.benchmark for answer in chosen} == {"inference_follows_generate"}


def test_an_answer_is_shown_with_its_instruction() -> None:
    write_documents(
        *({"id": f"d{number:03}", "template": "t", "prompt": f"Prompt <{number}>."} for number in range(40))
    )
    run()
    assert "Prompt &lt;0&gt;." in Path("reports/report/report.html").read_text(encoding="utf-8")


def test_scores_are_spread_over_templates() -> None:
    base, tuned = (ranked(right) for right in ([1, 0] * 20, [1] * 40))
    for number, (before, after) in enumerate(zip(base, tuned, strict=True)):
        before["template"] = after["template"] = "odd" if number % 2 else "even"
    write_results(base, tuned)
    [pair] = pairs(Path("reports/evaluate/base"), Path("reports/evaluate/tuned"), BENCHMARKS / "inference")
    found = spread.over_templates(pair)
    assert found is not None
    assert [(one.template, one.documents, one.base) for one in found.wordings] == [("even", 20, 1), ("odd", 20, 0)]
    assert (found.base, found.tuned) == (0.5, 0)


def test_where_documents_are_asked_in_every_wording_the_spread_is_of_these_alone() -> None:
    two = [row | {"template": name} for name in "ab" for row in ranked([1, 0])]
    every = [row | {"benchmark": "inference_follows_templates"} for row in two]
    write_results(two + every, two + every)
    found = pairs(Path("reports/evaluate/base"), Path("reports/evaluate/tuned"), BENCHMARKS / "inference")
    assert [told.form for told in spread.of_all(found)] == ["templates"]


def test_measures_beyond_one_have_a_scale_of_their_own() -> None:
    rows = ranked([1, 0] * 20)
    write_results([row | {"bleu": 10 * number} for number, row in enumerate(rows)],
                  [row | {"bleu": 11 * number} for number, row in enumerate(rows)])  # fmt: skip
    run()
    axes = re.findall(r">([^<]+)</text>", Path("reports/report/report.html").read_text(encoding="utf-8"))
    assert {"+20", "+0.1"} <= set(axes)


def test_the_model_card_is_one_that_hubs_read() -> None:
    run()
    card = ModelCard.load(Path("reports/report/MODEL_CARD.md"))
    told = {(result.dataset_type, result.metric_type): result.metric_value for result in card.data.eval_results}
    assert told["inference_follows_rank", "accuracy"] == 0.75
    assert (card.data.library_name, card.data.base_model) == ("peft", None)
    assert all(f"## {part}" in card.text for part in ("Base and licence", "Data", "Training", "Results", "Limits"))


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
    names = sorted(path.name for path in Path("one").iterdir())
    assert names == [
        "MODEL_CARD.md", "comparison.csv", "data.json", "data_card.md", "gains.png", "report.html", "report.md",
        "summary.json", "table.md",
    ]  # fmt: skip
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
