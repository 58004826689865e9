"""Random and evolutionary search over candidates.

A strategy is a generator: it yields the candidates of a generation, is sent their losses, and yields the next ones. It
evaluates nothing itself, so that any process can evaluate its candidates. Sent the same losses, it makes the same candidates.
"""

import random
from collections.abc import Callable, Collection, Generator

from ...space import Architecture
from ..settings import SearchArguments
from .proposals import Proposals


Strategy = Generator[list[Architecture], list[float], None]

MOST_MISSES = 1000  # random draws in a row that are known already, after which all candidates count as known
MOST_FAILED_OFFSPRING = (
    50  # mutations or crossovers in a row that are known already, after which random candidates take their place
)


def random_search(proposals: Proposals, settings: SearchArguments) -> Strategy:
    """Different random candidates, as many as the other strategies evaluate; stops when there are no more."""
    rng, known = random.Random(settings.seed), set()
    for _ in range(settings.generations):
        population = draw_new(lambda: proposals.random(rng), settings.population_size, known, MOST_MISSES)
        if not population:
            return
        known.update(population)
        yield population


def evolution(proposals: Proposals, settings: SearchArguments) -> Strategy:
    """Evolution of the best candidates so far, AutoFormer (arXiv:2107.00651, section 3.4).

    The first generation is random. Each one after it has `num_mutations` mutations of one of the `num_parents` best
    candidates so far, `num_crossovers` crossovers of two of them, and random candidates up to `population_size`. None is
    proposed twice; the search stops when there are no more.
    """
    rng, losses = random.Random(settings.seed), {}
    population = draw_new(lambda: proposals.random(rng), settings.population_size, (), MOST_MISSES)
    for generation in range(settings.generations):
        if generation:
            parents = sorted(losses, key=losses.get)[: settings.num_parents]
            population = offspring(proposals, parents, settings, losses, rng)
        if not population:
            return
        losses.update(zip(population, (yield population), strict=True))


def offspring(
    proposals: Proposals,
    parents: list[Architecture],
    settings: SearchArguments,
    known: Collection[Architecture],
    rng: random.Random,
) -> list[Architecture]:
    """The next generation: mutations, crossovers, random candidates, all of them new.

    Args:
        proposals: Makes them.
        parents: What they are made from.
        settings: How many of each kind.
        known: What has been evaluated.
        rng: Source of randomness.
    """
    makers = [
        (lambda: proposals.mutation(rng.choice(parents), rng), settings.num_mutations, MOST_FAILED_OFFSPRING),
        (
            lambda: proposals.crossover(*rng.choices(parents, k=2), rng),
            settings.num_mutations + settings.num_crossovers,
            MOST_FAILED_OFFSPRING,
        ),
        (lambda: proposals.random(rng), settings.population_size, MOST_MISSES),
    ]
    population = []
    for make, enough, most_misses in makers:
        population += draw_new(make, enough - len(population), {*known, *population}, most_misses)
    return population


def draw_new(
    make: Callable[[], Architecture], count: int, known: Collection[Architecture], most_misses: int
) -> list[Architecture]:
    """Up to `count` different architectures that are not known; fewer after so many misses in a row."""
    found, misses = {}, 0
    while len(found) < count and misses < most_misses:
        arch = make()
        misses = misses + 1 if arch in found or arch in known else 0
        if not misses:
            found[arch] = None
    return list(found)
