"""Which single paths a step of the supernet trains: one (SPOS), or a sandwich of them; drawn in one of three ways."""

import random
from collections.abc import Callable

from transformers import PreTrainedModel

from ...arch_parameters import uniform_mixture
from ...budgets.sampling import ConstrainedSampler
from ...cost.counts import parameter_entries
from ...cost.tables import tabulate
from ...space import Architecture
from ..limits import Limits
from ..settings import SearchArguments
from .proposals import Proposals


STRATA = 8


def path_rule(
    settings: SearchArguments, supernet: PreTrainedModel, limits: Limits
) -> Callable[[int], list[Architecture]]:
    """Step -> the subnets that it trains, a function of the seed and the step alone, so that it resumes by itself.

    "spos" (arXiv:1904.00420, section 3.2) trains one random subnet. "sandwich" (arXiv:1903.05134, section 3) trains the
    largest, then `sandwich_paths` random ones, then the smallest.

    Random ones are drawn by `path_sampling`: "uniform" draws every dimension uniformly; "stratified" gives each of `STRATA`
    equal parts of the range of sizes (parameters without embedding tables) the same probability, where uniform draws are
    mostly of middle size; "budget" draws what the second stage may choose.

    Args:
        settings: Settings.
        supernet: What is trained.
        limits: What the second stage keeps to.

    Raises:
        ValueError: A sandwich of a space without a largest net.
    """
    space = supernet.space
    if settings.resolved_method.weights == "sandwich" and not space.ordered:
        raise ValueError(
            f"method={settings.method} trains the largest and the smallest net in every step, which a space of operations "
            "does not have; choose spos+rs, spos+es, spos+nsga2 or a method of one stage"
        )
    if settings.path_sampling == "uniform":
        draw = space.sample
    elif settings.path_sampling == "stratified":
        sizes = tabulate(space, parameter_entries(supernet.config, embeddings=False))
        draw = ConstrainedSampler(space, uniform_mixture(space), strata=(sizes, STRATA)).sample
    else:
        draw = Proposals(settings, supernet, limits).random

    def paths(step: int) -> list[Architecture]:
        rng = random.Random(f"{settings.seed} {step}")
        if settings.resolved_method.weights == "spos":
            return [draw(rng)]
        return [space.largest, *(draw(rng) for _ in range(settings.sandwich_paths)), space.smallest]

    return paths
