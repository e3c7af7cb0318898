"""What the processes that tokenise are told: the tokenizer, and the skeletons of the shapes as they come up."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import polars as pl

from tasks import examples, guards
from tasks.chat import Chat
from tasks.pack import encoder, skeleton, tokens
from tasks.pack.encoder import Encode
from tasks.pack.skeleton import Shape, Skeleton
from tasks.pack.tokens import Markings, Work

CHECKED = 8
"""Examples of each shape whose tokens are compared with the tokenizer's own."""


def markings(chat: Chat, tokenizer: Path) -> Markings:
    """What every process needs; writes the tokenizer as it stands inside a text to the file `tokenizer`.

    A tokenizer of the SentencePiece kind puts a space before a text, and only there: not behind a special token. An end
    of turn counts as special, whatever the model's files say, so that no text can forge it.
    """
    described = json.loads(chat.tokenizer.backend_tokenizer.to_str())
    for token in described["added_tokens"]:
        token["special"] |= token["content"] == chat.end_of_turn
    text = json.dumps(described, ensure_ascii=False)
    inside = text.replace('"prepend_scheme": "first"', '"prepend_scheme": "never"')
    tokenizer.write_text(inside, encoding="utf-8")
    return Markings(chat.end_of_turn_id, chat.tokenizer.bos_token_id, start=" " if inside != text else "")


def parts(frames: Iterable[pl.DataFrame], chat: Chat, tokenizer: Path, marked: Markings) -> Iterator[Work]:
    """Each table of examples with the skeletons of its shapes; a new shape is checked on its first examples.

    Raises GuardError where the chat template does not suit packing, or where an example's tokens are not those that
    the tokenizer gives for it as a whole.
    """
    encode = encoder.load(tokenizer)
    known: dict[Shape, Skeleton] = {}
    for frame in frames:
        shapes = frame.select(turns=pl.col("turns").list.len(), system=pl.col("system") != "")
        for row in shapes.unique(maintain_order=True).iter_rows():
            if (shape := Shape(*row)) not in known:
                known[shape] = skeleton.build(chat, shape, lambda text: encode([text])[0], marked.start)
                same = frame.filter((shapes["turns"] == shape.turns) & (shapes["system"] == shape.system))
                compare(same.head(CHECKED), known, chat, encode)
        yield Work(frame, dict(known))


def compare(frame: pl.DataFrame, known: dict[Shape, Skeleton], chat: Chat, encode: Encode) -> None:
    """The assembled tokens are those of the whole text, so that any server gives the same. Raises GuardError."""
    special = [token.content for token in chat.tokenizer.added_tokens_decoder.values()]
    for sequence in tokens.sequences(examples.from_frame(frame), known, encode):
        row = sequence.example
        if not any(name in text for name in special for text in (row.system, row.prompt, *row.turns[1:])):
            whole = chat.conversation([row.prompt, *row.turns[1:]], row.system)
            end = whole.rfind(chat.end_of_turn)
            answered = whole[:end] if end >= 0 else whole
            guards.same_tokens(f"example {row.id}", sequence.ids, chat.encode(answered + chat.end_of_turn))
