"""What is dropped leaves its mean: a bias takes over what dropped units gave on average.

Units D that a net does without gave `sum_{i in D} a_i W_i` to the residual stream. Where the projection has a bias b, the mean
of that may be added to it (arXiv:2312.11983, section 3.3):

    b + sum_{i in D} E[a_i] W_i

It helps where units have large means that the net counts on, and harms elsewhere, in the first MLP for one
(`docs/results.md`). So every projection is tried, and keeps it where the loss on calibration data falls.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ..axes import layer_values
from ..messages import with_progress
from ..models.layer_ranks import renumbered
from ..space import Architecture
from .batches import calibration_loss, check_labelled, evaluating
from .scores import Projection, Scores, check_scores, projections


class Absorbed(NamedTuple):
    """Which biases took over a mean, by their names in the net, and the loss on the calibration data before and after."""

    names: list[str]
    before: float
    after: float


@torch.no_grad()
def absorb_means(
    subnet: PreTrainedModel,
    supernet: PreTrainedModel,
    arch: Architecture,
    scores: Scores,
    batches: Sequence[Mapping[str, Tensor]],
    progress: bool = True,
) -> Absorbed:
    """Adds the mean output of dropped units to biases of a net that was just cut out, one by one, where the loss falls.

    Projections without a bias, such as those of most Llamas, stay as they are.

    Args:
        subnet: What `extract` cut out of the supernet; its biases are changed in place.
        supernet: The supernet, its weights as they were calibrated or ordered.
        arch: The net's architecture.
        scores: What `calibrate` gave for the supernet's weights, or `order_units` in their new order.
        batches: Arguments of forward passes with `labels`; 2 of them at most per layer, and one, are run.
        progress: Show a progress bar.

    Raises:
        ValueError: The scores are not of these weights, or there is no batch or one without labels.
    """
    check_labelled(batches)
    found = projections(supernet)
    check_scores(scores, found)
    means = mean_outputs(supernet, arch, scores, found)
    names = []
    with evaluating(subnet):
        before = best = calibration_loss(subnet, batches)
        for name, mean in with_progress(means.items(), "means", progress):
            bias = subnet.get_parameter(name)
            kept = bias.clone()
            bias += mean[: len(bias)].to(bias)
            if (loss := calibration_loss(subnet, batches)) < best:
                best = loss
                names.append(name)
            else:
                bias.copy_(kept)
    return Absorbed(names, before, best)


def mean_outputs(
    supernet: PreTrainedModel, arch: Architecture, scores: Scores, found: Sequence[Projection]
) -> dict[str, Tensor]:
    """Bias of a net, by its name there -> what the units that it lacks gave on average, (full width,), float64."""
    outputs = {}
    for projection in found:
        if projection.module.bias is not None and arch.has_layer(projection.layer):
            block = projection.inputs.owned(layer_values(arch, projection.layer))
            mean = scores.mean[projection.name].clone().view([size for size, _ in block])
            mean[tuple(part for _, part in block)] = 0
            if mean.any():
                rows = projection.rows.double()
                outputs[projection.name.replace(".weight", ".bias")] = mean.flatten().to(rows.device) @ rows
    return renumbered(outputs, supernet.layer_list, supernet.config.layer_ranks, arch.depth)
