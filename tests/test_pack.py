"""Examples become tokens of which the right ones are learnt, in rows that waste little."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from tasks import examples, outputs, params
from tasks.chat import PLAIN_TEMPLATE, Chat
from tasks.errors import UserError
from tasks.examples import Example
from tasks.guards import GuardError
from tasks.pack import encoder, plan, rows, skeleton, tokens
from tasks.pack.tokens import Batch
from tasks.pack.write import pack
from tasks.shards import read_shards
from tests import tiny
from tests.project import Project

EXAMPLE = Example("e1", "r1", "greet", "talk", "plain", "0", "direct", ["Greet the guest.", "Good evening, Ada."])
TALK = EXAMPLE._replace(turns=["Greet the guest.", "Good evening, Ada.", "And me?", "Hello!", "Bye.", "Farewell."])


def batch_of(folder: Path, chat: Chat, *wanted: Example, row_tokens: int = 4_000) -> Batch:
    """The examples as pack's processes tokenise them."""
    tokenizer = folder / "tokenizer.json"
    marked = plan.markings(chat, tokenizer)
    encoder.load.cache_clear()
    [work] = plan.parts([examples.to_frame(wanted)], chat, tokenizer, marked)
    return tokens.tokenise(work, tokenizer, marked, row_tokens)


def learnt(batch: Batch, chat: Chat) -> str:
    return str(chat.tokenizer.decode(batch.ids[batch.supervised]))


def read(batch: Batch, chat: Chat) -> str:
    return str(chat.tokenizer.decode(batch.ids[~batch.supervised]))


@pytest.fixture(params=list(tiny.KINDS))
def any_chat(request: pytest.FixtureRequest, tmp_path: Path) -> Chat:
    """The chat of each kind of model, with the chat template that fetch sets where it brings none."""
    tokenizer = tiny.KINDS[request.param](tmp_path / "tiny")[1]
    tokenizer.chat_template = tokenizer.chat_template or PLAIN_TEMPLATE
    return Chat(tokenizer)


def test_the_completion_and_its_end_are_learnt_and_nothing_else(tmp_path: Path, chat: Chat) -> None:
    assert learnt(batch_of(tmp_path, chat, EXAMPLE), chat) == "Good evening, Ada.</s>"


def test_every_answer_of_a_conversation_is_learnt_and_nothing_else(tmp_path: Path, any_chat: Chat) -> None:
    found = learnt(batch_of(tmp_path, any_chat, TALK), any_chat)
    assert found == "Good evening, Ada.</s>Hello!</s>Farewell.</s>"


def test_the_masked_part_is_the_prompt_that_generation_gets(tmp_path: Path, any_chat: Chat) -> None:
    batch = batch_of(tmp_path, any_chat, EXAMPLE)
    assert batch.ids[~batch.supervised].tolist() == any_chat.encode(any_chat.prompt("Greet the guest."))


def test_the_tokens_are_those_of_the_text_as_a_whole(tmp_path: Path, any_chat: Chat) -> None:
    whole = any_chat.encode(any_chat.conversation(TALK.turns))
    ids = batch_of(tmp_path, any_chat, TALK).ids.tolist()
    assert ids == whole[: len(ids)]
    assert any_chat.end_of_turn_id not in whole[len(ids) :]


def test_before_each_answer_stands_what_generation_gets(tmp_path: Path, any_chat: Chat) -> None:
    batch = batch_of(tmp_path, any_chat, TALK)
    starts = [place for place in range(1, len(batch.ids)) if batch.supervised[place] > batch.supervised[place - 1]]
    prompts = [any_chat.encode(any_chat.conversation(TALK.turns[:turn])) for turn in (1, 3, 5)]
    assert [batch.ids[:start].tolist() for start in starts] == prompts


def test_special_tokens_in_a_text_are_plain_text(tmp_path: Path, any_chat: Chat) -> None:
    forged = EXAMPLE._replace(turns=["Say </s> and <s>.", "It is </s>, <s>."])
    batch = batch_of(tmp_path, any_chat, EXAMPLE, forged)
    start = batch.table["tokens"][0]
    for special in any_chat.tokenizer.all_special_ids:
        assert (batch.ids[start:] == special).sum() == (batch.ids[:start] == special).sum()
    assert "It is </s>, <s>." in learnt(batch, any_chat)


def test_an_example_s_own_system_message_stands_in_place_of_the_run_s(tmp_path: Path, chat: Chat) -> None:
    mine = Chat(chat.tokenizer, "Be brief.")
    plain = batch_of(tmp_path, mine, EXAMPLE)
    own = batch_of(tmp_path, mine, EXAMPLE._replace(system="Be kind."))
    assert "Be brief." in read(plain, mine)
    assert "Be kind." in read(own, mine)
    assert "Be brief." not in read(own, mine)


def test_a_template_that_strips_messages_strips_them_here_too(tmp_path: Path) -> None:
    chat = Chat(tiny.byte_pairs(tiny.CHAT.replace("message.content", "message.content | trim")))
    assert learnt(batch_of(tmp_path, chat, EXAMPLE._replace(turns=[" Greet. ", "\nHello. "])), chat) == "Hello.</s>"


def test_exemplars_stand_before_the_first_turn(tmp_path: Path, chat: Chat) -> None:
    batch = batch_of(tmp_path, chat, EXAMPLE._replace(shots=["Shot one.", "Shot two."]))
    assert "Shot one.\n\nShot two.\n\nGreet the guest." in read(batch, chat)
    assert batch.table["shots"].to_list() == [2]


def test_the_first_exemplars_go_until_the_example_fits(tmp_path: Path, chat: Chat) -> None:
    fits = batch_of(tmp_path, chat, EXAMPLE._replace(shots=["Shot two."])).table["tokens"][0]
    batch = batch_of(tmp_path, chat, EXAMPLE._replace(shots=["Shot one.", "Shot two."]), row_tokens=fits)
    assert "Shot one." not in read(batch, chat)
    assert "Shot two." in read(batch, chat)
    assert batch.table["shots"].to_list() == [1]


def test_an_example_that_never_fits_is_rejected_with_its_length(tmp_path: Path, chat: Chat) -> None:
    batch = batch_of(tmp_path, chat, EXAMPLE._replace(shots=["Shot one."]), row_tokens=5)
    assert len(batch.table) == len(batch.ids) == 0
    assert batch.rejects[0].place == "e1"
    assert batch.rejects[0].reason.startswith("too long: ")


def test_an_answer_that_joins_its_prompt_is_rejected(tmp_path: Path) -> None:
    tokenizer = tiny.byte_pairs(tiny.CHAT)
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    described["model"]["vocab"]["\u010a\u010a"] = len(tokenizer)
    described["model"]["merges"].append(["\u010a", "\u010a"])
    ends = {"bos_token": "<s>", "eos_token": "</s>"}
    joining = type(tokenizer)(tokenizer_object=Tokenizer.from_str(json.dumps(described)), **ends)
    joining.chat_template = tiny.CHAT
    batch = batch_of(tmp_path, Chat(joining), EXAMPLE, EXAMPLE._replace(id="e2", turns=["Greet.", "\n\nHello."]))
    assert batch.table["id"].to_list() == ["e1"]
    assert batch.rejects[0].place == "e2"
    assert batch.rejects[0].reason.startswith("answer joins its prompt: ")


def test_an_example_without_answer_is_stopped(tmp_path: Path, chat: Chat) -> None:
    with pytest.raises(GuardError, match="example e1: no token is supervised"):
        batch_of(tmp_path, chat, EXAMPLE._replace(turns=["Greet the guest.", ""]))


def test_a_conversation_with_one_empty_answer_is_stopped(tmp_path: Path, chat: Chat) -> None:
    with pytest.raises(GuardError, match="example e1: no token is supervised"):
        batch_of(tmp_path, chat, EXAMPLE._replace(turns=["Greet.", "", "Again.", "Hello."]))


def test_a_template_and_tokenizer_that_both_add_bos_are_stopped(tmp_path: Path) -> None:
    doubled = Chat(tiny.byte_pairs("{{ bos_token }}" + tiny.CHAT))
    with pytest.raises(GuardError, match=r"begins with BOS \(token 0\) twice"):
        batch_of(tmp_path, doubled, EXAMPLE)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("message.content", "message.content | upper if loop.first else message.content", "each of 2 turns once"),
        ("{{ message.content }}", "{{ message.content }}{{ message.content }}", "each of 2 turns once"),
        ("{{ eos_token }}", "ends here", "no special token"),
    ],
)
def test_a_template_that_cannot_be_told_apart_is_stopped(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(GuardError, match=message):
        batch_of(tmp_path, Chat(tiny.byte_pairs(tiny.CHAT.replace(old, new))), EXAMPLE)


def test_a_template_that_ends_only_the_last_answer_takes_no_conversation(tmp_path: Path) -> None:
    last = tiny.CHAT.replace("{{ eos_token }}", "{{ eos_token if loop.last or message.role == 'user' else '' }}")
    chat = Chat(tiny.byte_pairs(last))
    assert learnt(batch_of(tmp_path, chat, EXAMPLE), chat) == "Good evening, Ada.</s>"
    with pytest.raises(GuardError, match="ends only the last answer"):
        batch_of(tmp_path, chat, TALK)


def test_a_template_that_opens_later_answers_otherwise_is_stopped(tmp_path: Path) -> None:
    thinking = "{% if message.role == 'assistant' and not loop.last %}again: {% endif %}{{ message.content }}"
    chat = Chat(tiny.byte_pairs(tiny.CHAT.replace("{{ message.content }}", thinking)))
    with pytest.raises(GuardError, match="turn 2 of 6: the chat template puts other markup before an answer"):
        batch_of(tmp_path, chat, TALK)


@given(st.text("abc [](){}<>", min_size=1), st.integers(1, 3), st.sampled_from(["assistant", "user"]), st.booleans())
def test_a_template_passes_just_where_answers_follow_the_markup_they_are_generated_behind(
    mark: str, pairs: int, role: str, unless_last: bool
) -> None:
    where = f"message.role == '{role}'" + " and not loop.last" * unless_last
    marked = f"{{% if {where} %}}{{{{ {mark!r} }}}}{{% endif %}}{{{{ message.content }}}}"
    chat = Chat(tiny.byte_pairs(tiny.CHAT.replace("{{ message.content }}", marked)))
    # A question is the last message where its answer is generated, and an answer is none of a prompt's messages.
    otherwise = unless_last if role == "user" else not unless_last or pairs > 1
    try:
        skeleton.build(chat, skeleton.Shape(2 * pairs, system=False), lambda text: [7] * bool(text), "")
    except GuardError as error:
        assert otherwise, error
    else:
        assert not otherwise


def test_a_template_that_refuses_a_system_message_says_so(tmp_path: Path) -> None:
    refusing = "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}" + tiny.CHAT
    with pytest.raises(UserError, match="takes no conversation with a system message: no system here"):
        batch_of(tmp_path, Chat(tiny.byte_pairs(refusing)), EXAMPLE._replace(system="Be kind."))


def test_tokens_that_are_not_those_of_the_whole_text_are_stopped(tmp_path: Path, chat: Chat) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    marked = plan.markings(chat, tokenizer)
    other = json.loads(tokenizer.read_text(encoding="utf-8"))
    other["model"]["merges"] = []
    tokenizer.write_text(json.dumps(other), encoding="utf-8")
    encoder.load.cache_clear()
    with pytest.raises(GuardError, match=r"example e1: its \d+ tokens are not the \d+"):
        list(plan.parts([examples.to_frame([EXAMPLE])], chat, tokenizer, marked))


LENGTHS = st.lists(st.integers(1, 64), min_size=1, max_size=60)


@given(LENGTHS)
def test_every_sequence_is_packed_once_and_no_row_overflows(lengths: list[int]) -> None:
    found = rows.best_fit_decreasing(lengths, 64)
    assert sorted(number for row in found for number in row) == list(range(len(lengths)))
    assert all(sum(lengths[number] for number in row) <= 64 for row in found)


@given(LENGTHS)
def test_no_two_rows_would_fit_into_one(lengths: list[int]) -> None:
    sums = sorted(sum(lengths[number] for number in row) for row in rows.best_fit_decreasing(lengths, 64))
    assert len(sums) < 2 or sums[0] + sums[1] > 64


def many(folder: Path) -> Path:
    """A file of three row groups."""
    made = [EXAMPLE._replace(id=f"e{number}", turns=[f"Say {number}.", f"{number}!"]) for number in range(17_000)]
    examples.write_examples(folder / "examples.parquet", made)
    return folder / "examples.parquet"


def packed(path: Path, chat: Chat, out: Path, processes: int = 1, **wanted: Any) -> dict[str, Any]:
    out.mkdir()
    return pack(path, chat, params.Pack(**wanted), out, processes)


def test_one_process_and_two_give_the_same_bytes(tmp_path: Path, chat: Chat) -> None:
    path = many(tmp_path)
    for processes in (1, 2):
        packed(path, chat, tmp_path / str(processes), processes)
    assert outputs.digest_path(tmp_path / "1") == outputs.digest_path(tmp_path / "2")


def test_packing_that_was_broken_off_goes_on_and_gives_the_same_bytes(
    tmp_path: Path, chat: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path, tokenise = many(tmp_path), tokens.tokenise
    packed(path, chat, tmp_path / "whole", 1)
    calls: list[int] = []

    def breaking(*arguments: Any) -> Batch:
        calls.append(len(calls))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return tokenise(*arguments)

    monkeypatch.setattr(tokens, "tokenise", breaking)
    with pytest.raises(KeyboardInterrupt):
        packed(path, chat, tmp_path / "broken", 1)
    packed(path, chat, tmp_path / "again", 1)
    assert len(calls) == 2 + 2  # of three parts the first was there
    assert outputs.digest_path(tmp_path / "again") == outputs.digest_path(tmp_path / "whole")
    assert not any((tmp_path / "build/pack").iterdir())


def test_every_sequence_of_many_windows_is_in_one_row(tmp_path: Path, chat: Chat) -> None:
    index = packed(many(tmp_path), chat, tmp_path / "out", row_tokens=400)
    shards = read_shards(tmp_path / "out")
    assert sorted(shards.members) == list(range(17_000))
    assert all(len(shards.row(number)["ids"]) <= 400 for number in range(0, len(shards), 97))
    assert index["packing_waste"] < 0.05


def test_a_budget_of_tokens_is_kept_and_the_rest_counted(tmp_path: Path, chat: Chat) -> None:
    index = packed(many(tmp_path), chat, tmp_path / "out", tokens=2_000)
    mixture = pl.read_csv(tmp_path / "out" / "mixture.csv")
    assert 1_950 < index["tokens"] <= 2_000
    assert index["tokens"] == mixture["tokens"].sum()
    assert index["sequences"] + index["left_out"] == 17_000


def test_a_smaller_budget_takes_a_part_of_a_larger_one(tmp_path: Path, chat: Chat) -> None:
    path = many(tmp_path)
    small, large = ({*members(path, chat, tmp_path / str(budget), budget)} for budget in (1_000, 2_000))
    assert small < large


def members(path: Path, chat: Chat, out: Path, budget: int) -> list[int]:
    packed(path, chat, out, tokens=budget)
    return [int(one) for one in read_shards(out).members]


def test_a_budget_that_holds_no_example_is_refused(tmp_path: Path, chat: Chat) -> None:
    with pytest.raises(UserError, match=r"pack\.tokens: no example of .* and the 3 tokens of all"):
        packed(many(tmp_path), chat, tmp_path / "out", tokens=3)


def test_the_mixture_counts_examples_and_tokens_of_each_template(project: Project) -> None:
    shards = read_shards(project.root / "data/pack")
    mixture = pl.read_csv(project.root / "data/pack/mixture.csv")
    assert mixture["examples"].sum() == 24
    assert mixture["supervised_tokens"].sum() == shards.supervised.sum()
    assert (project.root / "data/pack/mixture.png").stat().st_size > 1_000
