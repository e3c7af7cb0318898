import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tasks.examples import read_examples
from tasks.params import Render
from tasks.records import Record
from tasks.render import wording
from tasks.render.catalogue import Task
from tasks.render.mixture import first_clusters
from tasks.render.rendering import example
from tasks.render.templates import Bank, Template, load_bank
from tests.data_fixtures import record
from tests.rendered import own, render

BANK = load_bank()
MANY = [Template(id=f"direct-{number}", prompt=f"{number} {{{{ premise }}}}") for number in range(6)]
BACK = Template(id="back", kind="inverted", prompt="{{ output }}", completion="{{ premise }}")


def wanted(**values: Any) -> Render:
    return Render(examples=1, held_out=[], **values)


def brought(**fields: str) -> Record:
    """A record with an instruction of its own."""
    return own(1)._replace(fields={"instruction": "Add them up.", **fields})


def prompt(one: Record, how: str) -> str:
    return example(one, BANK, wanted(wording=how), []).prompt


def test_without_an_instruction_an_example_is_its_input_and_output_alone() -> None:
    shown = example(record(3), BANK, wanted(wording="none"), [])
    assert shown.turns == ["Premise 3.\nHypothesis 3.", "yes"]
    assert (shown.template, shown.kind) == ("none", "direct")


def test_by_name_the_names_of_cluster_and_task_stand_before_the_input() -> None:
    assert prompt(record(3, task="next_line"), "name") == "[inference: next line] Premise 3.\nHypothesis 3."


def test_an_instruction_that_a_record_brings_is_none_of_its_input() -> None:
    one = brought(input="2 and 3", positive_examples="Input: 1 and 1\nOutput: 2")
    assert prompt(one, "none") == "2 and 3"


@pytest.mark.parametrize("empty", ["", " \n"])
def test_an_instruction_without_an_input_is_the_input(empty: str) -> None:
    assert prompt(brought(input=empty), "none") == "Add them up."


def test_a_conversation_stays_as_it_is() -> None:
    one = record(3)._replace(turns=["Hello.", "Good day.", "And now?"])
    assert example(one, BANK, wanted(wording="none"), []).turns == ["Hello.", "Good day.", "And now?", "yes"]


def test_fewer_templates_are_some_of_more_and_direct_ones_come_first() -> None:
    bank = Bank(Path(), {"follows": [BACK, *MANY]})
    taken = [{one.id for one in wording.templates(record(1), bank, wanted(templates=most))} for most in range(1, 8)]
    assert [len(one) for one in taken] == [1, 2, 3, 4, 5, 6, 7]
    assert all(fewer < more for fewer, more in itertools.pairwise(taken))
    assert ["back" in one for one in taken] == [False] * 6 + [True]


def test_all_records_of_a_task_share_its_few_templates() -> None:
    drawn = Counter(example(record(number), BANK, wanted(templates=2), []).template for number in range(60))
    assert len(drawn) == 2


def test_clusters_of_the_most_tasks_come_first_and_fewer_are_some_of_more() -> None:
    tasks = [Task("large", "a"), Task("large", "b"), Task("one", "c"), Task("two", "d"), Task("three", "e")]
    taken = [first_clusters(tasks, wanted(clusters=most)) for most in (1, 2, 3, 4, None)]
    assert taken[0] == ["large"]
    assert [one[: len(taken[0])] for one in taken] == [["large"]] * 5
    assert all(more[: len(fewer)] == fewer for fewer, more in itertools.pairwise(taken))
    assert set(taken[-1]) == {"large", "one", "two", "three"}


def test_fewer_clusters_are_trained_on_with_as_many_examples(tmp_path: Path) -> None:
    rows = [own(number, f"{name} {number}", name, name) for name in "abc" for number in range(40)]
    rows += [record(number) for number in range(12)]
    for most in (1, 3):
        out = render(tmp_path / f"{most}", rows, examples=30, clusters=most, documents=4)
        examples = list(read_examples(out / "examples.parquet"))
        assert len(examples) == 30
        assert len({one.cluster for one in examples}) == most
