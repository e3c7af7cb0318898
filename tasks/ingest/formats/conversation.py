"""Conversations of several turns as records; what the formats `messages` and `sharegpt` have in common.

Only what is lossless is put right: system messages before the first turn become the record's system message, empty
ones are passed over, and a call with the answer's text before it, or several results in a row, are one turn. A
conversation that does not alternate, does not begin with the user or does not end with the assistant is rejected whole.
"""

import itertools
import json
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

from tasks.ingest.formats.form import Unusable
from tasks.ingest.origin import Origin
from tasks.records import Record

Kind = Literal["system", "user", "assistant", "call", "result"]

ROLES: dict[str, Kind] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function_call": "call",
    "tool_call": "call",
    "observation": "result",
    "function": "result",
    "function_response": "result",
    "tool": "result",
    "tool_response": "result",
}
"""What the names of speakers mean."""


class Message(NamedTuple):
    """What one speaker says."""

    kind: Kind
    text: str


def kind_of(role: object, number: int) -> Kind:
    """What the speaker of message `number` is. Raises Unusable where the name is not known."""
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise Unusable(f"role: message {number} is from {role!r}; known are {', '.join(ROLES)}")
    return ROLES[role.lower()]


def objects(value: object, name: str) -> list[dict[str, Any]]:
    """The messages of a row. Raises Unusable where they are no list of objects."""
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise Unusable(f"field {name!r} is no list of messages")
    return value


def record(messages: Sequence[Message], tools: object, origin: Origin) -> Record:
    """The record of a conversation; `tools` are the tools that it may call, as JSON or as its text.

    A question with its answer is a record without turns. Raises Unusable with the reason where the conversation
    cannot be used.
    """
    listed = _tools(tools)
    if origin.tools == "refuse" and (listed or any(message.kind in ("call", "result") for message in messages)):
        raise Unusable("tool calls: this source refuses them (ingest.sources, tools: refuse)")
    leading = list(itertools.takewhile(lambda message: message.kind == "system", messages))
    system = "\n\n".join(message.text for message in leading if message.text)
    if listed:
        system = f"{system}\n\nTools:\n{listed}".strip()
    turns = _turns(messages[len(leading) :])
    single = len(turns) == 2
    fields = {"instruction": turns[0], "input": ""} if single else {}
    before = [] if single else turns[:-1]
    return origin.record(origin.task, origin.cluster, fields, [turns[-1]], turns=before, system=system)


def _turns(messages: Sequence[Message]) -> list[str]:
    """The texts of user and assistant in turn."""
    turns: list[str] = []
    previous: Kind = "system"
    for number, message in enumerate(messages, start=1):
        by_user = message.kind in ("user", "result")
        if message.kind == "system":
            raise Unusable("turns: a system message stands after the first turn")
        if not message.text:
            raise Unusable(f"turns: the text of turn {number} is empty")
        if by_user == (len(turns) % 2 == 0):
            turns.append(message.text)
        elif (previous, message.kind) in (("assistant", "call"), ("call", "call"), ("result", "result")):
            turns[-1] += f"\n{message.text}"
        elif not turns:
            raise Unusable("turns: the conversation begins with the assistant")
        else:
            raise Unusable(f"turns: {'user' if by_user else 'assistant'} speaks twice in a row, at turn {number}")
        previous = message.kind
    if not turns:
        raise Unusable("turns: there are none")
    if len(turns) % 2:
        raise Unusable("turns: the conversation ends with the user, and nothing answers")
    return turns


def _tools(tools: object) -> str:
    """The list of tools as text, empty where there is none."""
    said = tools.strip() if isinstance(tools, str) else json.dumps(tools or [], ensure_ascii=False, default=str)
    return "" if said in ("", "[]", "null") else said
