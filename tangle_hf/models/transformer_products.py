"""The matrix products of a transformer's forward pass, from its axis table."""

from collections.abc import Callable, Mapping

from ..axes import AxisTable, ParameterAxes, num_elements


def transformer_products(
    axes: AxisTable, tokens: int, layers: str, output: tuple[str, int], others: Mapping[str, int]
) -> list[tuple[ParameterAxes, Callable[[Mapping], int]]]:
    """Every matrix product of a forward pass: what it depends on, and its FLOPs for given values.

    A linear layer is 2 * rows * weight elements, with a row for each token in the layers; attention is two products of
    tokens^2 * units of all query heads.

    Args:
        axes: The axis table.
        tokens: Length of the sequence.
        layers: What the names of the layers' parameters begin with.
        output: What the name of the projection behind attention ends with, and which of its axes are the heads.
        others: Weights outside the layers -> rows that pass through them.
    """
    products = []
    for name, entry in axes.items():
        rows = tokens if name.startswith(layers) and len(entry.axes) == 2 else others.get(name)
        if rows is not None:
            products.append((entry, lambda v, entry=entry, rows=rows: 2 * rows * num_elements(entry, v)))
        if name.endswith(output[0]):
            heads = ParameterAxes((entry.axes[output[1]],), entry.layer)
            products.append((heads, lambda v, heads=heads: 4 * tokens**2 * num_elements(heads, v)))
    return products
