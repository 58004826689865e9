"""Sensitivities: what each single choice costs when it is made alone, and the net that is best if these losses add up.

Sensitivities are not additive, and losses without training are not those after it (`docs/results.md`): what they propose is
tried among others, not taken.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ..arch_parameters import Mixture
from ..messages import with_progress
from ..space import Architecture, SearchSpace


MOST_TRIED = 4  # choices of a row that are run; what lies between is interpolated
STEEPNESS = 300  # nats between the best and the worst of all nets; twice that is within what float64 holds


def sensitivities(
    space: SearchSpace, loss: Callable[[Architecture], float], progress: bool = True
) -> dict[str, Tensor]:
    """The rise of the loss when one choice of the largest net is made smaller::

        rise[row, choice] = loss(largest net, with that choice in that row) - loss(largest net)

    Of a row with many choices every other one is run, and the rise in between is the mean of its neighbours.

    Args:
        space: A space of sizes.
        loss: Loss of an architecture with the weights as they are.
        progress: Show a progress bar.

    Returns:
        Dimension -> rises (rows, choices), float64; 0 for the largest choice.
    """
    largest, found = space.largest, {}
    base = loss(largest)
    jobs = [(name, row) for name in space.choices for row in range(space.rows(name))]
    for name, row in with_progress(jobs, "sensitivities", progress):
        choices = space.choices[name]
        rises = found.setdefault(name, torch.zeros(space.rows(name), len(choices), dtype=torch.float64))[row]
        tried = tried_choices(len(choices))
        for number in tried[:-1]:
            rises[number] = loss(_with(space, largest, name, row, choices[number])) - base
        for left, right in zip(tried, tried[1:], strict=False):
            for number in range(left + 1, right):
                rises[number] = torch.lerp(rises[left], rises[right], (number - left) / (right - left))
    return found


def tried_choices(count: int) -> list[int]:
    """Which choices of a row are run, by their numbers, the largest last: every other one where there are many."""
    step = 1 if count <= MOST_TRIED + 1 else 2
    return sorted({*range(count - 1, -1, -step), 0})


def preferences(space: SearchSpace, rises: Mapping[str, Tensor], depth: int | None) -> Mixture:
    """Shares under which the most likely architecture of a depth is that of the smallest sum of rises.

    The exact discretisation maximises the sum of log-shares, which here is minus the sum of rises, up to a constant and a
    factor. All of them together weigh less than another depth.

    Args:
        space: The space of the rises.
        rises: What `sensitivities` gave.
        depth: Layers of the net; None where the space has no depth.
    """
    scale = STEEPNESS / max(
        1e-12, sum((rows.max(-1).values - rows.min(-1).values).sum().item() for rows in rises.values())
    )
    shares = {name: torch.softmax(-scale * rows, -1) for name, rows in rises.items()}
    if space.depth_name:
        others = torch.tensor(
            [0.0 if choice == depth else -2 * STEEPNESS for choice in space.choices[space.depth_name]]
        )
        shares[space.depth_name] = torch.softmax(others.double(), -1)[None]
    return shares


def predicted_rise(space: SearchSpace, rises: Mapping[str, Tensor], arch: Architecture) -> float:
    """The sum of the rises of an architecture's choices; layers that it lacks count by the depth alone."""
    total = 0.0
    for name, rows in rises.items():
        for row, value in enumerate(arch.values(name)):
            total += 0.0 if value is None else rows[row, space.choices[name].index(value)].item()
    return total


def _with(space: SearchSpace, arch: Architecture, name: str, row: int, value) -> Architecture:
    """The architecture with one choice exchanged; shallower ones lose their last rows."""
    rows = {own: list(arch.values(own)) for own in space.choices}
    rows[name][row] = value
    return space.from_rows(rows)
