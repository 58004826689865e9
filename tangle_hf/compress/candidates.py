"""The smaller nets that are tried: cuts by hand, the optimum of the sensitivities, and what a gradient search likes."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from transformers import PreTrainedModel

from ..arch_parameters import Mixture
from ..budgets.discretisation import discretise
from ..budgets.equal_cost import BAND, hand_cuts
from ..search import Limits, SearchArguments
from ..search.finalists.candidates import HAND_CUT, Finalist, likely_nets, spread
from ..space import Architecture, SearchSpace
from .sensitivities import predicted_rise, preferences


UNIFORM, OPTIMUM, GRADIENT = "uniform cut", "sensitivities", "gradient search"


def candidates(
    supernet: PreTrainedModel,
    rises: Mapping[str, Tensor],
    shares: Mixture | None,
    settings: SearchArguments,
    limits: Limits,
    most_cuts: int,
) -> list[Finalist]:
    """All that are tried, each architecture once, with the first of its origins.

    Args:
        supernet: The checkpoint.
        rises: What `sensitivities` gave.
        shares: What the gradient search gave; None: there was none.
        settings: How many are proposed beside the cuts by hand, half of them by each of the two.
        limits: What all of them keep to.
        most_cuts: How many cuts by hand: the uniform one, and those for which the sensitivities promise most.
    """
    space, found = supernet.space, {}
    cuts = hand_cuts(space, limits.budgets)
    if limits.standard_only:
        cuts = [arch for arch in cuts if supernet.subnet_forms(supernet.config, arch)["stock"] is None]
    cuts = sorted(cuts, key=lambda arch: predicted_rise(space, rises, arch))
    if cuts:
        found[max(cuts, key=lambda arch: evenness(space, arch))] = UNIFORM
    for arch in cuts:
        if len(found) < most_cuts:
            found.setdefault(arch, HAND_CUT)
    proposed = {OPTIMUM: _best(supernet, preferences(rises), settings.finalists, limits)}
    if shares is not None:
        likely = _best(supernet, shares, settings.finalists, limits) + likely_nets(supernet, shares, settings, limits)
        proposed[GRADIENT] = likely
    for number, (origin, archs) in enumerate(proposed.items()):
        count = settings.finalists // len(proposed) + (number < settings.finalists % len(proposed))
        new = [arch for arch in archs if arch not in found]
        found |= dict.fromkeys(spread(new, count), origin)
    return [Finalist(arch, origin) for arch, origin in found.items()]


def evenness(space: SearchSpace, arch: Architecture) -> tuple[int, float]:
    """How much an architecture is a net made smaller in every layer alike: its depth, then its least share of a size."""
    least = min(
        (arch.values(name)[0] / space.choices[name][-1] for name in space.of_layers if len(space.choices[name]) > 1),
        default=1.0,
    )
    return arch.depth, least


def _best(supernet: PreTrainedModel, shares: Mixture, count: int, limits: Limits) -> Sequence[Architecture]:
    if count == 0:
        return []
    options = {"count": count, "band": BAND, "standard_only": limits.standard_only}
    return [candidate.arch for candidate in discretise(supernet, shares, limits.budgets, **options)]
