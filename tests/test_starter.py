from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import sheets
from tasks.errors import UserError
from tasks.ingest.formats import starter
from tasks.ingest.origin import Origin
from tasks.records import Record
from tests.data_fixtures import ORIGIN, STARTER, starter_files, starter_records

SHARED: dict[str, list[starter.Row]] = {
    "people": [{"name": name} for name in ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn")]
}


def write_task(folder: Path, *items: dict[str, Any], **more: object) -> Path:
    path = folder / "greetings" / "greet.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(yaml.safe_dump({"about": "Greet.", "items": list(items), **more}), encoding="utf-8")
    return path


def composed(folder: Path, *items: dict[str, Any], seed: int = 17, **more: object) -> list[Record]:
    path = write_task(folder, *items, **more)
    return list(
        starter.compose(
            path, sheets.read_as(starter.TaskFile, path), SHARED, Origin("toy", folder, "toy", "CC0-1.0", seed)
        )
    )


def item(text: str, output: str = "Hello.", **more: object) -> dict[str, Any]:
    return {"fields": {"text": text}, "output": output, **more}


def texts(records: list[Record]) -> list[str]:
    return [record.fields["text"] for record in records]


GREET = item("Greet {{ person.name }}.", "Hello, {{ person.name }}.", slots={"person": "people"})
NUMBER = item("Say {{ n }}.", "{{ n }}", slots={"n": {"low": 1, "high": 1_000}})


def test_the_same_seed_gives_the_same_records(tmp_path: Path) -> None:
    assert composed(tmp_path, GREET, NUMBER) == composed(tmp_path, GREET, NUMBER)


def test_another_seed_gives_other_records(tmp_path: Path) -> None:
    assert composed(tmp_path, NUMBER, seed=1) != composed(tmp_path, NUMBER, seed=2)


def test_a_new_item_leaves_the_other_items_records_alone(tmp_path: Path) -> None:
    alone, with_new = composed(tmp_path, NUMBER), composed(tmp_path, GREET, NUMBER)
    assert with_new[starter.DRAWS :] == alone


def test_a_skeleton_gives_at_most_three_records_all_different(tmp_path: Path) -> None:
    made = texts(composed(tmp_path, NUMBER))
    assert len(made) == len(set(made)) == starter.DRAWS == 3


def test_a_skeleton_with_fewer_fillings_gives_each_once(tmp_path: Path) -> None:
    assert sorted(texts(composed(tmp_path, item("{{ n }}", slots={"n": [1, 2]})))) == ["1", "2"]


def test_a_skeleton_without_slots_gives_one_record(tmp_path: Path) -> None:
    assert texts(composed(tmp_path, item("Greet me."))) == ["Greet me."]


def test_a_record_tells_task_and_cluster_by_file_and_folder(tmp_path: Path) -> None:
    [made] = composed(tmp_path, item("Greet me."))
    assert (made.task, made.cluster, made.source, made.licence) == ("greet", "greetings", "toy", "CC0-1.0")


@pytest.mark.parametrize("seed", range(10))
def test_two_slots_of_one_table_differ(tmp_path: Path, seed: int) -> None:
    both = item("{{ a.name }} {{ b.name }}", slots={"a": "people", "b": "people"})
    assert all(len(set(text.split())) == 2 for text in texts(composed(tmp_path, both, seed=seed)))


def test_where_keeps_only_the_draws_of_which_it_is_true(tmp_path: Path) -> None:
    odd = {**NUMBER, "where": "n % 2 == 1 and n > 500"}
    made = [int(record.output) for record in composed(tmp_path, odd)]
    assert len(made) == 3
    assert all(number % 2 and number > 500 for number in made)


def test_a_range_includes_both_ends_and_keeps_to_its_step(tmp_path: Path) -> None:
    made = texts(composed(tmp_path, item("{{ n }}", slots={"n": {"low": 5, "high": 15, "step": 5}})))
    assert sorted(made) == ["10", "15", "5"]


def test_a_task_s_own_table_goes_before_the_shared_one(tmp_path: Path) -> None:
    made = composed(tmp_path, GREET, tables={"people": [{"name": "Zoe"}]})
    assert texts(made) == ["Greet Zoe."]


def test_a_slot_that_no_text_uses_makes_no_record(tmp_path: Path) -> None:
    assert len(composed(tmp_path, item("Greet me.", slots={"person": "people"}))) == 1


def test_options_are_those_of_the_item_or_else_of_the_task_in_an_order_by_seed(tmp_path: Path) -> None:
    own, tasks_ = composed(tmp_path, item("a", "x", options=["x", "y"]), item("b", "yes"), options=["yes", "no"])
    assert (sorted(own.options), sorted(tasks_.options)) == (["x", "y"], ["no", "yes"])
    orders = {tuple(composed(tmp_path, item("a", "x", options=["x", "y"]), seed=n)[0].options) for n in range(20)}
    assert len(orders) == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (item("a", "maybe", options=["yes", "no"]), "the output 'maybe' is none of the options"),
        (item("a", "yes", options=["yes", "no", "yes"]), "an option stands twice"),
        (item("{{ who }}"), "'who' is undefined"),
        (item("a", "{{ '' }}"), "a field or the output is empty"),
        (item("{{ n }}", slots={"n": {"low": 5, "high": 1}}), "empty range"),
        (item("{{ n }}", slots={"n": "absent"}), "absent"),
    ],
)
def test_a_wrong_item_is_refused_with_its_file_and_text(tmp_path: Path, wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=r"greetings/greet\.yaml: item \{'text': ") as caught:
        composed(tmp_path, wrong)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        item("{{ a"),
        item("{{ n }}", slots={"n": [1]}, where="n >"),
        item("{{ n }}", slots={"n": ["one"]}, where="n > 1"),
        item("{{ 1 / n }}", slots={"n": [0]}),
        item("{{ a }}{{ b }}{{ c }}", slots={"a": "pair", "b": "pair", "c": "pair"}),
    ],
    ids=["text syntax", "where syntax", "where type", "division", "table too short"],
)
def test_an_item_that_cannot_be_filled_is_refused_with_its_file(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"greetings/greet\.yaml: "):
        composed(tmp_path, wrong, tables={"pair": [1, 2]})


def test_an_item_whose_condition_never_holds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"greetings/greet\.yaml: "):
        composed(tmp_path, GREET, {**NUMBER, "where": "n > 1000"})


def test_a_faulty_key_is_told_with_its_file_and_place(tmp_path: Path) -> None:
    path = write_task(tmp_path, item("a"), item("b", optoins=["x"]))
    with pytest.raises(UserError, match=r"greet\.yaml: items\.1\.optoins: "):
        sheets.read_as(starter.TaskFile, path)


@pytest.mark.parametrize("text", ["about: [", "", "about: x\nitems: []\n"])
def test_a_file_that_is_no_task_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "greet.yaml").write_text(text)
    with pytest.raises(UserError, match=r"greet\.yaml: "):
        sheets.read_as(starter.TaskFile, tmp_path / "greet.yaml")


@pytest.mark.parametrize("text", ["- [", "name: Ada\n"])
def test_a_faulty_shared_table_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "_tables").mkdir()
    (tmp_path / "_tables" / "people.yaml").write_text(text)
    with pytest.raises(UserError, match=r"people\.yaml"):
        starter.load_tables(tmp_path)


def test_a_folder_is_read_with_its_shared_tables(tmp_path: Path) -> None:
    write_task(tmp_path, GREET)
    (tmp_path / "_tables").mkdir()
    (tmp_path / "_tables" / "people.yaml").write_text("- name: Zoe\n")
    read = [usable.record for usable in starter.read(Origin("toy", tmp_path, "toy", "CC0-1.0"))]
    assert texts(read) == ["Greet Zoe."]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent: no such folder of task files"):
        list(starter.read(Origin("toy", tmp_path / "absent", "toy", "CC0-1.0")))


def tasks_with_labels() -> Iterator[tuple[str, list[Record]]]:
    for task, records in starter_records().items():
        if records[0].options and len({tuple(sorted(record.options)) for record in records}) == 1:
            yield task, records


def test_the_starter_is_a_mixture_of_many_clusters_and_tasks() -> None:
    records = [record for rows in starter_records().values() for record in rows]
    assert len({record.cluster for record in records}) >= 12
    assert len({record.task for record in records}) >= 36
    assert len(records) >= 6_000


def test_no_two_records_of_the_starter_say_the_same() -> None:
    ids = Counter(record.id for rows in starter_records().values() for record in rows)
    assert [name for name, count in ids.items() if count > 1] == []


def test_task_names_of_the_starter_are_unique() -> None:
    names = Counter(path.stem for path in STARTER.glob("[!_]*/*.yaml"))
    assert [name for name, count in names.items() if count > 1] == []


def test_no_skeleton_dominates_its_task() -> None:
    tables = starter.load_tables(STARTER)
    for path in STARTER.glob("[!_]*/*.yaml"):
        file, most = starter_files()[path.stem], 0.02 * len(starter_records()[path.stem])
        for one in file.items:
            alone = file.model_copy(update={"items": [one]})
            assert len(list(starter.compose(path, alone, tables, ORIGIN))) <= most, (path.stem, one.fields)


def test_every_skeleton_of_the_starter_gives_a_record() -> None:
    for task, file in starter_files().items():
        assert len(starter_records()[task]) >= len(file.items), task


def test_labels_are_balanced_within_15_percent_of_an_equal_share() -> None:
    for task, records in tasks_with_labels():
        equal, got = len(records) / len(records[0].options), Counter(record.output for record in records)
        assert all(abs(got[label] - equal) <= 0.15 * equal for label in records[0].options), (task, got)


def test_the_right_option_is_not_given_away_by_its_place() -> None:
    for task, records in tasks_with_labels():
        first = sum(record.options[0] == record.output for record in records) / len(records)
        assert abs(first - 1 / len(records[0].options)) < 0.12, (task, first)


def test_all_records_of_a_task_have_the_same_fields() -> None:
    for task, records in starter_records().items():
        assert len({tuple(sorted(record.fields)) for record in records}) == 1, task


def test_no_text_of_the_starter_has_a_leftover_of_its_skeleton() -> None:
    for task, records in starter_records().items():
        for record in records:
            shown = [*record.fields.values(), *record.outputs, *record.options]
            assert not any(mark in text for text in shown for mark in ("{{", "}}", "{%", "\\n")), (task, record.id)


def test_the_starter_read_as_a_source_gives_these_records() -> None:
    path = STARTER / "topic" / "news_topic.yaml"
    made = list(starter.compose(path, sheets.read_as(starter.TaskFile, path), starter.load_tables(STARTER), ORIGIN))
    assert made == starter_records()["news_topic"]
