"""NSGA-II (Deb et al., 2002, doi:10.1109/4235.996017) over candidates: the front of inherited loss and cost, with pymoo.

pymoo selects and ranks; what is drawn, mutated and crossed are architectures within the limits (`proposals`).
"""

import random
from collections.abc import Callable

import numpy as np

from ...space import Architecture
from ..settings import SearchArguments
from .evolution import MOST_MISSES, Strategy, draw_new
from .proposals import Proposals


MOST_FAILED_MATINGS = 10  # rounds of mating to fill a generation with new candidates; it may stay smaller


def nsga2(proposals: Proposals, settings: SearchArguments, cost: Callable[[Architecture], float]) -> Strategy:
    """Yields generations of candidates that minimise loss and cost together, and is sent their losses.

    Args:
        proposals: Makes candidates.
        settings: Settings.
        cost: The second objective.

    Raises:
        ValueError: pymoo is not installed.
    """
    try:
        from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
        from pymoo.core.crossover import Crossover
        from pymoo.core.duplicate import ElementwiseDuplicateElimination
        from pymoo.core.evaluator import Evaluator
        from pymoo.core.mating import Mating
        from pymoo.core.mutation import Mutation
        from pymoo.core.problem import Problem
        from pymoo.core.sampling import Sampling
        from pymoo.operators.selection.tournament import TournamentSelection
        from pymoo.problems.static import StaticProblem
    except ImportError:
        raise ValueError("NSGA-II needs pymoo; install it with: pip install 'tangle_hf[search]'") from None
    rng = random.Random(settings.seed)

    # One variable of type object: the architecture.
    class Random(Sampling):
        def _do(self, problem, n_samples, **kwargs):
            return _column(draw_new(lambda: proposals.random(rng), n_samples, (), MOST_MISSES))

    class Cross(Crossover):
        def _do(self, problem, X, **kwargs):
            return _column([proposals.crossover(a, b, rng) for a, b in X[:, :, 0].T])[None]

    class Mutate(Mutation):
        def _do(self, problem, X, **kwargs):
            return _column([proposals.mutation(arch, rng) for arch in X[:, 0]])

    class Same(ElementwiseDuplicateElimination):
        def is_equal(self, a, b):
            return a.X[0] == b.X[0]

    algorithm = NSGA2(
        pop_size=settings.population_size,
        sampling=Random(),
        mating=Mating(
            TournamentSelection(func_comp=binary_tournament),
            Cross(n_parents=2, n_offsprings=1),
            Mutate(),
            eliminate_duplicates=Same(),
            n_max_iterations=MOST_FAILED_MATINGS,
        ),
        eliminate_duplicates=Same(),
    )
    problem = Problem(n_var=1, n_obj=2, vtype=object)
    algorithm.setup(problem, termination=("n_gen", settings.generations), seed=settings.seed)
    while algorithm.has_next():
        population = algorithm.ask()
        if population is None:  # nothing new can be made
            return
        archs = [individual.X[0] for individual in population]
        losses = yield archs
        objectives = np.array([(loss, cost(arch)) for loss, arch in zip(losses, archs, strict=True)])
        Evaluator().eval(StaticProblem(problem, F=objectives), population)
        algorithm.tell(infills=population)


def _column(archs: list[Architecture]) -> np.ndarray:
    column = np.empty((len(archs), 1), dtype=object)
    column[:, 0] = archs
    return column
