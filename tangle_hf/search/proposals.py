"""Candidates of the second stage: random ones, mutations and crossovers, all of them within the limits.

Each is a draw from independent choices: even ones, those of a parent with a chance of another value, those of two parents.
Limits are kept by drawing from that distribution given that they hold, so a tight budget changes no odds among what fits.
"""

import random
from collections.abc import Callable
from itertools import product

from transformers import PreTrainedModel

from ..arch import Mixture, one_hot, uniform_mixture
from ..budgets import Budget
from ..constrained_sampling import ConstrainedSampler, sample_independently
from ..cost_table import exact
from ..space import Architecture, SearchSpace
from .arguments import SearchArguments
from .choose import BAND, budgets_of


TRIES = 20  # independent draws before the exact sampler is set up


class Proposals:
    """Draws architectures that keep to the limits of the settings.

    With `budget_mode="equal"` they use at least `BAND` of one of the budgets, where there are such; a search for the front
    of loss and cost has no use for that and takes what is below the limits.

    Args:
        arguments: Settings.
        supernet: Says which architectures there are, what they cost, and which have the stock form.
        sequence_length: Tokens of an example, for a budget of FLOPs of text.
    """

    def __init__(self, arguments: SearchArguments, supernet: PreTrainedModel, sequence_length: int | None = None):
        self.space, self._budgets = supernet.space, budgets_of(arguments, supernet, sequence_length)
        whole_front = arguments.budget_mode == "at_most" or arguments.resolved_method.choice == "nsga2"
        even = uniform_mixture(self.space)
        self._band = ConstrainedSampler(self.space, even, self._budgets, None if whole_front else BAND).band
        self._probabilities = arguments.mutation_prob, arguments.whole_mutation_prob
        self._stock = _stock(supernet, self._budgets, self._band) if arguments.standard_only else None
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
            # The first of many draws that fits has the wanted distribution, too, and is often found sooner.
            for _ in range(0 if constrained else TRIES):
                arch = sample_independently(self.space, shares, rng)
                if _fits(arch, self._budgets, self._band):
                    return arch
            if constrained is None:
                constrained = ConstrainedSampler(self.space, mixture, self._budgets, self._band)
            return constrained.sample(rng)

        return draw


def mutation_mixture(space: SearchSpace, arch: Architecture, per_layer: float, whole: float) -> Mixture:
    """Shares under which a value stays with probability 1 - p, else is any choice; any choice in layers that are missing.

    Args:
        space: The search space.
        arch: The parent.
        per_layer: p of per-layer dimensions.
        whole: p of the others, the depth among them.
    """
    mixture, even, same = {}, uniform_mixture(space), one_hot(space, arch)
    for name, rows in even.items():
        p = per_layer if name in space.per_layer else whole
        mixture[name] = (1 - p) * same[name] + p * rows
        if name in space.per_layer:
            mixture[name][arch.depth :] = rows[arch.depth :]
    return mixture


def crossover_mixture(space: SearchSpace, first: Architecture, second: Architecture) -> Mixture:
    """Shares under which each value is that of one of two parents, or of the one that has the layer."""
    mixture, parents = {}, [one_hot(space, first), one_hot(space, second)]
    for name in space.choices:
        mixture[name] = (parents[0][name] + parents[1][name]) / 2
        if name in space.per_layer:
            deeper, shallower = (1, first) if second.depth > first.depth else (0, second)
            mixture[name][shallower.depth :] = parents[deeper][name][shallower.depth :]
    return mixture


def _stock(supernet: PreTrainedModel, budgets: tuple[Budget, ...], band: float | None) -> list[Architecture]:
    """All architectures with the stock form within the limits: only such with equal layers can have it."""
    space, within, inside = supernet.space, [], []
    for values in product(*space.choices.values()):
        arch = space.architecture(**dict(zip(space.choices, values, strict=True)))
        if supernet.subnet_forms(supernet.config, arch)["stock"] is None and _fits(arch, budgets):
            within.append(arch)
            if _fits(arch, budgets, band):
                inside.append(arch)
    return inside or within


def _fits(arch: Architecture, budgets: tuple[Budget, ...], band: float | None = None) -> bool:
    costs = [(exact(budget.table, arch), budget.limit) for budget in budgets]
    return all(cost <= limit for cost, limit in costs) and (
        band is None or not costs or any(cost >= band * limit for cost, limit in costs)
    )


def _equal_layers_probability(space: SearchSpace, mixture: Mixture, arch: Architecture) -> float:
    """Of an architecture with equal layers, whose layers are one decision, that of the first."""
    probability = 1.0
    for name, choices in space.choices.items():
        value = getattr(arch, name)
        probability *= mixture[name][0, choices.index(value[0] if name in space.per_layer else value)].item()
    return probability
