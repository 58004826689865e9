"""The smaller nets that are tried: cuts by hand, the optimum of the sensitivities, and what a gradient search likes."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod

from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from ..arch_parameters import Mixture
from ..budgets.discretisation import discretise
from ..budgets.equal_cost import BAND, fits, hand_cuts
from ..search import Limits, SearchArguments
from ..search.finalists.candidates import HAND_CUT, Finalist, differing, likely_nets
from ..space import Architecture, SearchSpace
from .sensitivities import predicted_rise, preferences


LEAST = 1 / 3  # of the units of a kind, that a layer keeps before there are fewer layers (docs/results.md)
UNIFORM, OPTIMUM, GRADIENT, GIVEN = "uniform cut", "sensitivities", "gradient search", "given"


def uniform_cut(supernet: PreTrainedModel, limits: Limits) -> Finalist:
    """The checkpoint made smaller in every layer alike, with as many layers as fit."""
    space, units = supernet.space, units_of_layers(supernet.config)
    return Finalist(max(_cuts(supernet, limits), key=lambda arch: evenness(space, units, arch)), UNIFORM)


def candidates(
    supernet: PreTrainedModel,
    rises: Mapping[str, Tensor],
    shares: Mixture | None,
    settings: SearchArguments,
    limits: Limits,
    most_cuts: int,
) -> list[Finalist]:
    """The uniform cut and what is proposed in its place, each architecture once, with the first of its origins.

    All have as many layers as the uniform cut. Nets with fewer are ahead while a recovery is short and behind when it is over
    (`docs/results.md`), so that a short comparison would take them.

    Args:
        supernet: The checkpoint.
        rises: What `sensitivities` gave.
        shares: What the gradient search gave; None: there was none.
        settings: How many are proposed beside the cuts by hand, half of them by each of the two.
        limits: What all of them keep to.
        most_cuts: How many cuts by hand: the uniform one, and those for which the sensitivities promise most.
    """
    space, first = supernet.space, uniform_cut(supernet, limits).arch
    found = {first: UNIFORM}
    cuts = [arch for arch in _cuts(supernet, limits) if arch.depth == first.depth]
    for arch in sorted(cuts, key=lambda arch: predicted_rise(space, rises, arch)):
        if len(found) < most_cuts:
            found.setdefault(arch, HAND_CUT)
    proposed = {OPTIMUM: _best(supernet, preferences(space, rises, first.depth), settings.finalists, limits)}
    if shares is not None:
        likely = _best(supernet, shares, settings.finalists, limits) + likely_nets(supernet, shares, settings, limits)
        proposed[GRADIENT] = likely
    for number, (origin, archs) in enumerate(proposed.items()):
        count = settings.finalists // len(proposed) + (number < settings.finalists % len(proposed))
        new = [arch for arch in archs if arch not in found and arch.depth == first.depth]
        found |= dict.fromkeys(differing(space, new, count), origin)
    return [Finalist(arch, origin) for arch, origin in found.items()]


def units_of_layers(config: PreTrainedConfig) -> list[tuple[str, ...]]:
    """The dimensions that together say how many units of a kind a layer has, as groups and heads of a group do of heads.

    A dimension that is part of a larger kind is none of its own, so that of two nets with as many query heads the one with
    fewer groups is as even: it has room for more hidden units, and loses less (`docs/results.md`). In one order in every
    process, so that sums over them are equal to the last digit.
    """
    space = config.space
    smaller = [name for name in space.of_layers if len(space.choices[name]) > 1]
    kinds = {tuple(name for name in smaller if name in axis.dimensions) for axis in config.axes.values()} - {()}
    return sorted(kind for kind in kinds if not any(set(kind) < set(other) for other in kinds))


def evenness(space: SearchSpace, units: Iterable[Iterable[str]], arch: Architecture) -> tuple[bool, int, float, float]:
    """How much an architecture is a net made smaller in every layer alike: its depth, its least share of units, and their sum.

    More layers are better as long as each keeps `LEAST` of every kind of units, which `units_of_layers` gives.
    """
    shares = [prod(arch.values(name)[0] / space.choices[name][-1] for name in names) for names in units]
    least = min(shares, default=1.0)
    return least >= LEAST, arch.depth, least, sum(shares)


def _cuts(supernet: PreTrainedModel, limits: Limits) -> list[Architecture]:
    """What a person would cut by hand; with `standard_only` what is stock, if need be smaller than that."""
    cuts = hand_cuts(supernet.space, limits.budgets)
    if not limits.standard_only:
        return cuts

    def stock(archs) -> list[Architecture]:
        return [arch for arch in archs if supernet.subnet_forms(supernet.config, arch)["stock"] is None]

    return stock(cuts) or stock(arch for arch in supernet.space.equal_layers() if fits(arch, limits.budgets))


def _best(supernet: PreTrainedModel, shares: Mixture, count: int, limits: Limits) -> Sequence[Architecture]:
    if count == 0:
        return []
    options = {"count": count, "band": BAND, "standard_only": limits.standard_only}
    return [candidate.arch for candidate in discretise(supernet, shares, limits.budgets, **options)]
