"""The training step computes what the plain, unpacked computation computes."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from tasks import attention, guards, params
from tasks.guards import GuardError
from tasks.shards import read_shards
from tasks.train import shares, step
from tasks.train.__main__ import adapt
from tests.project import Project


@pytest.fixture(scope="module")
def rows(project: Project) -> step.Rows:
    return step.Rows(read_shards(project.root / "data/pack"))


@pytest.fixture
def packed(project: Project) -> Any:
    return load(project, attention.NAME)


def load(project: Project, implementation: str) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        project.root / "models/base", dtype=torch.float32, attn_implementation=implementation
    )


def alone(model: Any, row: dict[str, Any]) -> torch.Tensor:
    """The summed loss of a row's sequences, each computed by itself by the stock model."""
    total, start = torch.zeros(()), 0
    for length in row["lengths"].tolist():
        ids = torch.tensor(row["ids"][start : start + length], dtype=torch.long)
        learnt = torch.tensor(row["supervised"][start : start + length])
        logits = model(input_ids=ids[None]).logits[0, :-1]
        total = total + cross_entropy(logits[learnt[1:]], ids[1:][learnt[1:]], reduction="sum")
        start += length
    return total


def test_packed_loss_and_gradients_equal_those_of_each_sequence_alone(
    project: Project, packed: Any, rows: step.Rows
) -> None:
    plain, batch = load(project, "eager"), step.collate([rows[0]])
    loss = cross_entropy(step.logits_of(packed, batch), batch["labels"], reduction="sum")
    expected = alone(plain, rows[0])
    loss.backward(), expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-4)
    for one, other in zip(packed.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-4)


def test_a_changed_neighbour_changes_nothing(packed: Any, rows: step.Rows) -> None:
    batch = step.collate([rows[0]])
    assert len(batch["cu_seq_lens_q"]) > 2
    assert step.neighbour_difference(packed, batch) == 0


def test_the_loss_of_no_sequence_moves_when_another_changes(packed: Any, rows: step.Rows) -> None:
    batch = step.collate([rows[0]])
    ends = batch["cu_seq_lens_q"].tolist()
    before = losses(packed, batch)
    for number, (start, end) in enumerate(pairwise(ends)):
        changed = {**batch, "input_ids": batch["input_ids"].clone()}
        changed["input_ids"][:, start:end] = changed["input_ids"][:, start:end].flip(1)
        moved = [one != other for one, other in zip(before, losses(packed, changed), strict=True)]
        assert moved == [other == number for other in range(len(moved))]


def losses(model: Any, batch: step.Batch) -> list[float]:
    """The loss of each of a row's sequences."""
    with torch.no_grad():
        each = cross_entropy(step.logits_of(model, batch), batch["labels"], reduction="none")
    spans = pairwise(batch["cu_seq_lens_q"].tolist())
    return [float(each[(batch["predicting"] >= start) & (batch["predicting"] < end)].sum()) for start, end in spans]


def test_a_model_whose_sequences_see_each_other_is_stopped(project: Project, rows: step.Rows) -> None:
    seeing = load(project, "eager")
    batch = step.collate([rows[0]])
    batch["position_ids"] = torch.arange(batch["input_ids"].shape[1])[None]
    with pytest.raises(GuardError, match="see each other"):
        guards.sequences_are_apart(step.neighbour_difference(seeing, batch))


def test_rows_joined_in_a_batch_stay_apart(packed: Any, rows: step.Rows) -> None:
    one, two = (step.collate([rows[number]]) for number in (0, 1))
    both = step.logits_of(packed, step.collate([rows[0], rows[1]]))
    expected = torch.cat([step.logits_of(packed, one), step.logits_of(packed, two)])
    torch.testing.assert_close(both, expected, rtol=1e-5, atol=1e-5)


def test_the_loss_is_divided_by_the_supervised_tokens_of_the_whole_step(project: Project, rows: step.Rows) -> None:
    one_by_one, at_once = (trained(project, rows, **sizes) for sizes in ({"accumulate": 8}, {"together": 8}))
    for name, weight in one_by_one.items():
        torch.testing.assert_close(weight, at_once[name], rtol=1e-4, atol=1e-5)


def test_threads_side_by_side_train_like_one_and_twice_to_the_same_bytes(project: Project, rows: step.Rows) -> None:
    alone, first, second = (trained(project, rows, together=8, threads=number) for number in (1, 3, 3))
    for name, weight in alone.items():
        torch.testing.assert_close(weight, first[name], rtol=1e-4, atol=1e-5)
        assert torch.equal(first[name], second[name])


def singles(rows: step.Rows) -> list[dict[str, Any]]:
    """Each sequence of the rows as a row of its own."""
    return list(shares.sequences([rows[number] for number in range(len(rows))]))


def trained(
    project: Project, rows: step.Rows, together: int = 1, accumulate: int = 1, threads: int = 1
) -> dict[str, torch.Tensor]:
    """The adapter after two optimiser steps over the first eight sequences."""
    from transformers import TrainingArguments, set_seed

    set_seed(1)
    adapted = adapt(load(project, attention.NAME), params.Lora())
    arguments = TrainingArguments(
        output_dir=str(project.root / "build"),
        per_device_train_batch_size=together,
        gradient_accumulation_steps=accumulate,
        max_steps=2,
        learning_rate=0.01,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
    )
    few = singles(rows)[:8]
    step.PackedTrainer(threads, model=adapted, args=arguments, train_dataset=few).train()
    return {name: weight.detach() for name, weight in adapted.named_parameters() if weight.requires_grad}


def test_a_batch_without_supervised_tokens_is_stopped(rows: step.Rows) -> None:
    masked = {**rows[0], "supervised": np.zeros_like(rows[0]["supervised"])}
    with pytest.raises(GuardError, match=r"batch of rows \[0\]: no token is supervised"):
        step.collate([masked])


def test_only_supervised_tokens_are_labels(rows: step.Rows) -> None:
    batch, row = step.collate([rows[0]]), rows[0]
    assert batch["labels"].tolist() == row["ids"][row["supervised"]].tolist()
    assert (batch["predicting"] + 1).tolist() == row["supervised"].nonzero()[0].tolist()


def test_a_fresh_adapter_changes_nothing_and_is_noticed(packed: Any, rows: step.Rows) -> None:
    fresh, batch = adapt(packed, params.Lora()), step.collate([rows[0]])
    with pytest.raises(GuardError, match="not applied"):
        guards.adapter_changes_logits(step.adapter_difference(fresh, batch))


def test_positions_start_anew_in_each_sequence(rows: step.Rows) -> None:
    batch = step.collate([rows[0]])
    expected = [place for length in rows[0]["lengths"].tolist() for place in range(length)]
    assert batch["position_ids"].tolist() == [expected]
