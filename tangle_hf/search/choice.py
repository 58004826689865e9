"""Which architecture a search has found: what the shares stand for, or within limits the best of the most likely ones."""

from collections.abc import Callable, Mapping

from torch import Tensor
from transformers import PreTrainedModel

from ..arch_parameters import ArchParameters
from ..budgets.discretisation import Candidate, discretise, likeliest_of_each_shape, log_probability
from ..budgets.equal_cost import BAND, LEAST_OF_A_CUT
from ..budgets.limits import Budget
from ..cost.tables import exact, expected
from ..samplers import sampler
from ..space import Architecture
from .limits import Limits
from .settings import SearchArguments


def most_likely(
    supernet: PreTrainedModel, shares: Mapping[str, Tensor], budgets: tuple[Budget, ...], standard_only: bool
) -> Architecture:
    """The most likely architecture that keeps to the limits; what the shares stand for where there are none."""
    if not budgets and not standard_only:
        return supernet.most_likely(shares)
    return discretise(supernet, shares, budgets, band=BAND, standard_only=standard_only)[0].arch


def choose(
    supernet: PreTrainedModel,
    arch_parameters: ArchParameters,
    settings: SearchArguments,
    loss: Callable[[Architecture], float] | None = None,
    limits: Limits | None = None,
) -> list[tuple[Candidate, float | None]]:
    """The result of a search and its runners-up.

    Without limits it is what the shares stand for (`supernet.most_likely`). With a budget or `standard_only`, the
    `budget_candidates` most likely architectures, and with a budget the most likely one of every shape, are ranked by the
    loss that they inherit from the supernet.

    Args:
        supernet: After the search.
        arch_parameters: What `search` returned.
        settings: Those of the search.
        loss: Loss of an architecture with the supernet's weights, on data of the architecture steps; None ranks by
            likelihood.
        limits: Those of the search; None makes them from the settings.

    Returns:
        (candidate, its loss), the chosen one first.

    Raises:
        ValueError: The settings have limits that cannot be made (`Limits.of`) or kept.
    """
    limits = limits or Limits.of(settings, supernet)
    shares = arch_parameters.probabilities(sampler(settings.sampler))
    if not limits.budgets and not limits.standard_only:
        arch = supernet.most_likely(shares)
        return [(Candidate(arch, log_probability(supernet.space, shares, arch), {}), None)]
    candidates = discretise(
        supernet,
        shares,
        limits.budgets,
        count=1 if loss is None else settings.budget_candidates,
        band=BAND,
        standard_only=limits.standard_only,
    )
    if loss is None:
        return [(candidate, None) for candidate in candidates]
    if limits.budgets and not limits.standard_only:
        known = {candidate.arch for candidate in candidates}
        shapes = likeliest_of_each_shape(supernet.space, shares, limits.budgets, BAND, LEAST_OF_A_CUT)
        candidates += [candidate for candidate in shapes if candidate.arch not in known]
    return sorted(((candidate, loss(candidate.arch)) for candidate in candidates), key=lambda pair: pair[1])


def costs(shares: Mapping[str, Tensor], arch: Architecture, budgets: tuple[Budget, ...]) -> dict[str, int | float]:
    """For `metrics.jsonl`: of each cost its limit, what an architecture has, and what is expected under the shares."""
    shares = {name: rows.double() for name, rows in shares.items()}
    expectations = {f"expected_{b.cost}": b.in_units(expected(b.table, shares).item()) for b in budgets}
    return budget_use(arch, budgets) | expectations


def budget_use(arch: Architecture, budgets: tuple[Budget, ...]) -> dict[str, int | float]:
    """Of each cost its limit and what an architecture has."""
    record = {}
    for budget in budgets:
        record[f"max_{budget.cost}"] = budget.in_units(budget.limit)
        record[f"arch_{budget.cost}"] = budget.in_units(exact(budget.table, arch))
    return record
