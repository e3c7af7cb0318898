"""Alpaca rows for the training benchmark: the same token ids, packed for this project and in rows of their own."""

import json
from pathlib import Path
from typing import Any

from tasks import params
from tasks.chat import Chat
from tasks.errors import UserError
from tasks.examples import Example, write_examples
from tasks.pack.write import pack
from tasks.shards import Shards, read_shards

LONGEST = 512
"""Tokens of a row at most; a longer one is left out."""

ROW_TOKENS = 1_024
"""Tokens of a packed row at most."""


def shards(data: Path, base: Path, folder: Path) -> Shards:
    """The rows of `data` as token shards in `folder`. Raises UserError where `data` is missing or no Alpaca file."""
    chat = Chat.load(base)
    folder.mkdir(parents=True, exist_ok=True)
    kept = [row for row in examples(data) if len(chat.encode(chat.conversation(row.turns))) <= LONGEST]
    write_examples(folder / "examples.parquet", kept)
    pack(folder / "examples.parquet", chat, params.Pack(row_tokens=ROW_TOKENS), folder)
    return read_shards(folder)


def examples(data: Path) -> list[Example]:
    """The rows of an Alpaca file as examples: instruction and input are the prompt, output is learnt."""
    if not data.is_file():
        raise UserError(f"{data}: no such file; name a JSON array of Alpaca rows with --data")
    rows: list[dict[str, Any]] = json.loads(data.read_text(encoding="utf-8"))
    return [
        Example(
            id=f"alpaca:{number}",
            record=f"alpaca:{number}",
            task="alpaca",
            cluster="alpaca",
            template="own",
            template_hash="0" * 16,
            kind="direct",
            turns=["\n\n".join(filter(None, [row["instruction"], row.get("input", "")])), row["output"]],
        )
        for number, row in enumerate(rows)
        if row["output"].strip()
    ]
