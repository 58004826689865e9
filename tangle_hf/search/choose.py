"""Which architecture a search has found: what the shares stand for, or within limits the best of the most likely ones."""

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

from ..arch import ArchParameters
from ..budgets import Budget, make_budgets
from ..cost_table import exact, expected
from ..discretise import Candidate, discretise, log_probability
from ..samplers import sampler
from ..space import Architecture
from .arguments import SearchArguments
from .budget import Surface, start_on_surface


BAND = 0.95  # candidates use at least this share of a budget where there are any: what is left unused is lost


def budgets_of(
    arguments: SearchArguments, supernet: PreTrainedModel, sequence_length: int | None
) -> tuple[Budget, ...]:
    """The budgets of the settings.

    Args:
        arguments: Settings.
        supernet: What they limit.
        sequence_length: Tokens of an example, for FLOPs of text.

    Raises:
        ValueError: A budget cannot be read, or FLOPs of text have no length.
    """
    return make_budgets(
        supernet.config,
        max_params=arguments.max_params,
        max_params_without_embeddings=arguments.max_params_without_embeddings,
        max_flops=arguments.max_flops,
        sequence_length=sequence_length,
    )


def check_budgets(arguments: SearchArguments, supernet: PreTrainedModel, sequence_length: int | None) -> None:
    """Refuses, before anything is trained or written, budgets that a search cannot keep to.

    Raises:
        ValueError: As `budgets_of`; no architecture keeps to all budgets (names the smallest possible cost), or a sampler
            cannot come as close to the smallest or largest architecture as they ask.
    """
    space, budgets = supernet.space, budgets_of(arguments, supernet, sequence_length)
    if budgets or arguments.standard_only:
        even = {name: torch.full((space.rows(name), len(c)), 1 / len(c)) for name, c in space.choices.items()}
        discretise(supernet, even, budgets, standard_only=arguments.standard_only)
        start_on_surface(Surface(sampler(arguments.sampler), budgets), ArchParameters(space, arguments.seed).logits)


def current_best(
    supernet: PreTrainedModel, arch_parameters: ArchParameters, arguments: SearchArguments, budgets: tuple[Budget, ...]
) -> Architecture:
    """The most likely architecture that keeps to the limits, what the shares stand for where there are none."""
    shares = arch_parameters.probabilities(sampler(arguments.sampler))
    if not budgets and not arguments.standard_only:
        return supernet.most_likely(shares)
    return discretise(supernet, shares, budgets, band=BAND, standard_only=arguments.standard_only)[0].arch


def choose(
    supernet: PreTrainedModel,
    arch_parameters: ArchParameters,
    arguments: SearchArguments,
    loss: Callable[[Architecture], float] | None = None,
    sequence_length: int | None = None,
) -> list[tuple[Candidate, float | None]]:
    """The result of a search and its runners-up.

    Without limits it is what the shares stand for (`supernet.most_likely`). With a budget or `standard_only`, the
    `budget_candidates` most likely architectures are ranked by the loss that they inherit from the supernet.

    Args:
        supernet: After the search.
        arch_parameters: What `search` returned.
        arguments: The settings of the search.
        loss: Loss of an architecture with the supernet's weights, on data of the architecture steps; None ranks by
            likelihood.
        sequence_length: As in `search`.

    Returns:
        (candidate, its loss), the chosen one first.
    """
    budgets = budgets_of(arguments, supernet, sequence_length)
    shares = arch_parameters.probabilities(sampler(arguments.sampler))
    if not budgets and not arguments.standard_only:
        arch = supernet.most_likely(shares)
        return [(Candidate(arch, log_probability(supernet.space, shares, arch), {}), None)]
    ranked = loss is not None
    count = arguments.budget_candidates if ranked else 1
    candidates = discretise(supernet, shares, budgets, count=count, band=BAND, standard_only=arguments.standard_only)
    if not ranked:
        return [(candidate, None) for candidate in candidates]
    return sorted(((candidate, loss(candidate.arch)) for candidate in candidates), key=lambda pair: pair[1])


def costs(
    arch_parameters: ArchParameters, arch: Architecture, arguments: SearchArguments, budgets: tuple[Budget, ...]
) -> dict[str, int | float]:
    """For `metrics.jsonl`: of each cost its limit, its expectation under the sampler's mean, and what an architecture has."""
    shares = {n: s.double() for n, s in arch_parameters.probabilities(sampler(arguments.sampler)).items()}
    record = {}
    for budget in budgets:
        record[f"max_{budget.cost}"] = budget.limit
        record[f"expected_{budget.cost}"] = expected(budget.table, shares).item()
        record[f"arch_{budget.cost}"] = exact(budget.table, arch)
    return record
