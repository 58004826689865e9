"""Baselines of equal cost: uniform shrinks of the largest net, random architectures, and the one with the most parameters.

An architecture has equal cost if it keeps to every budget and uses at least 95 % of one of them, which is also what a search
within budgets aims at.
"""

import random
from collections.abc import Sequence
from itertools import product

from transformers import PreTrainedConfig

from tangle_hf import num_params
from tangle_hf.budgets import Budget
from tangle_hf.cost_table import exact
from tangle_hf.search.choose import BAND
from tangle_hf.space import Architecture, SearchSpace


MAX_DRAWS = 5_000  # before giving up to find one more architecture of the same cost


def in_band(arch: Architecture, budgets: Sequence[Budget]) -> bool:
    """Whether an architecture keeps to all budgets and uses at least `BAND` of one of them."""
    costs = [(exact(budget.table, arch), budget.limit) for budget in budgets]
    return all(cost <= limit for cost, limit in costs) and any(cost >= BAND * limit for cost, limit in costs)


def uniform_shrinks(space: SearchSpace, budgets: Sequence[Budget]) -> list[Architecture]:
    """All architectures of equal cost whose layers are equal: every way to shrink width, depth and ratio by hand.

    A dimension that no budget depends on keeps its largest choice, as in the largest net.
    """
    options = [
        choices if name == space.depth_name or _costs(name, budgets) else choices[-1:]
        for name, choices in space.choices.items()
    ]
    shrinks = (space.architecture(**dict(zip(space.choices, values, strict=True))) for values in product(*options))
    return [arch for arch in shrinks if in_band(arch, budgets)]


def random_architectures(space: SearchSpace, budgets: Sequence[Budget], count: int, seed: int) -> list[Architecture]:
    """Different architectures of equal cost: draws of `space.sample` until enough of them are in the band.

    Args:
        space: The search space.
        budgets: At least one.
        count: How many; fewer are returned where `MAX_DRAWS` draws in a row find no other.
        seed: Of the draws; the first of many are those of few.
    """
    rng, found, missed = random.Random(seed), {}, 0
    while len(found) < count and missed < MAX_DRAWS:
        arch = space.sample(rng)
        new = arch not in found and in_band(arch, budgets)
        missed = 0 if new else missed + 1
        if new:
            found[arch] = None
    return list(found)


def most_parameters(archs: Sequence[Architecture], space: SearchSpace, config: PreTrainedConfig) -> Architecture:
    """Random search with "more parameters is better" as its proxy: of these architectures the one that has the most."""
    return max(archs, key=lambda arch: num_params(space, arch, config))


def _costs(name: str, budgets: Sequence[Budget]) -> bool:
    """Whether some budget depends on a dimension."""
    for term in (term for budget in budgets for term in budget.table.terms if name in term.dimensions):
        axis = 1 + term.dimensions.index(name)
        if (term.values != term.values.narrow(axis, 0, 1)).any():
            return True
    return False
