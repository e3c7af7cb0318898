"""The skeleton of a conversation: its markup as ready tokens, with holes where the messages go.

The chat template is rendered once for each shape of conversation, with a probe for each message, and divided at the
special tokens. What stands between two of them is tokenised apart from the rest, in the chat template as in here, so
only the stretches that hold a message are left to tokenise for each example.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import TemplateError

from tasks.errors import UserError
from tasks.guards import GuardError

if TYPE_CHECKING:  # it imports transformers, which takes a worker seconds and memory that it has no use for
    from tasks.chat import Chat


class Shape(NamedTuple):
    """What decides a conversation's markup: how many turns it has, and whether it brings its own system message."""

    turns: int
    system: bool


class Hole(NamedTuple):
    """Where a message goes: 0 is the system message, 1 the first turn. Chat templates may strip its ends."""

    message: int
    strip_left: bool
    strip_right: bool

    @property
    def is_answer(self) -> bool:
        """Whether the assistant's message goes here."""
        return self.message > 0 and self.message % 2 == 0


class Markup(NamedTuple):
    """Tokens that are the same in every conversation of the shape."""

    ids: list[int]
    learnt: bool


class Text(NamedTuple):
    """A stretch that is tokenised as one: `parts[:read]` are read, the others are learnt.

    `lead` are the tokens of what is read where that holds no message, else None.
    """

    parts: list[str | Hole]
    read: int
    lead: list[int] | None


Skeleton = list[Markup | Text]
Encode = Callable[[str], list[int]]

_PAD = "\x1f"
"""White space that no chat template writes: where it is gone from a message's end, the template strips it."""
_PROBE = re.compile(f"({_PAD}?)7f3probe([0-9]+)x({_PAD}?)")


def fill(parts: Sequence[str | Hole], messages: Sequence[str]) -> str:
    """The text of the parts with the messages in their holes."""
    return "".join([part if isinstance(part, str) else _stripped(part, messages[part.message]) for part in parts])


def build(chat: "Chat", shape: Shape, encode: Encode, start: str) -> Skeleton:
    """The skeleton of a shape, up to the last answer's end of turn.

    `encode` tokenises a stretch inside a text, `start` is what the tokenizer puts before a text as a whole. Raises
    GuardError where the template cannot be told apart from its messages, or where some answer would be trained on
    behind other markup than it is generated behind.
    """
    skeleton: Skeleton = []
    answered = False
    for place, stretch in enumerate(_divided(chat, _rendered(chat, shape))):
        if place % 2:
            _append(skeleton, Markup([chat.tokenizer.convert_tokens_to_ids(stretch)], learnt=answered))
            answered = False
        elif stretch:
            text = _text(stretch if place else start + stretch, encode)
            answered = text.read < len(text.parts)
            constant = text.lead is not None and not answered
            _append(skeleton, Markup(text.lead or [], learnt=False) if constant else text)
    return skeleton


def _append(skeleton: Skeleton, piece: Markup | Text) -> None:
    """Add a piece; markup behind markup makes one piece with it."""
    last = skeleton[-1] if skeleton else None
    if isinstance(piece, Markup) and isinstance(last, Markup) and not last.learnt and not piece.learnt:
        skeleton[-1] = Markup(last.ids + piece.ids, learnt=False)
    else:
        skeleton.append(piece)


def _rendered(chat: "Chat", shape: Shape) -> str:
    """The template around probes, up to the last end of turn; each message once and in order, or GuardError."""
    probes = [f"{_PAD}7f3probe{number}x{_PAD}" for number in range(shape.turns + 1)]
    system = probes[0] if shape.system else ""
    try:
        whole = chat.conversation(probes[1:], system)
        opened = [chat.conversation(probes[1:turn], system) for turn in range(2, shape.turns + 1, 2)]
    except TemplateError as error:
        kind = "a system message" if shape.system else f"{shape.turns} turns"
        raise UserError(f"the model's chat template takes no conversation with {kind}: {error}") from error
    found = list(_PROBE.finditer(whole))
    if [int(hole[2]) for hole in found] != list(range(0 if shape.system else 1, shape.turns + 1)):
        raise GuardError(f"the chat template does not show each of {shape.turns} turns once, unchanged and in order")
    for answer, before in zip(found[-shape.turns :][1::2], opened, strict=True):
        if whole[: answer.start()] != before:
            raise GuardError(
                f"turn {answer[2]} of {shape.turns}: the chat template puts other markup before an answer in training"
                " than it ends a prompt with in generation"
            )
    return _closed(chat, whole, found)


def _closed(chat: "Chat", whole: str, holes: list[re.Match[str]]) -> str:
    """The text with an end of turn behind each answer, cut off after the last."""
    end = chat.end_of_turn
    if end not in _special(chat):
        raise GuardError(
            f"the chat template ends an answer with {end!r}, which is no special token: text could forge it"
        )
    for hole, following in itertools.pairwise(holes):
        if int(following[2]) % 2 == 1 and int(hole[2]) and end not in whole[hole.end() : following.start()]:
            raise GuardError(f"the chat template ends only the last answer of {len(holes)} turns with {end!r}")
    after = whole[holes[-1].end() :]
    return whole[: holes[-1].end()] + (after[: after.index(end)] if end in after else "") + end


def _divided(chat: "Chat", whole: str) -> list[str]:
    """Stretches of text (even places) and the special tokens between them (odd places)."""
    special = _special(chat)
    longest_first = sorted(special, key=lambda name: (-len(name), name))
    found = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", whole)
    for place in range(1, len(found), 2):
        token = special[found[place]]
        found[place - 1] = found[place - 1].rstrip() if token.lstrip else found[place - 1]
        found[place + 1] = found[place + 1].lstrip() if token.rstrip else found[place + 1]
    return found


def _special(chat: "Chat") -> dict[str, Any]:
    """The tokens that no user's text may hold, by their names."""
    added = chat.tokenizer.added_tokens_decoder.values()
    return {token.content: token for token in added if token.special or token.content == chat.end_of_turn}


def _text(stretch: str, encode: Encode) -> Text:
    """The stretch with holes for its probes."""
    parts: list[str | Hole] = []
    place = 0
    for probe in _PROBE.finditer(stretch):
        parts += [stretch[place : probe.start()], Hole(int(probe[2]), not probe[1], not probe[3])]
        place = probe.end()
    parts = [part for part in [*parts, stretch[place:]] if part]
    read = next((number for number, part in enumerate(parts) if isinstance(part, Hole) and part.is_answer), len(parts))
    known = not any(isinstance(part, Hole) for part in parts[:read])
    return Text(parts, read, encode(fill(parts[:read], [])) if known else None)


def _stripped(hole: Hole, message: str) -> str:
    message = message.lstrip() if hole.strip_left else message
    return message.rstrip() if hole.strip_right else message
