"""The packed Trainer in several processes: the same rows in the same step, summed gradients, the same random draws."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Sampler

from tasks.records import digest
from tasks.shards import Shards
from tasks.train import sharded, shares, step, together

FILL = -1
"""The number of a row that is none: an epoch had no row left for this process."""


class SharedRows(step.Rows):
    """The packed rows, and one without tokens under the number `FILL`."""

    def __getitem__(self, number: int) -> dict[str, Any]:
        if number == FILL:
            return {"number": FILL, "ids": [], "supervised": [], "lengths": np.zeros(0, np.int64)}
        return super().__getitem__(number)


def idle_piece(packed: Shards) -> step.Batch:
    """A row's tokens with nothing to learn: its loss and gradients are zero, and every block computes."""
    piece = step.collate([step.Rows(packed)[0]])
    return {**piece, "predicting": piece["predicting"][:0], "labels": piece["labels"][:0]}


class Order(Sampler[int]):
    """The numbers of `rows` rows in an order by seed and epoch, filled up to whole steps of `per_step` rows."""

    def __init__(self, rows: int, per_step: int, seed: int, epoch: Callable[[], int]) -> None:
        self.rows, self.seed, self.epoch = rows, seed, epoch
        self.fill = -rows % per_step

    def __len__(self) -> int:
        return self.rows + self.fill

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        yield from torch.randperm(self.rows, generator=generator).tolist()
        yield from [FILL] * self.fill


class SharedTrainer(step.PackedTrainer):
    """The packed Trainer whose steps several processes compute together, each some of their rows."""

    def __init__(self, packed: Shards, threads: int, **arguments: Any) -> None:
        super().__init__(threads, train_dataset=SharedRows(packed), **arguments)
        self.packed = packed
        self.idle = idle_piece(packed) if sharded.is_sharded(arguments["model"]) else None
        """What a process without a row computes, where the others wait for it."""
        # Gradients are summed below: DDP would take their mean, and knows only of calls of the whole model.
        prepare: Any = partial(self.accelerator.prepare_model, evaluation_mode=True)
        self.accelerator.prepare_model = prepare

    def collate(self, rows: list[dict[str, Any]]) -> step.Batch:
        """As the step's, with the rows' numbers."""
        numbers, batch = [row["number"] for row in rows], super().collate(rows)
        if self.idle is not None:
            batch["shares"] += [[self.idle]] * numbers.count(FILL)
        return {**batch, "numbers": numbers}

    def training_step(self, model: Any, inputs: step.Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        """As the Trainer's; the gradients are summed over the processes."""
        loss = super().training_step(model, inputs, num_items_in_batch)
        together.sum_gradients(model.parameters())
        return loss * together.count()  # the Trainer logs the mean over the processes

    def learn(self, model: Any, piece: step.Batch, supervised: Any) -> shares.Computed:
        """As the step's; what is drawn for a row depends on the seed, the step and the row alone."""
        if self.threads.number == 1:
            torch.manual_seed(int(digest([self.args.seed, self.state.global_step, piece["rows"]], 15), 16))
        return super().learn(model, piece, supervised)

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        """The order of the rows; the Trainer hands every so many-th one to each process."""
        return Order(len(self.packed), self._per_step, self.args.seed, self._epoch)

    @property
    def _per_step(self) -> int:
        """The rows of a step, over all processes."""
        return int(self.args.per_device_train_batch_size * together.count())

    def _epoch(self) -> int:
        return int(self.state.global_step // -(-len(self.packed) // self._per_step))
