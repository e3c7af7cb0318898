"""What is computed faster is computed right: against stock layers, torch's own functions and unpacked sequences."""

import copy
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.functional import cross_entropy
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from tasks import attention, norm, params
from tasks.shards import read_shards
from tasks.train import linear, loss, step
from tasks.train.__main__ import adapt
from tests import tiny
from tests.project import Project
from tests.test_step import alone, singles

KINDS = ("with_bos", "without_chat_template", "not_llama")
"""Llama, GPT-NeoX and GPT-2, of one vocabulary."""

STEPS = 20


@pytest.fixture(scope="module")
def rows(project: Project) -> step.Rows:
    return step.Rows(read_shards(project.root / "data/pack"))


@cache
def made(kind: str) -> tuple[Any, Any]:
    """The tiny model of this kind, and its tokenizer."""
    torch.manual_seed(3)
    return tiny.KINDS[kind](Path())


def fresh(kind: str, implementation: str) -> Any:
    """A tiny model in its first weights, which drops nothing."""
    model, _ = copy.deepcopy(made(kind))
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    model.set_attn_implementation(implementation)
    return model


def plain(kind: str) -> Any:
    """The same under PEFT's own layers."""
    model = fresh(kind, "eager")
    torch.manual_seed(5)
    gpt2 = kind == "not_llama"
    return get_peft_model(
        model, LoraConfig(task_type="CAUSAL_LM", r=16, lora_alpha=32, target_modules="all-linear", fan_in_fan_out=gpt2)
    )


def fused(kind: str, lora: params.Lora | None = None) -> Any:
    """The same under this project's."""
    model = fresh(kind, attention.NAME)
    torch.manual_seed(5)
    return adapt(model, lora or params.Lora())


def steps(model: Any, summed: Callable[[int], torch.Tensor]) -> tuple[list[float], dict[str, torch.Tensor]]:
    """Losses of 20 optimiser steps, and the gradients of the first and the weights of the last."""
    adapter = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    optimiser = torch.optim.AdamW(adapter.values(), lr=1e-3, eps=1e-4)
    losses, kept = [], {}
    model.train()
    for number in range(STEPS):
        value = summed(number) / 100
        value.backward()
        if number == 0:
            kept = {f"{name}, gradient": weight.grad.clone() for name, weight in adapter.items()}
        optimiser.step()
        optimiser.zero_grad()
        losses.append(value.detach().item())
    return losses, kept | {name: weight.detach() for name, weight in adapter.items()}


def three(few: list[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    """The sequences of a step."""
    return [few[(number + place) % len(few)] for place in range(3)]


@pytest.mark.parametrize("kind", KINDS)
def test_twenty_steps_equal_the_plain_unpacked_computation(kind: str, rows: step.Rows) -> None:
    ours, theirs = fused(kind), plain(kind)
    assert sum(isinstance(one, linear.FrozenLinear) for one in ours.modules()) >= 8
    head, few = step.plain_head(ours), singles(rows)[:6]
    assert head is not None
    losses, kept = steps(ours, lambda number: step.summed_loss(ours, step.collate(three(few, number)), head))
    expected, wanted = steps(theirs, lambda number: sum(alone(theirs, row) for row in three(few, number)))
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-4)
    for name, value in kept.items():
        torch.testing.assert_close(value, wanted[name], rtol=1e-3, atol=2e-5, msg=lambda text, name=name: name + text)


def test_in_bfloat16_the_gradients_are_those_of_float32_but_for_rounding(rows: step.Rows) -> None:
    batch = step.collate([rows[0]])
    exact, rounded = fused("with_bos"), adapt_in_bfloat16()
    for model in (exact, rounded):
        (step.summed_loss(model, batch, step.plain_head(model)) / len(batch["labels"])).backward()
    for one, other in zip(exact.parameters(), rounded.parameters(), strict=True):
        if one.requires_grad:
            assert other.grad.dtype == torch.float32
            assert (one.grad - other.grad).norm() <= 0.03 * one.grad.norm()


def adapt_in_bfloat16() -> Any:
    model = fresh("with_bos", attention.NAME).bfloat16()
    torch.manual_seed(5)
    return adapt(model, params.Lora())


@pytest.mark.parametrize("longest", [attention.LONGEST, 0])
def test_attention_of_packed_sequences_is_that_of_each_alone(longest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "LONGEST", longest)
    ends = torch.tensor([0, 1, 128, 256, 385, 700])
    torch.manual_seed(1)
    inputs = [torch.randn(1, heads, 700, 8, requires_grad=True) for heads in (6, 2, 2)]
    upstream = torch.randn(1, 700, 6, 8)
    found, _ = attention.packed_attention(nn.Identity(), *inputs, None, scaling=0.3, cu_seq_lens_q=ends)
    query, key, value = (one.repeat_interleave(6 // one.shape[1], 1) for one in inputs)
    expected = torch.cat(
        [eager(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], 0.3) for a, b in pairwise(ends.tolist())], dim=2
    ).transpose(1, 2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    for one, other in zip(
        torch.autograd.grad(found, inputs, upstream), torch.autograd.grad(expected, inputs, upstream), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def eager(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    later = torch.ones(query.shape[2], query.shape[2], dtype=torch.bool).triu(1)
    return (query @ key.transpose(2, 3) * scale).masked_fill(later, float("-inf")).softmax(3) @ value


@pytest.mark.parametrize("chunk", [7, 20, 64])
def test_a_chunked_loss_and_its_gradient_are_those_of_all_logits(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    monkeypatch.setattr(loss, "CHUNK", chunk)
    monkeypatch.setattr(loss, "linear", lambda *given: held.append(len(given[0])) or nn.functional.linear(*given))
    torch.manual_seed(1)
    hidden, weight, bias = torch.randn(20, 8, requires_grad=True), torch.randn(50, 8), torch.randn(50)
    labels = torch.randint(50, (20,))
    found = loss.SummedCrossEntropy.apply(hidden, weight, bias, labels)
    expected = cross_entropy(nn.functional.linear(hidden, weight, bias), labels, reduction="sum")
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found * 3, hidden), torch.autograd.grad(expected * 3, hidden))
    assert max(held) <= chunk


@pytest.mark.parametrize("number_format", [torch.float32, torch.bfloat16])
def test_a_norm_and_its_gradient_are_those_of_the_stock_layer(number_format: torch.dtype) -> None:
    torch.manual_seed(1)
    stock = LlamaRMSNorm(24).to(number_format).requires_grad_(False)
    stock.weight.uniform_(0.5, 1.5)
    x = torch.randn(2, 9, 24, dtype=number_format, requires_grad=True)
    upstream = torch.randn(2, 9, 24, dtype=number_format)
    model = nn.Sequential(stock)
    norm.fuse(model)
    found, expected = model(x), stock(x)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(torch.autograd.grad(found, x, upstream), torch.autograd.grad(expected, x, upstream))
    assert type(model[0]) is norm.FrozenNorm


def test_a_norm_that_only_bears_the_name_or_learns_is_left_alone() -> None:
    class OtherRMSNorm(LlamaRMSNorm):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) * 2

    model = nn.Sequential(OtherRMSNorm(8).requires_grad_(False), LlamaRMSNorm(8))
    norm.fuse(model)
    assert [type(layer) for layer in model] == [OtherRMSNorm, LlamaRMSNorm]


def test_logits_that_are_changed_behind_the_head_are_noticed(rows: step.Rows) -> None:
    model, batch = fresh("with_bos", attention.NAME).requires_grad_(False), step.collate([rows[0]])
    assert step.plain_head(model) is not None
    usual = model.forward

    def halved(*given: Any, **options: Any) -> Any:
        output = usual(*given, **options)
        output.logits = output.logits / 2
        return output

    model.forward = halved
    assert step.plain_head(model) is None
    expected = cross_entropy(step.logits_of(model, batch), batch["labels"], reduction="sum")
    assert step.summed_loss(model, batch, step.plain_head(model)) == expected


def test_what_the_fused_layer_does_not_compute_is_left_to_peft(rows: step.Rows) -> None:
    batch = step.collate([rows[0]])
    for lora in (params.Lora(dora=True), params.Lora(dropout=0.5)):
        model = fused("with_bos", lora)
        torch.manual_seed(7)
        step.summed_loss(model, batch, step.plain_head(model)).backward()
        assert all(one.grad is not None for one in model.parameters() if one.requires_grad)
    quiet = model.eval()
    torch.testing.assert_close(step.logits_of(quiet, batch), step.logits_of(fused("with_bos"), batch))
