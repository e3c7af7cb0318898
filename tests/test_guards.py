"""Each guard lets the right thing through and stops the wrong one."""

import pytest

from tasks import guards
from tasks.errors import UserError
from tasks.guards import GuardError


def test_a_batch_without_supervised_token_is_stopped() -> None:
    guards.supervised_somewhere("batch", [False, True])
    with pytest.raises(GuardError, match="batch: no token is supervised"):
        guards.supervised_somewhere("batch", [False, False])


@pytest.mark.parametrize(("ids", "supervised"), [([7, 8], [True, True]), ([7, 2], [True, False])])
def test_an_end_of_turn_that_is_not_learnt_is_stopped(ids: list[int], supervised: list[bool]) -> None:
    guards.end_of_turn_supervised("e", [7, 2], [False, True], 2)
    with pytest.raises(GuardError, match="end of turn"):
        guards.end_of_turn_supervised("e", ids, supervised, 2)


def test_a_doubled_bos_is_stopped() -> None:
    guards.only_one_bos("e", [1, 5, 1], 1)
    guards.only_one_bos("e", [5, 5], None)
    with pytest.raises(GuardError, match="twice"):
        guards.only_one_bos("e", [1, 1, 5], 1)


def test_a_prompt_that_is_no_prefix_is_stopped() -> None:
    guards.prompt_is_prefix("e", [1, 2], [1, 2, 3])
    with pytest.raises(GuardError, match="no prefix"):
        guards.prompt_is_prefix("e", [1, 2], [1, 9, 3])


def test_a_held_out_cluster_in_training_is_stopped_with_both_names() -> None:
    guards.not_trained_on({"topic": "e1"}, {"inference": "inference"})
    with pytest.raises(
        GuardError, match=r"'paraphrase' \(example e2\) is excluded by the held-out cluster 'inference'"
    ):
        guards.not_trained_on({"paraphrase": "e2"}, {"paraphrase": "inference"})


@pytest.mark.parametrize("difference", [0.0, float("nan")])
def test_an_adapter_that_changes_nothing_is_stopped(difference: float) -> None:
    guards.adapter_changes_logits(1e-6)
    with pytest.raises(GuardError, match="not applied"):
        guards.adapter_changes_logits(difference)


@pytest.mark.parametrize("difference", [1e-9, float("nan")])
def test_neighbours_that_see_each_other_are_stopped(difference: float) -> None:
    guards.sequences_are_apart(0.0)
    with pytest.raises(GuardError, match="see each other"):
        guards.sequences_are_apart(difference)


def test_another_chat_template_in_evaluation_is_stopped() -> None:
    guards.same_chat("a", "a")
    with pytest.raises(GuardError, match="trained with chat template a and evaluated with b"):
        guards.same_chat("a", "b")


def test_an_unknown_name_is_answered_with_the_nearest_one_and_the_few_there_are() -> None:
    with pytest.raises(UserError, match=r"^source: tset: unknown; did you mean test\? there are test, train$"):
        guards.known("source", ["tset"], {"test", "train"})


def test_many_names_are_not_listed() -> None:
    many = {f"task_{number:02}" for number in range(40)} | {"news_topic"}
    with pytest.raises(UserError, match=r"^task: nwes_topic: unknown; did you mean news_topic\?$"):
        guards.known("task", ["nwes_topic"], many)
    with pytest.raises(UserError, match=r"^task: zz: unknown; there are 41, the nearest to it \w+, \w+, \w+$"):
        guards.known("task", ["zz"], many)


def test_each_of_several_unknown_names_has_its_own_answer() -> None:
    with pytest.raises(UserError) as caught:
        guards.known("cluster", ["topc", "topic", "infrence"], {"topic", "inference"})
    head, *rest = str(caught.value).splitlines()
    assert head == "cluster:"
    assert [line.split("?")[0] for line in rest] == [
        "  infrence: unknown; did you mean inference", "  topc: unknown; did you mean topic",
    ]  # fmt: skip
