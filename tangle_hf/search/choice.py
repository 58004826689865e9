"""Which architecture a search has found: what the shares stand for, or within limits the best of the most likely ones."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import torch
from transformers import PreTrainedModel

from ..arch_parameters import ArchParameters, uniform_mixture
from ..budgets.discretisation import Candidate, discretise, log_probability
from ..budgets.limits import Budget, make_budgets, parse_amount
from ..cost.latency_tables import check_latency_table, load_latency_table
from ..cost.tables import exact, expected, of_smallest
from ..cost.timing import conditions
from ..samplers import sampler
from ..space import Architecture
from .gradient.budget_surface import Surface, start_on_surface
from .settings import SearchArguments


BAND = 0.95  # candidates use at least this share of a budget where there are any: what is left unused is lost
ANCHORS = (0.1, 0.5, 0.9)  # where a front has logits unless told otherwise, between the smallest and the largest net


def budgets_of(
    arguments: SearchArguments, supernet: PreTrainedModel, sequence_length: int | None
) -> tuple[Budget, ...]:
    """The budgets of the settings.

    Args:
        arguments: Settings.
        supernet: What they limit.
        sequence_length: Tokens of an example, for FLOPs of text.

    Raises:
        ValueError: A budget cannot be read, FLOPs of text have no length, or a latency has no table.
    """
    path = arguments.latency_table if arguments.max_latency_ms is not None else None
    return make_budgets(
        supernet.config,
        max_params=arguments.max_params,
        max_params_without_embeddings=arguments.max_params_without_embeddings,
        max_flops=arguments.max_flops,
        max_latency_ms=arguments.max_latency_ms,
        latency_table=None if path is None else load_latency_table(path),
        sequence_length=sequence_length,
    )


def anchor_budgets(
    arguments: SearchArguments, supernet: PreTrainedModel, sequence_length: int | None
) -> list[tuple[Budget, ...]]:
    """The budgets for which a search has logits of their own: those of `budgets_of`, or with `pareto` a set per anchor.

    In the latter the budget of the front's cost is the last one, and its limits ascend.

    Args:
        arguments: Settings.
        supernet: What they limit.
        sequence_length: As in `budgets_of`.

    Raises:
        ValueError: As `budgets_of`; or the anchors do not ascend.
    """
    others = budgets_of(arguments, supernet, sequence_length)
    if arguments.pareto is None:
        return [others]
    name = f"max_{arguments.pareto}"
    unlimited = replace(arguments, pareto=None, pareto_anchors=None, **{name: "100%"})
    (whole,) = (b for b in budgets_of(unlimited, supernet, sequence_length) if b.cost == arguments.pareto)
    smallest, largest = of_smallest(whole.table), whole.limit
    if arguments.pareto_anchors is None:
        limits = [round(smallest + share * (largest - smallest)) for share in ANCHORS]
    else:
        limits = [parse_amount(amount, largest, whole.unit) for amount in arguments.pareto_anchors]
    if any(low >= high for low, high in pairwise(limits)):
        raise ValueError(
            f"the anchors of the front must ascend, but are {[whole.text(n) for n in limits]}; order --pareto_anchors"
        )
    return [(*others, replace(whole, limit=limit)) for limit in limits]


def check_budgets(arguments: SearchArguments, supernet: PreTrainedModel, sequence_length: int | None) -> None:
    """Refuses, before anything is trained or written, budgets that a search cannot keep to.

    Raises:
        ValueError: As `anchor_budgets`; no architecture keeps to all budgets (names the smallest possible cost), or a
            sampler cannot come as close to the smallest or largest architecture as they ask.
    """
    space = supernet.space
    for budgets in anchor_budgets(arguments, supernet, sequence_length):
        if budgets or arguments.standard_only:
            discretise(supernet, uniform_mixture(space), budgets, standard_only=arguments.standard_only)
            if arguments.resolved_method.two_stage:
                continue
            start_on_surface(
                Surface(sampler(arguments.sampler), budgets), ArchParameters(space, arguments.seed).logits
            )


def check_latency(
    arguments: SearchArguments, supernet: PreTrainedModel, sequence_length: int | None, device: torch.device
) -> list[str]:
    """What differs between the latency table of the settings and this search, as far as it may.

    Args:
        arguments: Settings.
        supernet: What is searched.
        sequence_length: Tokens of an example.
        device: Where the search runs, and its nets will.

    Raises:
        ValueError: As `check_latency_table`.
    """
    if arguments.latency_table is None:
        return []
    here = conditions(
        supernet, batch_size=arguments.latency_batch_size, sequence_length=sequence_length, device=device
    )
    table, allow_other = load_latency_table(arguments.latency_table), arguments.allow_other_latency_table
    return check_latency_table(table, supernet.space, here, allow_other=allow_other)


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
    expectations = {f"expected_{b.cost}": b.in_units(expected(b.table, shares).item()) for b in budgets}
    return budget_use(arch, budgets) | expectations


def budget_use(arch: Architecture, budgets: tuple[Budget, ...]) -> dict[str, int | float]:
    """Of each cost its limit and what an architecture has."""
    record = {}
    for budget in budgets:
        record[f"max_{budget.cost}"] = budget.in_units(budget.limit)
        record[f"arch_{budget.cost}"] = budget.in_units(exact(budget.table, arch))
    return record
