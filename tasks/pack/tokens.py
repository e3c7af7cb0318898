"""An example as tokens: which are read, which are learnt. The guards of a single example stand here."""

from dataclasses import dataclass

from tasks import guards
from tasks.chat import Chat
from tasks.examples import Example


@dataclass(frozen=True)
class Sequence:
    """One tokenised example: `ids`, and for each whether it is supervised. Both have the same length."""

    example: str
    ids: list[int]
    supervised: list[bool]


def tokenise(example: Example, chat: Chat) -> Sequence:
    """Prompt in its markup, masked; then completion and end of turn, supervised.

    Raises GuardError where the tokens are not what training and generation both need.
    """
    opened = chat.prompt(example.prompt)
    prompt = chat.encode(opened)
    ids = chat.encode(opened + example.completion + chat.end_of_turn)
    supervised = [place >= len(prompt) for place in range(len(ids))]
    where = f"example {example.id}"
    guards.prompt_is_prefix(where, prompt, ids)
    guards.only_one_bos(where, ids, chat.tokenizer.bos_token_id)
    guards.end_of_turn_supervised(where, ids, supervised, chat.end_of_turn_id)
    guards.supervised_somewhere(where, supervised[:-1])
    return Sequence(example.id, ids, supervised)


def first_fit_decreasing(lengths: list[int], row_tokens: int) -> list[list[int]]:
    """Rows of sequence numbers; each row's lengths sum to `row_tokens` at most.

    The longest goes first, into the first row with room (Johnson 1973: at most 11/9 of the fewest rows, and 6/9 more).
    """
    rows: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda number: (-lengths[number], number)):
        row = next((row for row, left in enumerate(room) if left >= lengths[number]), None)
        if row is None:
            row = len(rows)
            rows.append([])
            room.append(row_tokens)
        rows[row].append(number)
        room[row] -= lengths[number]
    return rows
