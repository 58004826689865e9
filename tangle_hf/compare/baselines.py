"""Baselines of equal cost: uniform shrinks of the largest net, random architectures, and the one with the most parameters.

An architecture has equal cost if it keeps to every budget and uses at least 95 % of one of them or, if there is none, of
the largest cost within it, which is also what a search within budgets aims at.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedConfig

from ..arch_parameters import uniform_mixture
from ..budgets.discretisation import least_costs
from ..budgets.limits import Budget
from ..budgets.sampling import ConstrainedSampler
from ..cost.counts import num_params
from ..search.limits import BAND
from ..search.two_stage.proposals import fits
from ..space import Architecture, SearchSpace


MAX_REPEATS = 1_000  # draws in a row that bring nothing new before giving up to find one more


@dataclass(frozen=True)
class EqualCost:
    """The cost that baselines have.

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


def uniform_shrinks(space: SearchSpace, cost: EqualCost) -> list[Architecture]:
    """All architectures of equal cost whose layers are equal: every way to shrink width, depth and ratio by hand.

    A dimension that no budget depends on keeps its largest choice, as in the largest net.
    """
    free = [name for name in space.choices if name != space.depth_name and not _matters(name, cost.budgets)]
    return [arch for arch in space.equal_layers(**{n: space.choices[n][-1:] for n in free}) if cost.of(arch)]


def random_architectures(space: SearchSpace, cost: EqualCost, count: int, seed: int) -> list[Architecture]:
    """Different architectures of equal cost: uniform draws of every dimension, given that the cost is kept.

    Args:
        space: The search space.
        cost: What equal cost means.
        count: How many; fewer are returned where `MAX_REPEATS` draws in a row find no other.
        seed: Seed of the draws; a larger count begins with the nets of a smaller one.
    """
    sampler = ConstrainedSampler(space, uniform_mixture(space), cost.budgets, cost.lower)
    rng, found, repeats = random.Random(seed), {}, 0
    while len(found) < count and repeats < MAX_REPEATS:
        arch = sampler.sample(rng)
        repeats = repeats + 1 if arch in found else 0
        found[arch] = None
    return list(found)


def most_parameters(archs: Sequence[Architecture], space: SearchSpace, config: PreTrainedConfig) -> Architecture:
    """Random search with "more parameters is better" as its proxy: of these architectures the one that has the most."""
    return max(archs, key=lambda arch: num_params(space, arch, config))


def _matters(name: str, budgets: Sequence[Budget]) -> bool:
    """Whether some budget depends on a dimension."""
    for term in (term for budget in budgets for term in budget.table.terms if name in term.dimensions):
        axis = 1 + term.dimensions.index(name)
        if (term.values != term.values.narrow(axis, 0, 1)).any():
            return True
    return False
