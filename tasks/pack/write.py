"""The shards of a file of examples: tokens as they come from the processes, then the rows and the mixture."""

import functools
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from tasks import console, parallel, params, tables
from tasks.chat import Chat
from tasks.errors import UserError
from tasks.pack import mixture, parts, plan, rows, tokens
from tasks.shards import ArrayWriter, write_array, write_index


def pack(examples: Path, chat: Chat, wanted: params.Pack, folder: Path, processes: int | None = None) -> dict[str, Any]:
    """Write the shards of `examples`, their rejects and their mixture into `folder`, and return the index.

    Raises UserError where no example fits, GuardError where tokens are not what training and generation both need.
    """
    with tempfile.TemporaryDirectory() as scratch, parts.kept(examples, chat, wanted.row_tokens) as done:
        tokenizer = Path(scratch) / "tokenizer.json"
        marked = plan.markings(chat, tokenizer)
        work = functools.partial(parts.tokenised, folder=done, markings=marked, row_tokens=wanted.row_tokens)
        with pq.ParquetFile(examples) as file:
            groups = file.num_row_groups
        waiting = enumerate(plan.parts(tables.read_frames(examples), chat, tokenizer, marked))
        batches = parallel.ordered(work, waiting, processes, files={"tokenizer": tokenizer})
        written = write(console.track(batches, "tokenising", groups), folder)
    trained = rows.taken(written.lengths, written.order, wanted.tokens)
    if not len(trained):
        raise UserError(
            f"pack.row_tokens, pack.tokens: no example of {examples} fits into {wanted.row_tokens} tokens"
            + (f" and the {wanted.tokens} tokens of all" if wanted.tokens else "")
        )
    index = _finish(folder, written, trained, wanted.row_tokens) | {"chat_hash": chat.hash}
    write_index(folder, index)
    return index


class Written(NamedTuple):
    """The sequences as they lie in the shards: tokens of each, hash of each, rejects, and the arrays' digests."""

    lengths: npt.NDArray[np.int64]
    order: npt.NDArray[np.uint64]
    rejects: int
    arrays: dict[str, Any]


def write(batches: Iterable[tokens.Batch], folder: Path) -> Written:
    """Append the batches to tokens.npy, supervised.npy, sequences.parquet and rejects.jsonl in `folder`."""
    lengths: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
    order: list[npt.NDArray[np.uint64]] = [np.zeros(0, np.uint64)]
    rejects = 0
    with (
        ArrayWriter(folder, "tokens") as ids,
        ArrayWriter(folder, "supervised") as supervised,
        tables.TableWriter(folder / "sequences.parquet", tokens.SCHEMA) as table,
        (folder / "rejects.jsonl").open("w", encoding="utf-8", newline="\n") as rejected,
    ):
        for batch in batches:
            ids.append(batch.ids)
            supervised.append(batch.supervised)
            table.write(batch.table)
            lengths.append(batch.table["tokens"].to_numpy().astype(np.int64))
            # What another node sent may be a view, and keep all of its batch in memory.
            order.append(batch.order.copy())
            rejected.writelines(json.dumps(row._asdict(), ensure_ascii=False) + "\n" for row in batch.rejects)
            rejects += len(batch.rejects)
        arrays = {"tokens": ids.close(), "supervised": supervised.close()}
    return Written(np.concatenate(lengths), np.concatenate(order), rejects, arrays)


def _finish(folder: Path, written: Written, trained: npt.NDArray[np.int64], row_tokens: int) -> dict[str, Any]:
    """Pack the sequences to train on into rows, write these and the mixture, and return the counts."""
    packed = list(rows.packed(written.lengths, trained, row_tokens))
    arrays = written.arrays | {
        "boundaries": write_array(folder, "boundaries", _bounds(written.lengths)),
        "members": write_array(folder, "members", np.array([one for row in packed for one in row])),
        "rows": write_array(folder, "rows", _bounds(np.array([len(row) for row in packed]))),
    }
    counted = mixture.count(folder / "sequences.parquet", np.isin(np.arange(len(written.lengths)), trained))
    counted.write_csv(folder / "mixture.csv")
    mixture.draw(counted, folder / "mixture.png")
    held = int(counted["tokens"].sum())
    return {
        "arrays": arrays,
        "sequences": len(trained),
        "tokens": held,
        "supervised_tokens": int(counted["supervised_tokens"].sum()),
        "rows": len(packed),
        "packing_waste": round(1 - held / (len(packed) * row_tokens), 4),
        "rejects": written.rejects,
        "left_out": len(written.lengths) - len(trained),
    }


def _bounds(lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
