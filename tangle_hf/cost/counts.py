"""What an architecture costs: exact parameters and FLOPs, and their expectation under a mixture."""

from collections.abc import Mapping

from torch import Tensor
from transformers import PreTrainedConfig

from ..axes import exists, layer_values, num_elements
from ..space import Architecture, SearchSpace
from .tables import Entry, expected, tabulate


def parameter_entries(config: PreTrainedConfig, embeddings: bool = True) -> list[Entry]:
    """Every parameter as what its size depends on, and its elements for given values.

    Args:
        config: The supernet's config, which has the axis table and names the embedding tables.
        embeddings: False leaves out `config.embedding_parameters`.
    """
    without = () if embeddings else config.embedding_parameters
    return [
        (entry, lambda values, entry=entry: num_elements(entry, values))
        for name, entry in config.axes.items()
        if name not in without and not entry.buffer
    ]


def num_params(space: SearchSpace, arch: Architecture, config: PreTrainedConfig, *, embeddings: bool = True) -> int:
    """Parameters of an architecture, tied ones once: exactly `sum(p.numel())` of the extracted stock or compact model.

    Args:
        space: The search space.
        arch: An architecture of it.
        config: The supernet's config, which has the axis table.
        embeddings: False leaves out the embedding tables, exactly as `num_parameters(exclude_embeddings=True)` of the
            extracted model; ViT has none by that count.

    Raises:
        ValueError: The architecture is not of this space.
    """
    space.validate(arch)
    return _total(parameter_entries(config, embeddings), arch)


def expected_num_params(
    space: SearchSpace, mixture: Mapping[str, Tensor], config: PreTrainedConfig, *, embeddings: bool = True
) -> Tensor:
    """Expected `num_params` when every row of a mixture draws its choice independently; differentiable in the shares::

        E = sum over parameters of P(its layer exists) * sum over its choices of prod(shares) * elements

    Args:
        space: The search space.
        mixture: Dimension -> shares (rows, K).
        config: The supernet's config.
        embeddings: False leaves out the embedding tables.

    Returns:
        A scalar; at a one-hot mixture, `num_params` of that architecture.
    """
    return expected(tabulate(space, parameter_entries(config, embeddings)), mixture)


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
    return batch_size * _total(config.matrix_products(sequence_length), arch)


def expected_flops(
    space: SearchSpace,
    mixture: Mapping[str, Tensor],
    config: PreTrainedConfig,
    *,
    batch_size: int = 1,
    sequence_length: int | None = None,
) -> Tensor:
    """Expected `flops` when every row of a mixture draws its choice independently; differentiable in the shares::

        E = sum over matrix products of P(its layer exists) * sum over its choices of prod(shares) * FLOPs

    Args:
        space: The search space.
        mixture: Dimension -> shares (rows, K).
        config: The supernet's config.
        batch_size: Sequences, or images.
        sequence_length: Tokens in each. An image model has its own if None.

    Returns:
        A scalar; at a one-hot mixture, `flops` of that architecture.

    Raises:
        ValueError: A language model is given no length.
    """
    return batch_size * expected(tabulate(space, config.matrix_products(sequence_length)), mixture)


def _total(entries: list[Entry], arch: Architecture) -> int:
    return sum(work(layer_values(arch, entry.layer)) for entry, work in entries if exists(entry, arch))
