"""Progressive search of DrNAS (arXiv:2006.10355, section 3.4): fewer operations on each edge, then more channels for them.

Channels are added as in Net2Wider (arXiv:1511.05641, section 3.1): new channels are copies of old ones, and the weight with
which an old channel was read is divided among its copies.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from .configuration_elastic_cells import ElasticCellsConfig
from .genotypes import edge_name
from .modeling_elastic_cells import ElasticCellsForImageClassification
from .operations import ConvNorm, FactorizedReduce, Pool, SeparableConv


def strongest_operations(
    config: ElasticCellsConfig, shares: Mapping[str, Tensor], keep: int
) -> dict[str, list[list[str]]]:
    """The operations with the largest shares on each edge, of those that are left.

    Where nodes keep some of their edges only, whatever the share of `none` (`kept_inputs`), it is the first to go.

    Args:
        config: The supernet's.
        shares: Kind of cell -> shares (edges, operations).
        keep: How many to keep.

    Returns:
        Kind of cell -> for each edge the operations to keep, which is what `kept` of a config takes.

    Raises:
        ValueError: An edge has fewer than `keep`, or `keep` is less than one.
    """
    kept = {}
    for kind, edges in config.operations.items():
        choices, kept[kind] = config.space.choices[kind], []
        for number, left in enumerate(edges):
            if not 1 <= keep <= len(left):
                where = f"edge {number} ({edge_name(config.wiring, number)}) of {kind}"
                raise ValueError(f"{keep} operations cannot be kept on {where}, which has {left}")
            row, last = shares[kind][number], "none" if config.kept_inputs else None
            ranked = sorted(
                left, key=lambda c, row=row, all=choices, last=last: (c == last, -row[all.index(c)].item())
            )
            kept[kind].append([name for name in choices if name in ranked[:keep]])
    return kept


@torch.no_grad()
def grow(
    supernet: ElasticCellsForImageClassification,
    kept: Mapping[str, list[list[str]]] | None,
    partial_channels: int,
    seed: int = 0,
) -> ElasticCellsForImageClassification:
    """A supernet with fewer operations and wider edges, and the weights of another.

    Args:
        supernet: Where the weights come from.
        kept: Kind of cell -> for each edge the operations to keep, e.g. those of `strongest_operations`; None keeps all.
        partial_channels: That of the new supernet, at most that of the old one.
        seed: Seed of the choice of channels to copy.

    Raises:
        ValueError: `partial_channels` is larger, or does not divide the channels.
    """
    old = supernet.config
    if partial_channels > old.partial_channels:
        raise ValueError(
            f"partial_channels={partial_channels} would make edges narrower than {old.partial_channels} did; only wider "
            "ones can be made"
        )
    config = copy.deepcopy(old)
    data = {**config.to_dict(), "partial_channels": partial_channels, "kept": old.kept if kept is None else dict(kept)}
    grown = ElasticCellsForImageClassification(ElasticCellsConfig.from_dict(data))
    grown = grown.to(device=supernet.device, dtype=supernet.dtype).train(supernet.training)
    state, generator = supernet.state_dict(), torch.Generator().manual_seed(seed)
    for name, tensor in grown.state_dict().items():
        if ".edges." not in name:
            tensor.copy_(state[name])
    for layer, before, after in zip(old.layers, supernet.cells, grown.cells, strict=True):
        if layer.kind == "residual":
            continue
        widths = (layer.channels // old.partial_channels, layer.channels // partial_channels)
        copies = _copies(*widths, generator).to(supernet.device)
        for edge_before, edge_after in zip(before.edges, after.edges, strict=True):
            for name, module in edge_after.items():
                _copy(edge_before[name], module, copies)
    return grown


def _copies(old: int, new: int, generator: torch.Generator) -> Tensor:
    """Which old channel each new one is a copy of, (new,): all of them first, then random ones."""
    return torch.cat([torch.arange(old), torch.randint(old, (new - old,), generator=generator)])


def _copy(before: nn.Module, after: nn.Module, copies: Tensor) -> None:
    """Writes a module's tensors into the wider one, kernels cut to their centre where it is smaller."""
    if isinstance(after, SeparableConv):
        _copy(before.first, after.first, copies)
        _copy(before.second, after.second, copies)
    elif isinstance(after, ConvNorm):
        margin = (before.conv.kernel_size[0] - after.conv.kernel_size[0]) // 2
        size = before.conv.kernel_size[0]
        weight = before.conv.weight[:, :, margin : size - margin, margin : size - margin]
        after.conv.weight.copy_(_widened(weight, copies, copies))
        if after.pointwise is not None:
            after.pointwise.weight.copy_(_widened(before.pointwise.weight, copies, copies))
        _copy_norm(before.norm, after.norm, copies)
    elif isinstance(after, FactorizedReduce):
        even, odd = before.even.out_channels, before.odd.out_channels
        # Copies of the even half's channels, then of the odd half's, as they are concatenated.
        first = torch.arange(after.even.out_channels, device=copies.device) % even
        second = torch.arange(after.odd.out_channels, device=copies.device) % max(odd, 1)
        after.even.weight.copy_(_widened(before.even.weight, first, copies))
        after.odd.weight.copy_(_widened(before.odd.weight, second, copies))
        _copy_norm(before.norm, after.norm, torch.cat([first, even + second]))
    elif isinstance(after, Pool) and isinstance(after.norm, nn.BatchNorm2d):
        _copy_norm(before.norm, after.norm, copies)


def _widened(weight: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Copies of output channels, and of input channels with their weight divided among the copies."""
    weight = weight[rows]
    if weight.shape[1] == 1 and len(columns) > 1:  # depthwise
        return weight
    counts = torch.bincount(columns, minlength=weight.shape[1])
    return weight[:, columns] / counts[columns].view(1, -1, 1, 1)


def _copy_norm(before: nn.BatchNorm2d, after: nn.BatchNorm2d, copies: Tensor) -> None:
    for name in ("running_mean", "running_var", "weight", "bias"):
        tensor = getattr(before, name)
        if tensor is not None:
            getattr(after, name).copy_(tensor[copies])
