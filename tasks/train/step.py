"""The training step: rows of packed sequences in, one loss normalised by the supervised tokens of the whole step."""

from typing import Any

import torch
from peft.helpers import disable_input_dtype_casting
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import Trainer

from tasks import guards
from tasks.shards import Shards

Batch = dict[str, Any]


class Rows(Dataset[dict[str, Any]]):
    """The packed rows of token shards."""

    def __init__(self, shards: Shards) -> None:
        self.shards = shards

    def __len__(self) -> int:
        return len(self.shards)

    def __getitem__(self, number: int) -> dict[str, Any]:
        return {"number": number, **self.shards.row(number)}


def collate(rows: list[dict[str, Any]]) -> Batch:
    """Rows as one flat batch without padding.

    `input_ids` and `position_ids` are (1, tokens), positions start anew in each sequence; `predicting` (supervised
    tokens,) are the places whose next token is learnt, `labels` (supervised tokens,) these next tokens.
    Raises GuardError where a batch trains on nothing.
    """
    ids = torch.cat([torch.tensor(row["ids"], dtype=torch.long) for row in rows])
    supervised = torch.cat([torch.tensor(row["supervised"]) for row in rows])
    lengths = torch.cat([torch.tensor(row["lengths"]) for row in rows])
    guards.supervised_somewhere(f"batch of rows {[row['number'] for row in rows]}", supervised.tolist())
    learnt = supervised.nonzero().squeeze(1)
    boundaries = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).to(torch.int32)
    labels = ids[learnt]
    return {
        "input_ids": ids[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": int(lengths.max()),
        "max_length_k": int(lengths.max()),
        "predicting": learnt - 1,
        "labels": labels,
        # The Trainer counts these for the whole optimiser step; under `labels` alone it would leave out the first.
        "shift_labels": labels,
    }


def logits_of(model: Any, batch: Batch) -> torch.Tensor:
    """Logits at the predicting places only, (supervised tokens, vocabulary).

    Over a bfloat16 base the adapter's products are in bfloat16 too, while its weights stay in float32. PEFT would cast
    every layer's input to float32 instead, which costs as much again as the base's own forward pass.
    """
    number_format = model.get_input_embeddings().weight.dtype
    mixed = number_format is not torch.float32
    inputs = {name: value for name, value in batch.items() if name not in ("predicting", "labels", "shift_labels")}
    with torch.autocast(model.device.type, number_format, enabled=mixed), disable_input_dtype_casting(model, mixed):
        logits: torch.Tensor = model(**inputs, use_cache=False, logits_to_keep=batch["predicting"]).logits[0]
    return logits


class PackedTrainer(Trainer):
    """transformers' Trainer with a loss that is a sum over supervised tokens, divided by those of the whole step."""

    loss_is_scaled_for_ga = True

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The batch's share of the step's mean cross-entropy."""
        total = cross_entropy(logits_of(model, inputs).float(), inputs["labels"], reduction="sum")
        loss: torch.Tensor = total / num_items_in_batch
        return loss


def neighbour_difference(model: Any, batch: Batch) -> float:
    """How far the last sequence's logits move when all before it change; 0 where packed sequences are apart."""
    start = int(batch["cu_seq_lens_q"][-2])
    if start == 0:
        return 0.0
    own = batch["predicting"] >= start
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][:, :start] = changed["input_ids"][:, :start].flip(1)
    with torch.no_grad():
        return float((logits_of(model, batch)[own] - logits_of(model, changed)[own]).abs().max())


def adapter_difference(model: Any, batch: Batch) -> float:
    """How far the logits with the adapter on are from those with it off."""
    with torch.no_grad():
        tuned = logits_of(model, batch)
        with model.disable_adapter():
            return float((tuned - logits_of(model, batch)).abs().max())
