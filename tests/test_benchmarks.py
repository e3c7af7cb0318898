import json
import shutil
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks.errors import UserError
from tasks.examples import read_examples
from tasks.params import Render
from tasks.records import Record, write_records
from tasks.render.__main__ import run
from tasks.render.benchmarks import Document, balanced, without_a_model, write_suite
from tasks.render.templates import Bank, Template, load_bank
from tests.data_fixtures import record, starter_records, write_params
from tests.rendered import render

HELD_OUT = ["inference", "commonsense"]
BENCHMARKS = ["follows", "relation", "cause_or_effect", "everyday_method"]


@cache
def starter_lines() -> list[Record]:
    return [one for rows in starter_records().values() for one in rows]


@pytest.fixture(scope="module")
def starter_rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the starter mixture was rendered with its usual hold-out."""
    home = tmp_path_factory.mktemp("starter")
    source = {"format": "starter", "path": "tasks/ingest/starter"}
    wanted = {"examples": 560, "held_out": HELD_OUT, "related": {"inference": ["paraphrase"]}, "documents": 150}
    write_params(home, ingest={"sources": {"starter": source}}, render=wanted)
    (home / "data" / "ingest" / "starter").mkdir(parents=True)
    write_records(home / "data" / "ingest" / "starter" / "records.parquet", starter_lines())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run()
    return home


def read(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return [example._asdict() for example in read_examples(path)]
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def documents(home: Path, task: str) -> list[dict[str, Any]]:
    [path] = home.glob(f"data/render/benchmarks/*/{task}.jsonl")
    return read(path)


def sentiment(number: int) -> Record:
    fields = {"text": f"Text {number}."}
    identity = f"toy/review_polarity/{number}"
    options = ["positive", "negative"]
    return Record(identity, "review_polarity", "sentiment", "toy", "CC0-1.0", fields, [options[number % 2]], options)


TOY = [*(record(n, "yes" if n % 3 else "no") for n in range(30)), *(sentiment(n) for n in range(20))]


def test_labels_are_balanced_at_the_size_of_the_rarest() -> None:
    rows = [record(number, "no" if number < 7 else "yes") for number in range(50)]
    assert Counter(row.output for row in balanced(rows, 100, 17)) == {"yes": 7, "no": 7}


def test_where_options_differ_the_place_of_the_right_one_is_balanced() -> None:
    rows = [record(n, f"a{n}", (f"a{n}", f"b{n}") if n < 20 else (f"b{n}", f"a{n}")) for n in range(50)]
    assert Counter(row.options.index(row.output) for row in balanced(rows, 100, 17)) == {0: 20, 1: 20}


def test_a_few_longer_option_lists_do_not_limit_the_rest() -> None:
    pairs = [record(n, f"a{n}", (f"a{n}", f"b{n}") if n % 2 else (f"b{n}", f"a{n}")) for n in range(40)]
    triples = [record(n, f"a{n}", (f"b{n}", f"c{n}", f"a{n}")) for n in range(40, 43)]
    chosen = balanced([*pairs, *triples], 43, 17)
    assert Counter((len(row.options), row.options.index(row.output)) for row in chosen) == {
        (2, 0): 20,
        (2, 1): 20,
        (3, 2): 3,
    }


def test_there_are_never_more_documents_than_asked_for() -> None:
    rows = [record(number, ("yes", "no")[number % 2]) for number in range(50)]
    assert [len(balanced(rows, asked, 17)) for asked in (2, 5, 20, 500)] == [2, 4, 20, 50]


def test_any_first_part_of_the_documents_is_balanced_too() -> None:
    rows = [record(number, ("yes", "no")[number % 2]) for number in range(50)]
    assert Counter(row.output for row in balanced(rows, 40, 17)[:10]) == {"yes": 5, "no": 5}


def test_documents_depend_on_seed_and_ids_but_not_on_the_order() -> None:
    rows = [record(number, ("yes", "no")[number % 2]) for number in range(50)]
    assert balanced(rows, 20, 17) == balanced(rows[::-1], 20, 17)
    assert balanced(rows, 20, 17) != balanced(rows, 20, 18)


def wanted(documents: int, **changes: Any) -> Render:
    return Render(examples=1, held_out=["inference"], documents=documents, **changes)


def document(gold: int, choices: tuple[str, ...] = ("yes", "no")) -> Document:
    return Document("id", "template", "prompt", list(choices), gold, choices[gold])


def test_the_majority_class_of_fixed_labels_is_the_most_frequent_answer() -> None:
    told = without_a_model([document(0), document(1, ("no", "yes")), document(0), document(1)])
    assert told == {"documents": 4, "chance": 0.5, "majority_class": 0.75, "first_option": 0.5}


def test_the_majority_class_of_free_options_is_the_most_frequent_place() -> None:
    told = without_a_model([document(0, ("a", "b")), document(0, ("c", "d")), document(1, ("e", "f"))])
    assert told == {"documents": 3, "chance": 0.5, "majority_class": 0.6667, "first_option": 0.6667}


def test_templates_with_options_take_turns_and_no_other_is_used(tmp_path: Path) -> None:
    listed = [Template(id=name, prompt=name + " {{ premise }} {{ options_list }}") for name in ("one", "two")]
    others = [
        Template(id="plain", prompt="{{ premise }}"),
        Template(id="back", kind="inverted", prompt="{{ options }}"),
    ]
    rows = [record(number, ("yes", "no")[number % 2]) for number in range(8)]
    write_suite(
        tmp_path / "inference", Path("home/inference"), rows, Bank(tmp_path, {"follows": listed + others}), wanted(8)
    )
    assert [row["template"] for row in read(tmp_path / "inference" / "follows.jsonl")] == ["one", "two"] * 4


def test_documents_are_also_asked_without_options_and_a_few_in_every_template_that_lists_them(tmp_path: Path) -> None:
    bank = load_bank()
    write_suite(tmp_path / "inference", Path("home/inference"), TOY[:30], bank, wanted(20))
    listed, unlisted, several = (
        read(tmp_path / "inference" / f"follows{name}.jsonl") for name in ("", "_unlisted", "_templates")
    )
    by_name = {template.id: template for template in bank.templates["follows"]}
    assert [row["id"] for row in unlisted] == [row["id"] for row in listed]
    assert {by_name[row["template"]].lists_options for row in unlisted} == {False}
    direct = {template.id for template in by_name.values() if template.kind == "direct" and template.lists_options}
    asked = Counter(row["id"] for row in several)
    assert asked == {row["id"]: len(direct) for row in listed[:12]}
    assert {row["template"] for row in several} == direct


def test_a_task_with_one_template_has_no_benchmark_of_wordings(tmp_path: Path) -> None:
    bank = Bank(tmp_path, {"follows": [Template(id="one", prompt="{{ premise }} {{ options_list }}")]})
    write_suite(tmp_path / "inference", Path("home/inference"), TOY[:30], bank, wanted(8))
    assert {path.stem for path in (tmp_path / "inference").glob("*.yaml")} == {"follows_rank", "follows_generate"}


def test_a_task_is_asked_in_the_forms_that_are_wanted_by_its_name_too(tmp_path: Path) -> None:
    forms = ["named", "generate"]
    write_suite(tmp_path / "inference", Path("home/inference"), TOY[:30], load_bank(), wanted(8, forms=forms))
    assert {path.stem for path in (tmp_path / "inference").glob("*.yaml")} == {"follows_named", "follows_generate"}
    first = read(tmp_path / "inference" / "follows_named.jsonl")[0]
    assert first["prompt"].startswith("[inference: follows] Premise ")
    assert "OPTIONS" not in first["prompt"]


def test_a_suite_s_page_tells_sizes_chance_and_licences(tmp_path: Path) -> None:
    write_suite(tmp_path / "inference", Path("home/inference"), TOY[:30], load_bank(), wanted(8))
    assert "| follows | 8 | 0.500 | 0.500 | CC0-1.0 |" in (tmp_path / "inference" / "README.md").read_text()


def test_a_task_without_a_template_to_evaluate_in_is_refused(tmp_path: Path) -> None:
    bank = Bank(tmp_path, {"follows": [Template(id="plain", prompt="{{ premise }}")]})
    with pytest.raises(UserError, match="'follows' is held out and has no direct template with options"):
        write_suite(tmp_path / "inference", Path("home/inference"), TOY[:30], bank, wanted(8))


def test_a_cluster_without_options_cannot_be_a_benchmark(tmp_path: Path) -> None:
    free = [record(number, options=()) for number in range(5)]
    with pytest.raises(UserError, match=r"render\.held_out: cluster 'inference' has no task with options"):
        write_suite(tmp_path / "inference", Path("home/inference"), free, load_bank(), wanted(8))


def test_fewer_documents_than_labels_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"render\.documents"):
        write_suite(tmp_path / "inference", Path("home/inference"), TOY[:30], load_bank(), wanted(1))


def test_nothing_of_a_held_out_cluster_is_trained_on(tmp_path: Path) -> None:
    examples = read(render(tmp_path, TOY) / "examples.parquet")
    assert {row["cluster"] for row in examples} == {"sentiment"}
    assert len(examples) == 20


def test_where_nothing_is_left_to_train_on_it_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no record is left to train on"):
        render(tmp_path, TOY, related={"inference": ["sentiment"]})
    assert not (tmp_path / "data" / "render").exists()


def test_an_unknown_held_out_cluster_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"render\.held_out: topic: unknown; there are inference, sentiment"):
        render(tmp_path, TOY, held_out=["inference", "topic"])


def test_an_unknown_related_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"render\.related"):
        render(tmp_path, TOY, related={"inference": ["sentimnet"]})


def test_a_failed_run_leaves_the_previous_examples(tmp_path: Path) -> None:
    before = (render(tmp_path, TOY) / "examples.parquet").read_bytes()
    free = [record(number, options=()) for number in range(5)]
    with pytest.raises(UserError, match="no task with options"):
        render(tmp_path, [*free, *TOY[30:]], seed=18)
    assert (tmp_path / "data" / "render" / "examples.parquet").read_bytes() == before


def test_a_source_that_is_not_ingested_yet_is_named(tmp_path: Path) -> None:
    render(tmp_path, TOY)
    shutil.rmtree(tmp_path / "data" / "ingest")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(UserError, match="no records of toy yet"):
        patch.chdir(tmp_path)
        run()


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        render(tmp_path / name, TOY)
    one, two = (sorted((tmp_path / name).rglob("render/**/*.*")) for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert len(one) == 16


@pytest.mark.parametrize("task", BENCHMARKS)
def test_each_default_benchmark_has_150_distinct_balanced_documents(starter_rendered: Path, task: str) -> None:
    rows = documents(starter_rendered, task)
    assert len({row["id"] for row in rows}) == len(rows) >= 150
    assert len({row["prompt"] for row in rows}) == len(rows)
    fixed = len({tuple(sorted(row["choices"])) for row in rows}) == 1
    assert len(set(Counter(row["answer" if fixed else "gold"] for row in rows).values())) == 1


@pytest.mark.parametrize("task", BENCHMARKS)
def test_a_document_s_prompt_shows_every_choice(starter_rendered: Path, task: str) -> None:
    for row in documents(starter_rendered, task):
        assert row["choices"][row["gold"]] == row["answer"]
        assert all(choice in row["prompt"] for choice in row["choices"]), row["id"]


def test_no_document_is_among_the_training_examples(starter_rendered: Path) -> None:
    examples = read(starter_rendered / "data" / "render" / "examples.parquet")
    asked = [row for task in BENCHMARKS for row in documents(starter_rendered, task)]
    assert len(examples) == 560
    assert not {row["record"] for row in examples} & {row["id"] for row in asked}
    assert not {row["turns"][0] for row in examples} & {row["prompt"] for row in asked}
    assert not {row["cluster"] for row in examples} & {*HELD_OUT, "paraphrase"}


def test_every_yaml_is_a_benchmark_on_documents_at_a_relative_path(starter_rendered: Path) -> None:
    files = sorted(starter_rendered.glob("data/render/benchmarks/*/*.yaml"))
    assert len(files) == 4 * len(BENCHMARKS)
    for file in files:
        benchmark = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert benchmark["task"] == f"{file.parent.name}_{file.stem}"
        named = Path(benchmark["dataset_kwargs"]["data_files"]["test"])
        assert not named.is_absolute()
        assert (starter_rendered / named).is_file()


def test_a_benchmark_reads_only_what_a_document_has(starter_rendered: Path) -> None:
    for file in starter_rendered.glob("data/render/benchmarks/*/*.yaml"):
        benchmark = yaml.safe_load(file.read_text(encoding="utf-8"))
        [first, *_] = read(starter_rendered / benchmark["dataset_kwargs"]["data_files"]["test"])
        assert {value for key, value in benchmark.items() if key.startswith("doc_to")} <= first.keys()


def test_the_scores_without_a_model_are_those_of_the_documents(starter_rendered: Path) -> None:
    told = json.loads((starter_rendered / "data/render/benchmarks/inference/suite.json").read_text())
    rows = documents(starter_rendered, "relation")
    assert sorted(told) == ["follows", "relation"]
    assert told["relation"]["documents"] == len(rows)
    assert told["relation"]["majority_class"] == round(1 / 3, 4)
    assert told["relation"]["first_option"] == round(sum(row["gold"] == 0 for row in rows) / len(rows), 4)


def test_the_mixture_tells_what_the_examples_are(starter_rendered: Path) -> None:
    mixture = json.loads((starter_rendered / "data" / "render" / "mixture.json").read_text())
    examples = read(starter_rendered / "data" / "render" / "examples.parquet")
    assert (mixture["asked"], mixture["got"]) == (560, len(examples))
    assert mixture["clusters"] == Counter(row["cluster"] for row in examples)
    got = Counter(row["task"] for row in examples)
    assert {task: counts["got"] for task, counts in mixture["tasks"].items()} == got
