"""The frozen base in parts: a process holds its share of each block, and a block whole only while it computes with it.

torch's `fully_shard` (FSDP2) does that. Only what is frozen is in parts: the adapter is small and stays whole in each
process, so that its gradients, optimiser, checkpoints and files are those of processes that hold the base whole, and a
training may go on in another number of them. accelerate and transformers would shard the adapter too. Embeddings and
output layer stay whole as well, since the loss takes the output layer's weights by themselves.
"""

from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

from tasks import model
from tasks.errors import UserError
from tasks.train import linear, together


def shard(adapted: Any) -> None:
    """Leave this process its part of each block of the base under an adapter; what stays whole goes to its device.

    Raises UserError where the model does not say what its blocks are.
    """
    inner = adapted.get_base_model().base_model
    mesh = init_device_mesh(model.device().type, (together.count(),))
    for block in blocks(inner):
        _in_parts(block, mesh, {weight for weight in block.parameters() if weight.requires_grad})
    # The root holds no part of its own: it lets one block's parts travel while another block computes.
    _in_parts(inner, mesh, {weight for weight in inner.parameters() if not isinstance(weight, DTensor)})
    adapted.to(model.device())
    if together.is_first():
        print(_told(adapted), flush=True)


def blocks(inner: Any) -> list[nn.Module]:
    """The blocks that transformers names as those not to be split. Raises UserError where it names none."""
    named = set(inner._no_split_modules or ())
    found = [module for module in inner.modules() if type(module).__name__ in named]
    if not found:
        raise UserError(f"train.launch.base: {type(inner).__name__} names no blocks to be sharded: set it to whole")
    return found


def is_sharded(adapted: nn.Module) -> bool:
    """Whether the processes must compute every forward and backward pass together, since they gather blocks in it."""
    return any(isinstance(module, FSDPModule) for module in adapted.modules())


def _in_parts(module: nn.Module, mesh: DeviceMesh, whole: set[nn.Parameter]) -> None:
    fully_shard(module, mesh=mesh, ignored_params=whole)


def _told(adapted: nn.Module) -> str:
    """What is in parts, and what of the project's own step is left to the stock one."""
    parts = sum(weight.nbytes for weight in adapted.parameters() if isinstance(weight, DTensor))
    whole = sum(weight.nbytes for weight in adapted.parameters() if not isinstance(weight, DTensor))
    fused = sum(type(module) is linear.FrozenLinear for module in adapted.modules())
    return (
        f"sharded: {parts / 2**20:.0f} MiB of the base in {together.count()} parts, {whole / 2**20:.0f} MiB whole in"
        f" each process (embeddings, output layer, adapter); the packed step and {fused} fused layers compute as ever,"
        " threads do not share a step's rows"
    )
