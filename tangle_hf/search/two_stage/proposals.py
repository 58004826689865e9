"""Candidates of the second stage: random ones, mutations and crossovers, all of them within the limits.

Every candidate is drawn choice by choice from independent distributions: a uniform one for a random candidate, the parent's
value with a chance of another one for a mutation, one of two parents' values for a crossover. Limits are kept by drawing
from that distribution given that they hold, so that a tight budget does not change the odds among the nets that fit.
"""

import random
from collections.abc import Callable

import numpy as np
from transformers import PreTrainedModel

from ...arch_parameters import Mixture, one_hot, uniform_mixture
from ...budgets.discretisation import least_costs
from ...budgets.limits import Budget
from ...budgets.sampling import ConstrainedSampler, sample_independently
from ...cost.tables import exact
from ...space import Architecture, SearchSpace
from ..limits import BAND, Limits
from ..settings import SearchArguments


TRIES = 10  # independent draws before the exact sampler is asked


class Proposals:
    """Draws architectures that keep to the limits of a search.

    With `budget_mode="equal"` they use at least `BAND` of one of the budgets or, if there are none, of the largest cost
    within it, as in `discretise`. A search for the front of loss and cost takes what is below the limits.

    Args:
        settings: How likely a mutation is, and whether a net must use a budget up.
        supernet: Says which architectures there are, what they cost, and which have the stock form.
        limits: The limits.
    """

    def __init__(self, settings: SearchArguments, supernet: PreTrainedModel, limits: Limits):
        self.space, self._budgets = supernet.space, limits.budgets
        self._probabilities = settings.mutation_prob, settings.whole_mutation_prob
        even, self._stock, self._lower = uniform_mixture(self.space), None, None
        if limits.standard_only:
            self._stock = _stock(supernet, self._budgets)
        whole_front = settings.budget_mode == "at_most" or settings.resolved_method.choice == "nsga2"
        if self._budgets and not whole_front:
            if self._stock is None:
                self._lower = least_costs(self.space, even, self._budgets, BAND)
            else:
                self._lower = _least_of(self._stock, self._budgets)
                self._stock = [arch for arch in self._stock if fits(arch, self._budgets, self._lower)]
        self.random = self._sampler(even)

    def mutation(self, arch: Architecture, rng: random.Random) -> Architecture:
        """Draws each value anew with a probability; layers that are added are random (arXiv:2107.00651, section 3.4)."""
        return self._sampler(mutation_mixture(self.space, arch, *self._probabilities))(rng)

    def crossover(self, first: Architecture, second: Architecture, rng: random.Random) -> Architecture:
        """Takes each value from one of two parents; layers that one of them lacks from the other."""
        return self._sampler(crossover_mixture(self.space, first, second))(rng)

    def _sampler(self, mixture: Mixture) -> Callable[[random.Random], Architecture]:
        if self._stock is not None:
            weights = [_equal_layers_probability(self.space, mixture, arch) for arch in self._stock]
            return lambda rng: rng.choices(self._stock, weights)[0]
        shares, constrained = {name: rows.tolist() for name, rows in mixture.items()}, None

        def draw(rng: random.Random) -> Architecture:
            nonlocal constrained
            # The first of many draws that fits has the wanted distribution, too, and is often found sooner. Drawing depends
            # on nothing but `rng`: it must not matter what was drawn before.
            for _ in range(TRIES):
                arch = sample_independently(self.space, shares, rng)
                if fits(arch, self._budgets, self._lower):
                    return arch
            if constrained is None:
                constrained = ConstrainedSampler(self.space, mixture, self._budgets, self._lower)
            return constrained.sample(rng)

        return draw


def mutation_mixture(space: SearchSpace, arch: Architecture, per_layer: float, whole: float) -> Mixture:
    """Shares under which a value stays with probability 1 - p, else is any choice; any choice in layers that are missing.

    Args:
        space: The search space.
        arch: The parent.
        per_layer: p of values of a layer.
        whole: p of the others, depths among them.
    """
    mixture, same = uniform_mixture(space), one_hot(space, arch)
    for name, rows in mixture.items():
        of_layers = name in space.of_layers
        p = per_layer if of_layers else whole
        kept = [row for row in range(len(rows)) if not of_layers or arch.has_layer(row)]
        rows[kept] = (1 - p) * same[name][kept] + p * rows[kept]
    return mixture


def crossover_mixture(space: SearchSpace, first: Architecture, second: Architecture) -> Mixture:
    """Shares under which each value is that of one of two parents, or of the one that has the layer."""
    mixture, parents = {}, [(arch, one_hot(space, arch)) for arch in (first, second)]
    for name in space.choices:
        of_layers = name in space.of_layers
        mixture[name] = sum(shares[name] for _, shares in parents) / 2
        for row in range(space.rows(name)):
            having = [shares[name][row] for arch, shares in parents if not of_layers or arch.has_layer(row)]
            if len(having) == 1:
                mixture[name][row] = having[0]
    return mixture


def _stock(supernet: PreTrainedModel, budgets: tuple[Budget, ...]) -> list[Architecture]:
    """All architectures with the stock form within the limits: only such with equal layers can have it."""
    space = supernet.space
    forms = ((arch, supernet.subnet_forms(supernet.config, arch)["stock"]) for arch in space.equal_layers())
    return [arch for arch, reason in forms if reason is None and fits(arch, budgets)]


def _least_of(archs: list[Architecture], budgets: tuple[Budget, ...]) -> np.ndarray:
    """The costs of which a candidate reaches at least one: `BAND` of the limits, or of the largest cost there is."""
    costs = np.array([[exact(budget.table, arch) for budget in budgets] for arch in archs])
    lower = np.array([BAND * budget.limit for budget in budgets])
    return lower if (costs >= lower).any() else BAND * costs.max(0)


def fits(arch: Architecture, budgets: tuple[Budget, ...], lower: np.ndarray | None = None) -> bool:
    """Whether an architecture keeps to all budgets, and reaches one of the least costs."""
    costs = np.array([exact(budget.table, arch) for budget in budgets])
    return all(costs <= [budget.limit for budget in budgets]) and (lower is None or any(costs >= lower))


def _equal_layers_probability(space: SearchSpace, mixture: Mixture, arch: Architecture) -> float:
    """The probability of an architecture with equal layers; all its layers are one decision, with the shares of the first."""
    probability = 1.0
    for name, choices in space.choices.items():
        probability *= mixture[name][0, choices.index(arch.values(name)[0])].item()
    return probability
