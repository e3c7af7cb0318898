"""Format `messages`: rows of messages, each with a role and a content that is text or a list of parts with text.

The form of OpenAI's chat completions and of most chat data sets; `tools` may be given, and messages may call them.
"""

import json
from typing import Any

from tasks.ingest.formats import conversation
from tasks.ingest.formats.conversation import Message
from tasks.ingest.formats.form import Format, Unusable
from tasks.ingest.origin import Origin, Row
from tasks.records import Record


def record(row: Row, origin: Origin) -> Record:
    """The record of a conversation."""
    said = conversation.objects(row.value.get("messages"), "messages")
    messages = [message for number, item in enumerate(said, start=1) for message in _messages(item, number)]
    return conversation.record(messages, row.value.get("tools"), origin)


def _messages(item: dict[str, Any], number: int) -> list[Message]:
    """The message, and the calls of tools in it as one of their own."""
    kind, text = conversation.kind_of(item.get("role"), number), _text(item.get("content"), number)
    calls = item.get("tool_calls") or item.get("function_call")
    if not calls:
        return [Message(kind, text)]
    said = [Message(kind, text)] if text else []
    return [*said, Message("call", json.dumps(calls, ensure_ascii=False, default=str))]


def _text(content: object, number: int) -> str:
    if content is None:
        return ""
    parts = content if isinstance(content, list) else [content]
    return "".join(_part(part, number) for part in parts).strip()


def _part(part: object, number: int) -> str:
    """The text of one part of a content; anything but text, such as an image, is refused."""
    if isinstance(part, dict):
        if part.get("type", "text") != "text":
            raise Unusable(
                f"content: message {number} holds a part of type {part['type']!r}, and only text can be used"
            )
        part = part.get("text", part.get("value"))
    if not isinstance(part, str):
        raise Unusable(f"content: message {number} holds {type(part).__name__}, not text")
    return part


FORMAT = Format("messages", (("messages",),), record)
