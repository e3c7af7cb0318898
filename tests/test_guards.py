"""Each guard lets the right thing through and stops the wrong one."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


ODD = st.sampled_from([float("nan"), float("inf"), float("-inf")])
UNSEEN = {"inference": "inference", "paraphrase": "inference"}


@given(st.lists(st.booleans(), max_size=20))
def test_a_batch_passes_just_where_some_token_is_supervised(supervised: list[bool]) -> None:
    assert stops(guards.supervised_somewhere, "b", supervised) is (True not in supervised)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), st.booleans(), st.integers(0, 3))
def test_an_end_of_turn_passes_just_where_it_is_last_and_learnt(ids: list[int], learnt: bool, end: int) -> None:
    assert stops(guards.end_of_turn_supervised, "e", ids, [learnt] * len(ids), end) is not (learnt and ids[-1] == end)


@given(st.lists(st.integers(0, 2), max_size=6), st.sampled_from([None, 0, 1]))
def test_a_bos_is_stopped_just_where_two_begin_the_sequence(ids: list[int], bos: int | None) -> None:
    assert stops(guards.only_one_bos, "e", ids, bos) is (bos is not None and ids[:2] == [bos, bos])


@given(st.lists(st.integers(0, 2), max_size=4), st.lists(st.integers(0, 2), max_size=4))
def test_a_prompt_passes_before_any_answer_and_stops_where_its_last_token_differs(
    prompt: list[int], answer: list[int]
) -> None:
    assert not stops(guards.prompt_is_prefix, "e", prompt, prompt + answer)
    if prompt:
        assert stops(guards.prompt_is_prefix, "e", prompt, [*prompt[:-1], prompt[-1] + 1, *answer])


@given(st.lists(st.integers(0, 2), max_size=6), st.lists(st.integers(0, 2), max_size=6))
def test_tokens_pass_just_where_they_are_those_of_the_whole(assembled: list[int], whole: list[int]) -> None:
    assert stops(guards.same_tokens, "e", assembled, whole) is (assembled != whole)


@given(st.dictionaries(st.sampled_from(["inference", "paraphrase", "topic", "sentiment"]), st.just("e1")))
def test_training_clusters_pass_just_where_none_is_held_out(clusters: dict[str, str]) -> None:
    assert stops(guards.not_trained_on, clusters, UNSEEN) is bool(clusters.keys() & UNSEEN.keys())


@given(st.floats(0, 20), st.floats(1, 12))
def test_a_loss_passes_just_below_twice_that_of_guessing(loss: float, guessing: float) -> None:
    assert stops(guards.loss_is_sound, "step 3", loss, guessing) is (loss >= 2 * guessing)


@given(ODD.filter(lambda value: value != float("-inf")))
def test_a_loss_that_is_no_number_or_far_from_guessing_is_stopped(loss: float) -> None:
    with pytest.raises(GuardError, match="step 3: the loss is "):
        guards.loss_is_sound("step 3", loss, 6.5)


@given(st.floats(0, 1e9), st.floats(1e-3, 1e3))
def test_a_gradient_far_above_the_usual_one_is_stopped(gradient: float, usual: float) -> None:
    assert stops(guards.gradient_is_sound, "step 3", gradient, usual) is (gradient >= 1_000 * usual)
    assert not stops(guards.gradient_is_sound, "step 3", gradient, float("inf"))
    assert stops(guards.gradient_is_sound, "step 3", float("nan"), usual)
    assert stops(guards.gradient_is_sound, "step 3", float("inf"), float("inf"))


@given(st.floats(min_value=0) | ODD)
def test_an_adapter_passes_just_where_it_moves_logits_and_packing_where_it_moves_none(difference: float) -> None:
    assert stops(guards.adapter_changes_logits, difference) is not (difference > 0)
    assert stops(guards.sequences_are_apart, difference) is not (difference == 0)


def test_a_base_model_that_holds_other_than_numbers_is_stopped() -> None:
    guards.weights_are_finite("models/base", [])
    with pytest.raises(GuardError, match=r"models/base: .*: a, b, c and 1 more"):
        guards.weights_are_finite("models/base", ["d", "c", "b", "a"])


@given(st.sets(st.text(min_size=1), max_size=6))
def test_a_base_model_passes_just_where_no_weight_is_named_and_one_of_those_named_is_told(names: set[str]) -> None:
    assert stops(guards.weights_are_finite, "models/base", names) is bool(names)


@given(st.text(max_size=3), st.text(max_size=3))
def test_a_chat_template_passes_just_where_it_is_the_one_of_training(trained: str, evaluated: str) -> None:
    assert stops(guards.same_chat, trained, evaluated) is (trained != evaluated)


def stops(guard: Callable[..., None], *values: object) -> bool:
    """Whether the guard fires."""
    try:
        guard(*values)
    except GuardError:
        return True
    return False


def test_another_chat_template_in_evaluation_is_stopped() -> None:
    guards.same_chat("a", "a")
    with pytest.raises(GuardError, match="trained with chat template a and evaluated with b"):
        guards.same_chat("a", "b")


def test_a_model_that_says_nothing_is_stopped() -> None:
    guards.says_something("tuned on mine", [])
    guards.says_something("tuned on mine", ["", "yes"])
    with pytest.raises(GuardError, match="tuned on mine: all 2 generated answers are empty"):
        guards.says_something("tuned on mine", [" ", ""])


def test_documents_that_are_not_those_that_were_included_are_stopped() -> None:
    guards.same_documents("mine", {"a": "1"}, {"a": "1"})
    with pytest.raises(GuardError, match=r"mine: other documents .*: a, b; run: dvc repro -f include@mine"):
        guards.same_documents("mine", {"a": "1"}, {"a": "2", "b": "1"})


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
    assert [line.split("?")[0] for line in str(caught.value).splitlines()] == [
        "cluster: infrence: unknown; did you mean inference", "  cluster: topc: unknown; did you mean topic",
    ]  # fmt: skip
