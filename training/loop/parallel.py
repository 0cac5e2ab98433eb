"""One run on several processes (`accelerate launch`): which process holds which weights."""

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor, distribute_tensor

from ..errors import TrainingError


def distribute(model: torch.nn.Module, accelerator: Accelerator, shard: bool) -> torch.nn.Module:
    """Move a model to this process's device and connect it with the other processes.

    Args:
        model: the module.
        accelerator: from `make_accelerator`.
        shard: keep only a shard of each weight here (FSDP: `fully_shard` of every block); otherwise a copy (DDP).

    Raises:
        TrainingError: weights of this kind cannot be distributed.
    """
    if not (shard or accelerator.distributed_type == DistributedType.FSDP):
        return accelerator.prepare(model)
    if accelerator.num_processes == 1:
        raise TrainingError("shard: true needs several processes: start with accelerate launch --num_processes N")
    strange = next((n for n, p in model.named_parameters() if p.dtype not in _SHARED), None)
    if strange is not None:
        raise TrainingError(f"shard: true cannot shard quantised weights ({strange}): set quantize to none")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    for name, module in model.named_modules():
        if name.rpartition(".")[0].endswith("transformer_blocks"):
            fully_shard(module, mesh=mesh)
    return fully_shard(model, mesh=mesh)


_SHARED = (torch.float32, torch.bfloat16, torch.float16)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The full tensor of a shard; all processes must call this together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """This process's shard of a full tensor, as `target` is distributed."""
    if not isinstance(target, DTensor) or tensor.shape != target.shape:
        return tensor
    return distribute_tensor(tensor.to(target.device), target.device_mesh, target.placements)


def common(value: float, accelerator: Accelerator) -> float:
    """The mean of all processes' values: clocks differ, but decisions that depend on them must agree."""
    if accelerator.num_processes == 1:
        return value
    return accelerator.reduce(torch.tensor(value, device=accelerator.device), reduction="mean").item()


def agree(flag: bool, accelerator: Accelerator) -> bool:
    """Whether the flag is set in any process: a stop that one notices must stop all at the same step."""
    if accelerator.num_processes == 1:
        return flag
    votes = torch.tensor(float(flag), device=accelerator.device)
    return bool(accelerator.reduce(votes, reduction="sum").item() > 0)
