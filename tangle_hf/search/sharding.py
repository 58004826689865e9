"""Weights sharded over processes (FSDP2): one unit while they are trained, whole on every process afterwards.

The superposition reads the parameters of blocks, norms and heads without calling these modules, and FSDP2 gathers a unit's
parameters when its module is called. So the supernet is one unit, gathered when it is called. What follows a search (its
choice, finalists, the export) is done by single processes, which need all weights.
"""

import copy

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel


def shard(supernet: PreTrainedModel, accelerator: Accelerator) -> nn.Module | None:
    """Shards a supernet in place as one unit, if the processes share weights; call it before its optimizer is made.

    accelerate leaves a model that is sharded already as it is. By itself it would make units of embeddings, of the last norm
    and of the head, whatever the policy of wrapping.

    Args:
        supernet: The same weights on every process.
        accelerator: Says whether, and how.

    Returns:
        What `gather` needs; None if nothing was sharded.

    Raises:
        ValueError: It is FSDP's first version, or only one process has the weights of a checkpoint that was loaded.
    """
    if accelerator.distributed_type != DistributedType.FSDP:
        return None
    if not accelerator.is_fsdp2:
        raise ValueError(
            "fsdp_version=1 flattens weights, which a search reads one by one; choose 2 in accelerate's config"
        )
    if accelerator.state.fsdp_plugin.cpu_ram_efficient_loading:
        raise ValueError(
            "fsdp_cpu_ram_efficient_loading loads a checkpoint on one process only, but a search copies the weights that it "
            "starts from on all; set it to false, in accelerate's config or by --fsdp_cpu_ram_efficient_loading false"
        )
    empty = {id(p): nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad) for p in supernet.parameters()}
    form, plugin = copy.deepcopy(supernet, empty), accelerator.state.fsdp_plugin
    fully_shard(
        supernet.to(accelerator.device),
        reshard_after_forward=plugin.reshard_after_forward,
        mp_policy=plugin.mixed_precision_policy or MixedPrecisionPolicy(),
        offload_policy=plugin.cpu_offload,
    )
    return form


def gather(supernet: PreTrainedModel, form: nn.Module | None, accelerator: Accelerator) -> None:
    """Gives every process all weights: the supernet is what it was before `shard`, with what it has learned.

    Args:
        supernet: Sharded, or not at all.
        form: What `shard` gave.
        accelerator: Where the weights go.
    """
    if form is None:
        return
    state = {name: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
             for name, tensor in supernet.state_dict().items()}  # fmt: skip
    form.load_state_dict(state, assign=True)
    form.tie_weights()
    form.train(supernet.training).to(accelerator.device)
    # In place: whoever holds the supernet, evaluations for one, goes on with it.
    supernet.__class__, supernet.__dict__ = type(form), form.__dict__


def check_whole(supernet: nn.Module, what: str) -> None:
    """Refuses a sharded supernet where single processes work with it: each would wait for the others for ever.

    Raises:
        ValueError: It is sharded.
    """
    if any(isinstance(module, FSDPModule) for module in supernet.modules()):
        raise ValueError(
            f"{what} by single processes, which needs whole weights, and those of this supernet are sharded (FSDP); "
            "give the supernet that a search has left, which is whole again, or use DDP or one process"
        )
