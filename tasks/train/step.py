"""The training step: rows of packed sequences in, one loss normalised by the supervised tokens of the whole step."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from peft.helpers import disable_input_dtype_casting
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import Trainer

from tasks import guards
from tasks.shards import Shards
from tasks.threads import Threads
from tasks.train import shares
from tasks.train.loss import SummedCrossEntropy

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
    tokens,) are the places whose next token is learnt, `labels` (supervised tokens,) these next tokens, `rows` the
    rows' numbers. Raises GuardError where a batch trains on nothing.
    """
    ids = torch.cat([torch.tensor(row["ids"], dtype=torch.long) for row in rows])
    supervised = torch.cat([torch.tensor(row["supervised"]) for row in rows])
    lengths = torch.cat([torch.tensor(row["lengths"]) for row in rows])
    guards.supervised_somewhere(f"batch of rows {[row['number'] for row in rows]}", supervised.tolist())
    learnt = supervised.nonzero().squeeze(1)
    boundaries = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).to(torch.int32)
    return {
        "input_ids": ids[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": boundaries,
        "cu_seq_lens_k": boundaries,
        "max_length_q": int(lengths.max()),
        "max_length_k": int(lengths.max()),
        "predicting": learnt - 1,
        "labels": ids[learnt],
        "rows": [row["number"] for row in rows],
    }


@contextmanager
def mixed_precision(model: Any) -> Iterator[None]:
    """Within it an adapter's products over a bfloat16 base are in bfloat16, while its weights stay in float32.

    PEFT would cast every layer's input to float32 instead, which costs as much again as the base's own forward pass.
    """
    number_format = model.get_input_embeddings().weight.dtype
    mixed = number_format is not torch.float32
    with torch.autocast(model.device.type, number_format, enabled=mixed), disable_input_dtype_casting(model, mixed):
        yield


def logits_of(model: Any, batch: Batch) -> torch.Tensor:
    """Logits at the predicting places only, (supervised tokens, vocabulary)."""
    with mixed_precision(model):
        logits: torch.Tensor = model(**_inputs(batch), use_cache=False, logits_to_keep=batch["predicting"]).logits[0]
    return logits


def hidden_of(model: Any, batch: Batch) -> torch.Tensor:
    """What the output layer gets at the predicting places, (supervised tokens, width)."""
    with mixed_precision(model):
        hidden: torch.Tensor = _causal(model).base_model(**_inputs(batch), use_cache=False)[0]
    return hidden[0].index_select(0, batch["predicting"])


def summed_loss(model: Any, batch: Batch, head: nn.Linear | None) -> torch.Tensor:
    """The sum of the cross-entropies of all supervised tokens; `head` is what `plain_head` told."""
    if head is None:
        return cross_entropy(logits_of(model, batch).float(), batch["labels"], reduction="sum")
    hidden = hidden_of(model, batch)
    return SummedCrossEntropy.apply(hidden, head.weight, head.bias, batch["labels"])  # type: ignore


def plain_head(model: Any) -> nn.Linear | None:
    """The output layer, where it is a frozen matrix whose products are the logits; None where it is not.

    Some models scale or bend the logits behind it, or put it elsewhere; eight tokens through both ways tell.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.weight.requires_grad:
        return None
    few = collate([{"number": 0, "ids": range(8), "supervised": [False] + [True] * 7, "lengths": [8]}])
    few = {name: value.to(model.device) if isinstance(value, torch.Tensor) else value for name, value in few.items()}
    training = model.training
    with torch.no_grad():
        model.eval()
        hidden, logits = hidden_of(model, few), logits_of(model, few)
        model.train(training)
        return head if torch.equal(head(hidden[None])[0], logits) else None


class PackedTrainer(Trainer):
    """transformers' Trainer with a loss that is a sum over supervised tokens, divided by those of the whole step.

    A batch is a whole step's rows; on a CPU `threads` compute it side by side, where the model draws no random numbers.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, threads: int, **options: Any) -> None:
        super().__init__(data_collator=self.collate, **options)
        model: nn.Module = options["model"]
        alone = self.args.device.type != "cpu" or shares.draws(model)
        self.threads = Threads(1 if alone else threads)
        self.head = plain_head(self.model)
        self.learnt = [weight for weight in model.parameters() if weight.requires_grad]

    def collate(self, rows: list[dict[str, Any]]) -> Batch:
        """The rows of a step as shares of pieces: whole rows for one thread."""
        rows = [row for row in rows if len(row["ids"])]
        alone = self.threads.number == 1
        dealt = [[[row] for row in rows]] if alone else shares.share_out(rows, self.threads.number)
        batches = [[collate(piece) for piece in share] for share in dealt]
        pieces = [piece for share in batches for piece in share]
        nothing = torch.zeros(1, 0, dtype=torch.long)
        return {
            "shares": batches,
            "input_ids": torch.cat([nothing, *(piece["input_ids"] for piece in pieces)], dim=1),
            # The Trainer counts these for the whole step; under the name `labels` it would leave out the first.
            "shift_labels": torch.cat([nothing[0], *(piece["labels"] for piece in pieces)]),
            "labels": nothing,
        }

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """The step's mean cross-entropy, with its gradients computed already."""

        def compute(share: list[Batch]) -> shares.Computed:
            return shares.summed((self.learn(model, piece, num_items_in_batch) for piece in share), self.learnt)

        # Threads would switch PEFT's casting on and off under each other; once around them, it stays off.
        with mixed_precision(model):
            loss, gradients = shares.summed(self.threads.map(compute, inputs["shares"]), self.learnt)
        return shares.Precomputed.apply(loss, gradients, *self.learnt)  # type: ignore

    def learn(self, model: Any, piece: Batch, supervised: Any) -> shares.Computed:
        """A piece's part of the mean over the step's `supervised` tokens, and its gradients."""
        loss = summed_loss(model, piece, self.head) / supervised
        return loss.detach(), list(torch.autograd.grad(loss, self.learnt, materialize_grads=True))


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


def _inputs(batch: Batch) -> dict[str, Any]:
    """What of a batch the model reads."""
    return {name: value for name, value in batch.items() if name not in ("predicting", "labels", "rows")}


def _causal(model: Any) -> Any:
    """The language model, with or without an adapter in it."""
    return model.get_base_model() if isinstance(model, PeftModel) else model
