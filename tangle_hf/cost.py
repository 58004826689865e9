"""What an architecture costs: exact parameters and FLOPs, and their expectation under a mixture."""

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedConfig

from .axes import exists, expectation, layer_values, num_elements
from .space import Architecture, SearchSpace


def num_params(space: SearchSpace, arch: Architecture, config: PreTrainedConfig) -> int:
    """Parameters of an architecture, tied ones once: exactly `sum(p.numel())` of the extracted stock or compact model.

    Args:
        space: The search space.
        arch: An architecture of it.
        config: The supernet's config, which has the axis table.

    Raises:
        ValueError: The architecture is not of this space.
    """
    space.validate(arch)
    return sum(
        num_elements(entry, layer_values(arch, entry.layer)) for entry in config.axes.values() if exists(entry, arch)
    )


def expected_num_params(space: SearchSpace, mixture: Mapping[str, Tensor], config: PreTrainedConfig) -> Tensor:
    """Expected parameters when every row of a mixture draws its choice independently; differentiable in the shares::

        E = sum over parameters of P(its layer exists) * sum over its choices of prod(shares) * elements

    Args:
        space: The search space.
        mixture: Dimension -> shares (rows, K).
        config: The supernet's config.

    Returns:
        A scalar; at a one-hot mixture, `num_params` of that architecture.
    """
    return sum(
        expectation(space, entry, mixture, lambda values, entry=entry: num_elements(entry, values))
        for entry in config.axes.values()
    )


def flops(
    space: SearchSpace,
    arch: Architecture,
    config: PreTrainedConfig,
    *,
    batch_size: int = 1,
    sequence_length: int | None = None,
) -> int:
    """Floating-point operations of one forward pass, two per multiply-add, matrix products only.

    Exactly what `torch.utils.flop_counter.FlopCounterMode` counts on the extracted model with eager attention. Papers
    that say FLOPs often mean multiply-adds: half of it.

    Args:
        space: The search space.
        arch: An architecture of it.
        config: The supernet's config.
        batch_size: Sequences, or images.
        sequence_length: Tokens in each. An image model has its own if None: the patches of `image_size` and the class
            token.

    Raises:
        ValueError: The architecture is not of this space, or a language model is given no length.
    """
    space.validate(arch)
    products = config.matrix_products(sequence_length)
    return batch_size * sum(work(layer_values(arch, entry.layer)) for entry, work in products if exists(entry, arch))


def expected_flops(
    space: SearchSpace,
    mixture: Mapping[str, Tensor],
    config: PreTrainedConfig,
    *,
    batch_size: int = 1,
    sequence_length: int | None = None,
) -> Tensor:
    """Expected `flops` under a mixture, as `expected_num_params`; differentiable in the shares."""
    products = config.matrix_products(sequence_length)
    return batch_size * sum(expectation(space, entry, mixture, work) for entry, work in products)
