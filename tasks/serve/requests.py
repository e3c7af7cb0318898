"""What clients may send: an OpenAI-style conversation, or rows as MLflow's servers take them."""

import json
from dataclasses import dataclass
from typing import Any, NoReturn

import pandas
from starlette.requests import ClientDisconnect, Request

from tasks.register.served import messages
from tasks.serve.loaded import Loaded

PLAIN: dict[str, tuple[Any, ...]] = {
    "temperature": (0, None),
    "top_p": (1, None),
    "n": (1, None),
    "presence_penalty": (0, None),
    "frequency_penalty": (0, None),
    "logit_bias": ({}, None),
    "stop": ([], None),
    "response_format": ({"type": "text"}, None),
    "tools": ([], None),
    "logprobs": (False, None),
}
"""Wishes that would ask for another answer than the likeliest one as text, and the values that do not."""


class Refusal(Exception):  # noqa: N818
    """A request that is not answered: an HTTP status and what the client may change."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status, self.told = status, told


@dataclass(frozen=True)
class Asked:
    """Conversations to go on with, the tokens of each answer at most, and whether to send it as it comes."""

    conversations: list[list[dict[str, str]]]
    limit: int
    stream: bool = False


async def body(request: Request, most: int) -> Any:
    """The JSON that was sent. Raises Refusal where it is none, or longer than `most` bytes."""
    if int(request.headers.get("content-length", "0") or 0) > most:
        raise Refusal(413, f"the body may have {most:,} bytes")
    content = b""
    try:
        async for part in request.stream():
            content += part
            if len(content) > most:
                raise Refusal(413, f"the body may have {most:,} bytes")
        return json.loads(content)
    except (ValueError, RecursionError):
        raise Refusal(400, "the body must be JSON") from None
    except ClientDisconnect:
        raise Refusal(400, "the body broke off") from None


def of_chat(sent: Any, limit: int) -> Asked:
    """An OpenAI-style chat completion. Raises Refusal where it is none, or asks for more than greedy answers."""
    if not isinstance(sent, dict) or not isinstance(sent.get("messages"), list):
        raise Refusal(400, "`messages` must be a list")
    for name, harmless in PLAIN.items():
        if sent.get(name) not in harmless:
            raise Refusal(400, f"`{name}`: answers are the likeliest ones here, as text; leave it out")
    wish = sent.get("max_completion_tokens", sent.get("max_tokens"))
    return Asked([_checked({"messages": sent["messages"]})], _limit(wish, limit), sent.get("stream") is True)


def of_rows(sent: Any, limit: int, most: int) -> Asked:
    """MLflow's `dataframe_records`, `dataframe_split`, `inputs` or `instances`. Raises Refusal where it is none."""
    if not isinstance(sent, dict):
        _rows_refused()
    match {key: sent[key] for key in ("dataframe_records", "dataframe_split", "inputs", "instances") if key in sent}:
        case {"dataframe_records": list(rows)} | {"instances": list(rows)} | {"inputs": list(rows)}:
            pass
        case {"inputs": dict(columns)}:
            rows = _frame(columns)
        case {"dataframe_split": {"columns": list(names), "data": list(data)}}:
            rows = _frame(data, names)
        case _:
            _rows_refused()
    if not 0 < len(rows) <= most:
        raise Refusal(400, f"there must be 1 to {most} rows")
    wish = sent["params"].get("max_new_tokens") if isinstance(sent.get("params"), dict) else None
    return Asked([_checked(row) for row in rows], _limit(wish, limit))


def prompt(conversation: list[dict[str, str]], most: int, loaded: Loaded) -> list[int]:
    """The tokens of a conversation in the trained template, up to the answer. Raises Refusal for more than `most`."""
    system = conversation[0]["content"] if conversation[0]["role"] == "system" else ""
    turns = conversation[bool(system) :]
    if [turn["role"] for turn in turns] != [("user", "assistant")[place % 2] for place in range(len(turns))]:
        raise Refusal(400, "after a system message, turns of `user` and `assistant` must take turns, the user's first")
    ids = loaded.chat.encode(loaded.chat.conversation([turn["content"] for turn in turns], system))
    if len(ids) > most:
        raise Refusal(400, f"the conversation has {len(ids)} tokens, and {most} fit")
    return ids


def _checked(row: Any) -> list[dict[str, str]]:
    try:
        told = messages({str(name): value for name, value in row.items()})
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Refusal(
            400, "each row needs an `instruction`, or `messages` with `role` and `content`, the user's last"
        ) from None
    if not all(isinstance(turn["content"], str) and turn["content"] for turn in told):
        raise Refusal(400, "texts must be strings, and not empty")
    return told


def _limit(wish: Any, limit: int) -> int:
    if wish is None:
        return limit
    if not isinstance(wish, int) or isinstance(wish, bool) or not 0 < wish <= limit:
        raise Refusal(400, f"an answer may have 1 to {limit} tokens")
    return wish


def _frame(data: Any, columns: list[Any] | None = None) -> list[Any]:
    try:
        return list(pandas.DataFrame(data, columns=columns).to_dict("records"))
    except (ValueError, TypeError, AssertionError):
        _rows_refused()


def _rows_refused() -> NoReturn:
    raise Refusal(400, "send `dataframe_records`, `dataframe_split`, `inputs` or `instances`")
