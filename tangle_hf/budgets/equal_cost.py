"""Nets of equal cost: what a budget allows and uses up, and the nets that a person would cut by hand within it.

An architecture has equal cost if it keeps to every budget and uses at least 95 % of one of them or, if there is none, of
the largest cost within it, which is also what a search within budgets aims at.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ..arch_parameters import uniform_mixture
from ..cost.tables import exact
from ..space import Architecture, SearchSpace
from .discretisation import least_costs
from .limits import Budget
from .sampling import ConstrainedSampler, draw_new


BAND = 0.95  # candidates use at least this share of a budget where there are any: what is left unused is lost
LEAST_OF_A_CUT = 0.8  # of a budget; a cut by hand that uses less is no rival


@dataclass(frozen=True)
class EqualCost:
    """The cost that nets have which are compared.

    Args:
        budgets: Limits, all of which hold.
        lower: Least costs, one for each budget, of which at least one is reached.
    """

    budgets: Sequence[Budget]
    lower: np.ndarray

    def of(self, arch: Architecture) -> bool:
        """Whether an architecture has it."""
        return fits(arch, self.budgets, self.lower)


def equal_cost(space: SearchSpace, budgets: Sequence[Budget]) -> EqualCost:
    """What equal cost means under some budgets, as in a search.

    Raises:
        ValueError: No architecture keeps to them.
    """
    return EqualCost(budgets, least_costs(space, uniform_mixture(space), budgets, BAND))


def fits(arch: Architecture, budgets: Sequence[Budget], lower: np.ndarray | None = None) -> bool:
    """Whether an architecture keeps to all budgets, and reaches one of the least costs."""
    costs = np.array([exact(budget.table, arch) for budget in budgets])
    return all(costs <= [budget.limit for budget in budgets]) and (lower is None or any(costs >= lower))


def hand_cuts(space: SearchSpace, budgets: Sequence[Budget]) -> list[Architecture]:
    """What a person would cut by hand: nets with equal layers that use the budgets up or are as large as these allow.

    A dimension that no budget depends on keeps its largest choice, as in the largest net.

    Raises:
        ValueError: No architecture keeps to the budgets.
    """
    cost, fitting = equal_cost(space, budgets), _fitting(space, budgets)
    largest = _largest(fitting, budgets) if space.ordered else []
    return list(dict.fromkeys((*filter(cost.of, fitting.values()), *largest)))


def largest_hand_cuts(space: SearchSpace, budgets: Sequence[Budget]) -> list[Architecture]:
    """Architectures with equal layers within the budgets of which no dimension can take its next larger choice.

    That is what a person ends with who shrinks a net until it fits. Nets that leave more than a fifth of every budget unused
    are left out if there are others. A space of operations, whose choices have no order, has none.
    """
    return _largest(_fitting(space, budgets), budgets) if space.ordered else []


def _fitting(space: SearchSpace, budgets: Sequence[Budget]) -> dict[tuple[int, ...], Architecture]:
    """Choices, by number, of every dimension -> the architecture with equal layers, if it keeps to the budgets."""
    choices = {**space.choices, **_largest_of_free(space, budgets)}
    numbers = product(*(range(len(choices[name])) for name in space.choices))
    nets = zip(numbers, space.equal_layers(**choices), strict=True)
    return {numbers: arch for numbers, arch in nets if fits(arch, budgets)}


def _largest(fitting: Mapping[tuple[int, ...], Architecture], budgets: Sequence[Budget]) -> list[Architecture]:
    def larger(numbers: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        for at in range(len(numbers)):
            yield (*numbers[:at], numbers[at] + 1, *numbers[at + 1 :])

    cuts = [arch for numbers, arch in fitting.items() if not any(more in fitting for more in larger(numbers))]
    lower = np.array([LEAST_OF_A_CUT * budget.limit for budget in budgets])
    return [arch for arch in cuts if fits(arch, budgets, lower)] or cuts


def _largest_of_free(space: SearchSpace, budgets: Sequence[Budget]) -> dict[str, Sequence]:
    """Dimensions that no budget depends on -> their largest choice alone."""
    free = [name for name in space.choices if name != space.depth_name and not _matters(name, budgets)]
    return {name: space.choices[name][-1:] for name in free}


def random_architectures(space: SearchSpace, cost: EqualCost, count: int, seed: int) -> list[Architecture]:
    """Different architectures of equal cost: uniform draws of every dimension, given that the cost is kept.

    Args:
        space: The search space.
        cost: What equal cost means.
        count: How many; fewer are returned where `MOST_MISSES` draws in a row find no other.
        seed: Seed of the draws; a larger count begins with the nets of a smaller one.
    """
    sampler, rng = ConstrainedSampler(space, uniform_mixture(space), cost.budgets, cost.lower), random.Random(seed)
    return draw_new(lambda: sampler.sample(rng), count)


def _matters(name: str, budgets: Sequence[Budget]) -> bool:
    """Whether some budget depends on a dimension."""
    for term in (term for budget in budgets for term in budget.table.terms if name in term.dimensions):
        axis = 1 + term.dimensions.index(name)
        if (term.values != term.values.narrow(axis, 0, 1)).any():
            return True
    return False
