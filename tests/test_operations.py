"""The operations of a step are those of its matrix products, and the device is measured on them."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM

from tasks import attention, params
from tasks.shards import read_shards
from tasks.train import operations, step
from tasks.train.__main__ import adapt
from tests.project import Project


@pytest.fixture
def base(project: Project) -> Any:
    return AutoModelForCausalLM.from_pretrained(
        project.root / "models/base", dtype=torch.float32, attn_implementation=attention.NAME
    )


def test_an_adapter_changes_nothing_of_the_count(project: Project, base: Any) -> None:
    packed = read_shards(project.root / "data/pack")
    before = operations.per_token(base, packed)
    assert operations.per_token(adapt(base, params.Lora()), packed) == before


def test_the_count_is_what_torch_counts_of_the_base_s_products(project: Project, base: Any) -> None:
    packed = read_shards(project.root / "data/pack")
    head, linear = base.get_output_embeddings(), sum(out * into for out, into in operations.shapes(base))
    counted, tokens, learnt = 0, 0, 0
    for number in range(len(packed)):
        batch = step.collate([step.Rows(packed)[number]])
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            step.logits_of(base, batch)
        counted += counter.get_total_flops()
        tokens, learnt = tokens + batch["input_ids"].numel(), learnt + batch["labels"].numel()
    # Of a forward pass: 2 for each weight; what is left is attention, which torch does not halve for causality.
    attention_s = counted - 2 * linear * tokens - 2 * head.weight.numel() * learnt
    step_s = operations.per_token(base, packed) * tokens - 4 * linear * tokens - 4 * head.weight.numel() * learnt
    assert 0 < step_s == pytest.approx(attention_s * 3 / 2, rel=0.3)


def test_the_device_s_rate_is_that_of_its_products(project: Project, base: Any) -> None:
    drawn = torch.get_rng_state()
    assert 1e8 < operations.rate(base, 700) < 1e15
    assert torch.equal(torch.get_rng_state(), drawn)
