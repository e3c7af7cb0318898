"""Examples become tokens of which the right ones are learnt, in rows that waste little."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.chat import Chat
from tasks.examples import Example
from tasks.guards import GuardError
from tasks.pack.__main__ import pack
from tasks.pack.tokens import Sequence, first_fit_decreasing, tokenise
from tasks.shards import read_shards
from tests.project import Project

EXAMPLE = Example("e1", "r1", "greet", "talk", "plain", "0", "direct", ["Greet the guest.", "Good evening, Ada."])


def test_the_completion_and_its_end_are_learnt_and_nothing_else(chat: Chat) -> None:
    sequence = tokenise(EXAMPLE, chat)
    learnt = [token for token, flag in zip(sequence.ids, sequence.supervised, strict=True) if flag]
    assert chat.tokenizer.decode(learnt) == "Good evening, Ada.</s>"


def test_the_masked_part_is_the_prompt_that_generation_gets(chat: Chat) -> None:
    sequence = tokenise(EXAMPLE, chat)
    masked = [token for token, flag in zip(sequence.ids, sequence.supervised, strict=True) if not flag]
    assert masked == chat.encode(chat.prompt("Greet the guest."))


def test_an_example_without_answer_is_stopped(chat: Chat) -> None:
    with pytest.raises(GuardError, match="example e1: no token is supervised"):
        tokenise(EXAMPLE._replace(turns=["Greet the guest.", ""]), chat)


def test_a_template_and_tokenizer_that_both_add_bos_are_stopped(chat: Chat) -> None:
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    doubled = Chat(type(chat.tokenizer)(tokenizer_object=chat.tokenizer.backend_tokenizer, **tokens))
    doubled.tokenizer.chat_template = "{{ bos_token }}" + chat.tokenizer.chat_template
    with pytest.raises(GuardError, match=r"begins with BOS \(token 0\) twice"):
        tokenise(EXAMPLE, doubled)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60))
def test_every_sequence_is_packed_once_and_no_row_overflows(lengths: list[int]) -> None:
    rows = first_fit_decreasing(lengths, 64)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= 64 for row in rows)


@given(st.lists(st.integers(1, 64), min_size=1, max_size=60))
def test_no_two_rows_would_fit_into_one(lengths: list[int]) -> None:
    sums = sorted(sum(lengths[number] for number in row) for row in first_fit_decreasing(lengths, 64))
    assert len(sums) < 2 or sums[0] + sums[1] > 64


def test_a_row_that_learns_nothing_is_stopped() -> None:
    with pytest.raises(GuardError, match="row 0: no token is supervised"):
        pack([Sequence("e", [5, 6, 7], [False] * 3)], 8)


def test_rows_are_read_back_as_they_were_packed(project: Project, chat: Chat) -> None:
    shards = read_shards(project.root / "data/pack")
    row = shards.row(0)
    assert sum(row["lengths"]) == len(row["ids"]) == len(row["supervised"])
    assert row["ids"][row["lengths"][0] - 1] == chat.end_of_turn_id


def test_the_index_names_every_example_once(project: Project) -> None:
    shards = read_shards(project.root / "data/pack")
    named = [example for row in range(len(shards)) for example in shards.examples(row)]
    assert len(set(named)) == len(named) == shards.index["sequences"] == 24
