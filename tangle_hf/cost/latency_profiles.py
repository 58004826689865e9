"""Measures the latency table of a search space.

Whole nets are timed, not their parts: what a forward pass takes outside its layers, on a device that works ahead of
Python too, shows only in nets of two depths. For all choices of the whole net, nets of equal layers are timed at the
smallest and at the largest depth, one with the largest layers and others that differ from it in one group of choices; least
squares turn their times into the sums of a table. Choices of a layer are in one group if some parameter or matrix product
depends on both of them, so that no family is known here.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..axes import layer_values
from ..models.example_inputs import example_inputs
from ..space import Architecture, Choice, SearchSpace
from ..subnets.extraction import natural_form
from .latency_tables import LatencyTable, Part, check_layers, latency_ms
from .timing import ROUNDS, build_nets, conditions, measure


def profile(
    supernet: PreTrainedModel,
    *,
    batch_size: int = 1,
    sequence_length: int | None = None,
    rounds: int = ROUNDS,
    progress: bool = True,
) -> LatencyTable:
    """Measures the latency table of a supernet's space, on the supernet's device and in its type.

    Args:
        supernet: An `Elastic*` model; its weights are not used.
        batch_size: Sequences, or images, of a forward pass.
        sequence_length: Tokens of a sequence; an image model has its own if None.
        rounds: How often every net is timed.
        progress: Show a progress bar.

    Raises:
        ValueError: Layers of the space are not alike; a language model is given no length, or more than it has positions; or
            `batch_size` or `rounds` is 0.
    """
    check_layers(supernet.space)
    archs = nets_to_measure(supernet.space, layer_groups(supernet.config, sequence_length))
    example = {"batch_size": batch_size, "sequence_length": sequence_length}
    inputs = example_inputs(supernet, **example)
    times = measure(build_nets(supernet, archs, usual_form(supernet)), inputs, rounds=rounds, progress=progress)
    return table_of(supernet, archs, times, **example)


def table_of(
    supernet: PreTrainedModel,
    archs: Sequence[Architecture],
    times: Sequence[float],
    *,
    batch_size: int = 1,
    sequence_length: int | None = None,
) -> LatencyTable:
    """The latency table of measured times.

    Args:
        supernet: An `Elastic*` model.
        archs: The nets that were timed, those of `nets_to_measure`.
        times: Their milliseconds.
        batch_size: Sequences, or images, of a forward pass.
        sequence_length: Tokens of a sequence; None for images.
    """
    here = conditions(supernet, batch_size=batch_size, sequence_length=sequence_length)
    groups = layer_groups(supernet.config, sequence_length)
    table = LatencyTable(here, supernet.space, fit(supernet.space, groups, archs, times))
    compared = ({"arch": arch.to_dict(), **compare(table, arch, ms)} for arch, ms in zip(archs, times, strict=True))
    return replace(table, nets=tuple(compared))


def compare(table: LatencyTable, arch: Architecture, measured_ms: float) -> dict[str, float]:
    """Predicted and measured milliseconds side by side, and the relative error of the prediction."""
    predicted = latency_ms(table, arch)
    return {"predicted_ms": predicted, "measured_ms": measured_ms, "error": predicted / measured_ms - 1}


def layer_groups(config: PreTrainedConfig, sequence_length: int | None = None) -> list[tuple[str, ...]]:
    """The per-layer dimensions, grouped: those that a parameter or a matrix product has in common belong together."""
    space = config.space
    groups = [{name} for name in space.choices if name in space.per_layer]
    entries = [*config.axes.values(), *(entry for entry, _ in config.matrix_products(sequence_length))]
    for entry in entries:
        together = [group for group in groups if group & set(entry.dimensions)]
        groups = [group for group in groups if group not in together] + ([set().union(*together)] if together else [])
    return sorted(tuple(name for name in space.choices if name in group) for group in groups)


def nets_to_measure(space: SearchSpace, groups: Sequence[tuple[str, ...]]) -> list[Architecture]:
    """Nets of equal layers of the smallest and the largest depth: with the largest layers, or different in one group."""
    largest = space.largest.to_dict()
    layers = [{name: space.choices[name][-1] for name in space.per_layer}]
    layers += [{**layers[0], **other} for group in groups for other in _combinations(space, group)[:-1]]
    depths = sorted({space.choices[space.depth_name][end] for end in (0, -1)}) if space.depth_name else [None]
    return [
        space.architecture(**{**largest, **chosen, **layer, **({space.depth_name: depth} if depth else {})})
        for chosen in _combinations(space, space.whole_net)
        for depth in depths
        for layer in layers
    ]


def usual_form(supernet: PreTrainedModel) -> str:
    """The form that nearly all architectures of a space have: that of one whose layers differ wherever they can."""
    space = supernet.space
    mixed = space.largest.to_dict()
    for name in space.per_layer:
        choices = space.choices[name]
        mixed[name] = [choices[layer % len(choices)] for layer in range(space.max_depth)]
    return natural_form(supernet, space.architecture(**mixed))


def fit(
    space: SearchSpace, groups: Sequence[tuple[str, ...]], archs: Sequence[Architecture], times: Sequence[float]
) -> tuple[Part, ...]:
    """The sums of a latency table that come closest to measured times, by least squares of relative errors.

    For each combination of choices of the whole net::

        ms = outside + depth * (largest layer + sum over groups of difference[choices])

    No part is negative. The differences of each group are shifted so that the least is 0, and the first group takes over these
    shifts and the largest layer. `outside` is 0 where least squares would make it negative, or where all nets have one depth.

    Args:
        space: The search space.
        groups: Per-layer dimensions in groups, those of `layer_groups`.
        archs: The nets that were timed, those of `nets_to_measure`.
        times: Their milliseconds.
    """
    whole = space.whole_net
    options = [_combinations(space, group)[:-1] for group in groups]
    outside, layers = [], [[] for _ in groups or [()]]
    for chosen in _combinations(space, whole):
        mine = [number for number, arch in enumerate(archs) if all(getattr(arch, n) == v for n, v in chosen.items())]
        rows = []
        for arch in (archs[number] for number in mine):
            depth, layer = arch.depth or 1, layer_values(arch, 0)
            rows.append([1, depth, *(depth * (other.items() <= layer.items()) for o in options for other in o)])
        solution = _least_squares(rows, [times[number] for number in mine])
        outside.append(solution[0])
        differences = [torch.cat([d, d.new_zeros(1)]) for d in solution[2:].split([len(o) for o in options])]
        least = [d.min() for d in differences]
        for number, difference in enumerate(differences or [solution.new_zeros(1)]):
            base = solution[1] + sum(least[1:]) if number == 0 else -least[number]
            layers[number].append((base + difference).clamp_min(0))
    shape = [len(space.choices[name]) for name in whole]
    parts = [Part(whole, False, torch.stack(outside).view(shape))]
    for group, values in zip(groups or [()], layers, strict=True):
        parts.append(
            Part((*whole, *group), True, torch.stack(values).view(*shape, *(len(space.choices[n]) for n in group)))
        )
    return tuple(parts)


def _least_squares(rows: list[list[int]], ms: list[float]) -> Tensor:
    """Coefficients of the rows by least squares of relative errors; the first one, `outside`, is 0 if negative or unknown."""
    weights = 1 / torch.tensor(ms, dtype=torch.float64)
    matrix = torch.tensor(rows, dtype=torch.float64) * weights[:, None]
    ones = torch.ones(len(ms), 1, dtype=torch.float64)
    one_depth = len({row[1] for row in rows}) == 1
    if not one_depth:
        solution = torch.linalg.lstsq(matrix, ones).solution[:, 0]
        if solution[0] >= 0:
            return solution
    solution = torch.linalg.lstsq(matrix[:, 1:], ones).solution[:, 0]
    return torch.cat([solution.new_zeros(1), solution])


def _combinations(space: SearchSpace, names: Sequence[str]) -> list[dict[str, Choice]]:
    """All choices of some dimensions together, the largest last."""
    return [dict(zip(names, values, strict=True)) for values in product(*(space.choices[name] for name in names))]
