"""Who the finalists are: what a search proposes, what a person would cut by hand, and random nets."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from transformers import PreTrainedModel

from ...arch_parameters import Mixture
from ...budgets.discretisation import discretise, likeliest_of_each_shape, shape
from ...budgets.equal_cost import BAND, LEAST_OF_A_CUT, hand_cuts
from ...budgets.sampling import draw_new
from ...space import Architecture, SearchSpace
from ..choice import most_likely
from ..limits import Limits
from ..settings import SearchArguments
from ..two_stage.proposals import Proposals


SEARCH, HAND_CUT, RANDOM = "search", "hand cut", "random"
BOTH = f"{SEARCH} and {HAND_CUT}"  # the search proposes what a person would cut
POOL = 64  # likely nets out of which some that differ are taken


@dataclass(frozen=True)
class Finalist:
    """A net that is trained briefly.

    Args:
        arch: Its architecture.
        origin: `SEARCH`, `HAND_CUT`, `BOTH` of these, or `RANDOM`.
    """

    arch: Architecture
    origin: str


def choose_finalists(
    supernet: PreTrainedModel, proposed: Sequence[Architecture], settings: SearchArguments, limits: Limits
) -> list[Finalist]:
    """All finalists, each architecture once: what the search proposes first, then the hand cuts, then random nets.

    Of a space of sizes proposals that differ are taken (`differing`). Of a space of operations it is the first ones: what
    differs most from them is what the search likes least (docs/results.md, "NAS-Bench-201 on CIFAR-10"). None has fewer
    layers than the search's choice: shallow nets learn faster, so that a short training prefers them to deeper ones that
    are better in the end (docs/results.md, "A search beside cuts by hand").

    Args:
        supernet: What is searched.
        proposed: What the search proposes, its choice first, then by merit.
        settings: How many of each kind.
        limits: What all of them keep to.
    """
    least = layers(proposed[0]) if proposed else 0
    proposed = [arch for arch in proposed if layers(arch) >= least]
    if supernet.space.ordered:
        proposed = differing(supernet.space, proposed, settings.proposed_finalists)
    found = dict.fromkeys(list(dict.fromkeys(proposed))[: settings.proposed_finalists], SEARCH)
    for arch in hand_cuts(supernet.space, limits.budgets) if limits.budgets else ():
        if layers(arch) < least:
            continue
        if not limits.standard_only or supernet.subnet_forms(supernet.config, arch)["stock"] is None:
            found[arch] = BOTH if arch in found else HAND_CUT
    if settings.random_finalists:
        draw = Proposals(settings, supernet, limits, use_up=True).random
        rng = random.Random(f"{settings.seed} random finalists")

        def deep() -> Architecture:
            arch = draw(rng)
            return arch if layers(arch) >= least else proposed[0]  # which is no new one

        found |= dict.fromkeys(draw_new(deep, settings.random_finalists, found), RANDOM)
    return [Finalist(arch, origin) for arch, origin in found.items()]


def likely_nets(
    supernet: PreTrainedModel, shares: Mixture, settings: SearchArguments, limits: Limits
) -> list[Architecture]:
    """Different nets, drawn from the distribution that a search has trained, given that they keep to the limits.

    Args:
        supernet: What is searched.
        shares: The distribution, dimension -> (rows, choices).
        settings: Its seed is the seed of the draws.
        limits: What all of them keep to and use up.
    """
    draw = Proposals(settings, supernet, limits, use_up=True).draws(shares)
    rng = random.Random(f"{settings.seed} likely nets")
    return draw_new(lambda: draw(rng), POOL)


def proposed_nets(
    supernet: PreTrainedModel, shares: Mixture, chosen: Architecture, settings: SearchArguments, limits: Limits
) -> list[Architecture]:
    """What a search of one stage proposes: its choice, the likeliest net of every shape and of all, and other likely nets.

    Of a space of operations, which has no shapes, the likeliest ones.

    Args:
        supernet: What is searched.
        shares: The distribution that the search has trained.
        chosen: Its choice.
        settings: Its seed is the seed of the draws.
        limits: What all of them keep to.
    """
    if not supernet.space.ordered:
        count = settings.proposed_finalists + 1  # the choice may be among them
        options = {"count": count, "band": BAND, "standard_only": limits.standard_only}
        return [chosen, *(each.arch for each in discretise(supernet, shares, limits.budgets, **options))]
    likeliest = most_likely(supernet, shares, limits.budgets, limits.standard_only)
    shapes = []
    if limits.budgets and not limits.standard_only:
        found = likeliest_of_each_shape(supernet.space, shares, limits.budgets, BAND, LEAST_OF_A_CUT)
        shapes = [candidate.arch for candidate in found]
    return [chosen, *shapes, likeliest, *likely_nets(supernet, shares, settings, limits)]


def differing(space: SearchSpace, pool: Sequence[Architecture], count: int) -> list[Architecture]:
    """The first of a pool and the first of each other shape; then again and again what differs most from all taken so far.

    A shape is what `likeliest_of_each_shape` takes for one: nets of one shape are worth about the same, and what differs most
    from a good net is seldom good. Of equals the earlier is taken.

    Args:
        space: The search space.
        pool: Architectures, the best first.
        count: How many to take.
    """
    pool, shapes = list(dict.fromkeys(pool)), {}
    for arch in pool:
        shapes.setdefault(shape(space, arch), arch)
    taken = list(shapes.values())[:count]
    pool = [arch for arch in pool if arch not in taken]
    while pool and len(taken) < count:
        taken.append(max(pool, key=lambda arch: min(distance(arch, other) for other in taken)))
        pool.remove(taken[-1])
    return taken


def layers(arch: Architecture) -> int:
    """The layers of a net, over all stages; 0 where the space has no depth."""
    return sum(arch.depth) if isinstance(arch.depth, tuple) else arch.depth or 0


def distance(first: Architecture, second: Architecture) -> int:
    """In how many decisions two architectures of one space differ; all those of a layer that only one of them has count."""
    return sum(a != b for name in first.to_dict() for a, b in zip_longest(first.values(name), second.values(name)))
