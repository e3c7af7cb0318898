"""What the data path is measured against, each in a process of its own: python -m infra.bench_peers NAME ...

`tokenizer` encodes the same text and does nothing else; `datasets` and `datasets_batched` are the usual path. Each
prints one JSON line with its seconds, start-up and imports apart.
"""

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tasks.chat import Chat
from tasks.examples import read_examples
from tasks.shards import read_shards

PROCESSES = 2
BATCH = 1_000


def tokenizer(examples: Path, base: Path, shards: Path) -> dict[str, Any]:
    """The seconds that the tokenizer takes for the examples' full texts, on its own threads, in batches."""
    chat = Chat.load(base)
    texts = [chat.conversation([row.prompt, *row.turns[1:]], row.system) for row in read_examples(examples)]
    backend = chat.tokenizer.backend_tokenizer
    start = time.perf_counter()
    for place in range(0, len(texts), BATCH):
        backend.encode_batch_fast(texts[place : place + BATCH], add_special_tokens=False)
    return {"seconds": time.perf_counter() - start, "rows": len(texts)}


def datasets(examples: Path, base: Path, shards: Path, batched: bool = False) -> dict[str, Any]:
    """The seconds of `datasets.map` with `apply_chat_template`, then packing, both in two processes.

    It starts from the rendered conversations as JSON lines, so that it is spared ingest and render.
    """
    import datasets as library

    library.disable_progress_bars()
    chat, row_tokens = Chat.load(base), 1_024
    encode = _batch_encoder(chat.tokenizer) if batched else _row_encoder(chat.tokenizer)
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "rows.jsonl"
        _write_conversations(examples, source)
        start = time.perf_counter()
        rows = library.Dataset.from_json(str(source), cache_dir=scratch)
        encoded = rows.map(encode, batched=batched, num_proc=PROCESSES, remove_columns=["messages"])
        packed = encoded.map(_packer(row_tokens), batched=True, num_proc=PROCESSES, remove_columns=["input_ids"])
        packed.save_to_disk(str(Path(scratch) / "packed"), num_proc=PROCESSES)
        seconds = time.perf_counter() - start
        return {"seconds": seconds, "rows": len(rows), "same_tokens": same_tokens(encoded, shards)}


def same_tokens(encoded: Any, shards: Path) -> bool:
    """Whether every row's tokens are those of the shards; the template's line break behind the last turn aside."""
    ours = read_shards(shards)
    bounds = ours.boundaries
    return len(bounds) == len(encoded) + 1 and all(
        np.array_equal(ours.tokens[bounds[number] : bounds[number + 1]], row["input_ids"][: _length(bounds, number)])
        and len(row["input_ids"]) - _length(bounds, number) <= 1
        for number, row in enumerate(encoded)
    )


def _length(bounds: Any, number: int) -> int:
    return int(bounds[number + 1] - bounds[number])


def _write_conversations(examples: Path, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for row in read_examples(examples):
            turns = [row.prompt, *row.turns[1:]]
            messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(turns)]
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def _row_encoder(tokenizer: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda row: {"input_ids": tokenizer.apply_chat_template(row["messages"], tokenize=True)["input_ids"]}


def _batch_encoder(tokenizer: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda rows: {"input_ids": tokenizer.apply_chat_template(rows["messages"], tokenize=True)["input_ids"]}


def _packer(row_tokens: int) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Rows filled one after the other with whole sequences, as they come."""

    def pack(rows: dict[str, Any]) -> dict[str, Any]:
        filled: list[list[int]] = [[]]
        lengths: list[list[int]] = [[]]
        for ids in rows["input_ids"]:
            if len(filled[-1]) + len(ids) > row_tokens:
                filled.append([])
                lengths.append([])
            filled[-1] += ids
            lengths[-1].append(len(ids))
        return {"packed_ids": filled, "lengths": lengths}

    return pack


if __name__ == "__main__":
    name, *paths = sys.argv[1:]
    measured = {
        "tokenizer": tokenizer,
        "datasets": datasets,
        "datasets_batched": lambda *found: datasets(*found, batched=True),
    }[name](*map(Path, paths))
    print(json.dumps(measured))
