"""Linear centred kernel alignment of layers (arXiv:1905.00414): how alike two nets represent the same examples.

The paper compares the inherited, the fine-tuned and the retrained net with it (arXiv:2312.10440, table 25).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .charts import Chart, Curve, plot_charts


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Similarity of two representations of the same examples, the features centred over the examples::

        CKA = |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F)

    1 for features that are equal up to rotation and scale; near 0 for independent ones if there are far more examples than
    features.

    Args:
        x: Features (examples, p).
        y: Features (examples, q).

    Raises:
        ValueError: The numbers of examples differ, or one of the representations is constant.
    """
    if len(x) != len(y):
        raise ValueError(f"{len(x)} and {len(y)} examples cannot be compared; give features of the same examples")
    x, y = (features.double() - features.double().mean(0) for features in (x, y))
    norms = (x.T @ x).norm() * (y.T @ y).norm()
    if norms == 0:
        raise ValueError(
            "a representation is equal for all examples, so that its similarity to another is not defined"
        )
    return ((y.T @ x).square().sum() / norms).item()


@torch.no_grad()
def layer_cka(model: nn.Module, other: nn.Module, batches: Iterable[Mapping[str, Tensor]]) -> list[float]:
    """`linear_cka` of every layer of two nets of one architecture; every token, patch or pixel is an example.

    Args:
        model: A model of transformers.
        other: Another one with as many layers.
        batches: Arguments of forward passes.

    Returns:
        One number for each of `hidden_states` but the first, which is the embedding.
    """
    nets = (model.eval(), other.eval())
    features: list[list[list[Tensor]]] = [[], []]
    for batch in batches:
        for net, parts in zip(nets, features, strict=True):
            hidden = net(**batch, output_hidden_states=True).hidden_states[1:]
            parts.append([_rows(state) for state in hidden])
    stacked = ([torch.cat(layer) for layer in zip(*parts, strict=True)] for parts in features)
    return [linear_cka(x, y) for x, y in zip(*stacked, strict=True)]


def cka_charts(curves: Mapping[str, Mapping[str, list[float]]]) -> list[Chart]:
    """CKA over layers: a chart for each comparison, a line for each net.

    Args:
        curves: Comparison -> net -> CKA of every layer.
    """
    return [
        Chart(
            comparison,
            [
                Curve(name, range(1, len(values) + 1), values, color, marked=True)
                for color, (name, values) in enumerate(nets.items())
            ],
            "linear CKA, 1: equal",
            across="layer",
        )
        for comparison, nets in curves.items()
    ]


def plot_cka(curves: Mapping[str, Mapping[str, list[float]]], path: str | Path) -> None:
    """`cka_charts` as a PNG."""
    plot_charts(cka_charts(curves), path)


def _rows(state: Tensor) -> Tensor:
    """(batch, tokens, features) or (batch, channels, height, width) -> (examples, features)."""
    return (state.movedim(1, -1) if state.ndim == 4 else state).flatten(0, -2).float().cpu()
