"""The tokenised parts of a run, kept until its shards are written: one that is broken off goes on where it was."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import polars as pl

from tasks import outputs, settings
from tasks.chat import Chat
from tasks.pack import tokens
from tasks.pack.tokens import Batch, Markings, Work
from tasks.records import Reject, digest, write_lines


@contextmanager
def kept(examples: Path, chat: Chat, row_tokens: int) -> Iterator[Path | None]:
    """The folder of this run's parts, outside the stage's outs; it goes when the block ends well.

    Its name depends on all that decides the tokens, so parts of other examples or other code are never taken. None on a
    cluster: there parts are made on other machines, and Ray makes those anew that a lost one had.
    """
    if settings.cluster():
        yield None
        return
    inputs = [outputs.digest_path(examples), chat.tokenizer.backend_tokenizer.to_str(), chat.hash, row_tokens]
    home = settings.BUILD / "pack"
    folder = home / digest([*inputs, outputs.digest_path(Path(__file__).parent)])
    outputs.keep_only(home, [folder.name])
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
    shutil.rmtree(folder)


def tokenised(
    part: tuple[int, Work], folder: Path | None, tokenizer: Path, markings: Markings, row_tokens: int
) -> Batch:
    """The part as it lies in the folder, or tokenised and put there; runs in a process of its own."""
    number, work = part
    if folder is None:
        return tokens.tokenise(work, tokenizer, markings, row_tokens)
    path = folder / f"{number:06}"
    if path.is_dir():
        return _read(path)
    batch = tokens.tokenise(work, tokenizer, markings, row_tokens)
    with outputs.whole_folder(path) as scratch:
        _write(batch, scratch)
    return batch


def _write(batch: Batch, folder: Path) -> None:
    np.savez(folder / "arrays.npz", ids=batch.ids, supervised=batch.supervised, order=batch.order)
    batch.table.write_parquet(folder / "table.parquet", compression="lz4")
    write_lines(folder / "rejects.jsonl", [row._asdict() for row in batch.rejects])


def _read(folder: Path) -> Batch:
    with np.load(folder / "arrays.npz", allow_pickle=False) as arrays:
        ids, supervised, order = (arrays[name] for name in ("ids", "supervised", "order"))
    with (folder / "rejects.jsonl").open(encoding="utf-8", newline="\n") as lines:
        rejects = [Reject(**json.loads(line)) for line in lines]
    return Batch(ids, supervised, pl.read_parquet(folder / "table.parquet"), order, rejects)
