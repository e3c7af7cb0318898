"""The packed Trainer in several processes: the same rows in the same step, summed gradients, the same random draws."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.data import Sampler

from tasks.records import digest
from tasks.shards import Shards
from tasks.train import step, together

FILL = -1
"""The number of a row that is none: an epoch had no row left for this process."""


class SharedRows(step.Rows):
    """The packed rows, and one token of which nothing is learnt under the number `FILL`."""

    def __getitem__(self, number: int) -> dict[str, Any]:
        if number != FILL:
            return super().__getitem__(number)
        first = super().__getitem__(0)
        return {"number": FILL, "ids": first["ids"][:1], "supervised": [False], "lengths": [1]}


def collate(rows: list[dict[str, Any]]) -> step.Batch:
    """As the step's, with the rows' numbers."""
    numbers = [row["number"] for row in rows]
    return {**(step.joined if numbers == [FILL] else step.collate)(rows), "numbers": numbers}


class Order(Sampler[int]):
    """The numbers of `rows` rows in an order by seed and epoch, filled up so that each process gets as many."""

    def __init__(self, rows: int, seed: int, epoch: Callable[[], int]) -> None:
        self.rows, self.seed, self.epoch = rows, seed, epoch
        self.fill = -rows % together.count()

    def __len__(self) -> int:
        return self.rows + self.fill

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed + self.epoch())
        yield from torch.randperm(self.rows, generator=generator).tolist()
        yield from [FILL] * self.fill


class SharedTrainer(step.PackedTrainer):
    """The packed Trainer whose steps several processes compute together, each some of their rows."""

    def __init__(self, packed: Shards, **arguments: Any) -> None:
        super().__init__(train_dataset=SharedRows(packed), data_collator=collate, **arguments)
        self.packed = packed
        # Gradients are summed below: DDP would take their mean, and knows only of calls of the whole model.
        prepare: Any = partial(self.accelerator.prepare_model, evaluation_mode=True)
        self.accelerator.prepare_model = prepare

    def training_step(self, model: Any, inputs: step.Batch, num_items_in_batch: Any = None) -> torch.Tensor:
        """As the Trainer's; behind the last rows of an optimiser step its gradients are summed over the processes.

        What is drawn for a row depends on the seed, the step and the row alone.
        """
        torch.manual_seed(int(digest([self.args.seed, self.state.global_step, inputs["numbers"]], 15), 16))
        loss = super().training_step(model, inputs, num_items_in_batch)
        if self.accelerator.sync_gradients:
            together.sum_gradients(model.parameters())
        return loss * together.count()  # the Trainer logs the mean over the processes

    def _get_train_sampler(self, train_dataset: Any = None) -> Order:
        """The order of the rows; the Trainer hands every so many-th one to each process."""
        return Order(len(self.packed), self.args.seed, self._epoch)

    def _epoch(self) -> int:
        rows = self.args.gradient_accumulation_steps * together.count()
        return int(self.state.global_step // -(-len(self.packed) // rows))
