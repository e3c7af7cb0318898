"""Format `sharegpt`: rows of conversations, each message with `from` and `value`; `system` and `tools` may be given.

The form of ShareGPT's exports, of FastChat and, with function_call and observation, of glaive's tool calls.
"""

from typing import Any

from tasks.ingest.formats import conversation
from tasks.ingest.formats.conversation import Message
from tasks.ingest.formats.form import Format, Unusable, first_key, optional
from tasks.ingest.origin import Origin, Row
from tasks.records import Record

_KEYS = ("conversations", "conversation")


def record(row: Row, origin: Origin) -> Record:
    """The record of a conversation."""
    name = first_key(row.value, _KEYS)
    said = conversation.objects(row.value.get(name), name)
    messages = [_message(item, number) for number, item in enumerate(said, start=1)]
    system = Message("system", optional(row.value, "system"))
    return conversation.record([system, *messages], row.value.get("tools"), origin)


def _message(item: dict[str, Any], number: int) -> Message:
    value = item.get("value")
    if not isinstance(value, str):
        raise Unusable(f"field 'value' of message {number} is {type(value).__name__}, not text")
    return Message(conversation.kind_of(item.get("from"), number), value.strip())


FORMAT = Format("sharegpt", (_KEYS,), record)
