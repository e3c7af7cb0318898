"""A base in parts: what of it is, what stays whole, and what a process computes that has no row."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed
from torch.distributed.tensor import DTensor
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoModelForCausalLM

from tasks import attention, params
from tasks.errors import UserError
from tasks.shards import read_shards
from tasks.train import processes, sharded, step, together
from tasks.train.__main__ import adapt
from tasks.train.control import ControlledTrainer
from tests import tiny
from tests.project import Project


@pytest.fixture
def adapted(project: Project) -> Any:
    """The tiny model under an adapter."""
    folder = project.root / "models/base"
    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention.NAME)
    return adapt(base, params.Lora(r=4))


@pytest.fixture
def one_of_four() -> Iterator[None]:
    """This process as the first of four, the others only seemingly there."""
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_of_four")
def test_a_process_holds_its_share_of_the_blocks_and_all_that_is_learnt(adapted: Any) -> None:
    before = {name: weight.numel() for name, weight in adapted.named_parameters()}
    sharded.shard(adapted)
    assert sharded.is_sharded(adapted)
    for name, weight in adapted.named_parameters():
        in_parts = ".layers." in name and "lora_" not in name
        assert isinstance(weight, DTensor) is in_parts
        held = weight.to_local() if isinstance(weight, DTensor) else weight
        assert held.numel() == before[name] / (4 if in_parts else 1)
        assert weight.requires_grad == ("lora_" in name)


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_every_kind_of_model_says_what_its_blocks_are(kind: str, tmp_path: Any) -> None:
    model, _ = tiny.KINDS[kind](tmp_path)
    assert len(sharded.blocks(model.base_model)) == tiny.SIZES["num_hidden_layers"]


def test_a_model_that_does_not_say_it_is_refused() -> None:
    with pytest.raises(UserError, match=r"^train\.launch\.base: .* names no blocks to be sharded: set it to whole$"):
        sharded.blocks(SimpleNamespace(_no_split_modules=None, modules=list))


def test_a_process_without_a_row_computes_all_and_adds_nothing(project: Project, adapted: Any) -> None:
    piece = processes.idle_piece(read_shards(project.root / "data/pack"))
    learnt = [weight for weight in adapted.parameters() if weight.requires_grad]
    loss = step.summed_loss(adapted, piece, step.plain_head(adapted))
    gradients = torch.autograd.grad(loss, learnt)
    assert loss == 0
    assert not any(gradient.any() for gradient in gradients)


def test_a_row_to_validate_on_counts_once_where_some_process_has_none(
    project: Project, adapted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = step.Rows(read_shards(project.root / "data/pack"))
    trainer: Any = SimpleNamespace(adapted=adapted, head=step.plain_head(adapted), _prepare_inputs=lambda batch: batch)
    alone = ControlledTrainer.mean_loss(trainer, rows)
    processes = len(rows) + 1
    monkeypatch.setattr(together, "count", lambda: processes)
    monkeypatch.setattr(together, "total", lambda value: value)
    found = []
    for rank in range(processes):
        monkeypatch.setattr(together, "rank", lambda rank=rank: rank)
        found.append(ControlledTrainer.mean_loss(trainer, rows))
    assert (sum(found), found[-1]) == (pytest.approx(alone), 0)


def test_a_quantised_base_is_not_sharded() -> None:
    with pytest.raises(ValueError, match=r"`launch\.base`: a base of 4 bits cannot be sharded"):
        params.Train(lora=params.Lora(base_bits=4), launch=params.Launch(base="sharded"))
