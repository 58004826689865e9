"""Do two methods differ: a test over the different nets that they found. Needs scipy.

Searches that found the same net are one draw and not several, and trainings of one net with several seeds are none beside the
net: counted as draws they would make a test see differences where there are none.
"""

import warnings
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from ..errors import check_extra
from .intervals import CONFIDENCE


check_extra("compare", "scipy")

FEWEST_NETS = 3  # on each side of a test

Scores = Mapping[Hashable, float]  # seed -> score of a net


@dataclass(frozen=True)
class Difference:
    """Two sides, each of nets that only this side found, each net one number.

    Args:
        first_nets: Nets that only the first side has.
        second_nets: Of the second.
        shared: Nets that both have. They are left out: trained alike they are the same on both sides.
        seeds: Seeds over which every net is averaged, those that all have; None if they have none in common, each its own.
        difference: Mean of the first side's nets minus mean of the second's; None if a side has none.
        interval: Its 95 % interval; None where there is no test.
        t: Statistic of Welch's test, two-sided, variances not assumed to be equal (doi:10.1093/biomet/34.1-2.28); None with
            fewer than three nets on a side, and where no net differs from others of its side.
        df: Degrees of freedom; None likewise.
        p: Probability of a difference at least as large if both sides are drawn from the same nets; None likewise.
    """

    first_nets: int
    second_nets: int
    shared: int
    seeds: tuple[Hashable, ...] | None
    difference: float | None
    interval: tuple[float, float] | None = None
    t: float | None = None
    df: float | None = None
    p: float | None = None

    @property
    def too_few(self) -> str | None:
        """Why there is no test; None if there are nets enough."""
        fewest = min(self.first_nets, self.second_nets)
        return None if fewest >= FEWEST_NETS else f"{fewest} net{'s' * (fewest != 1)}: too few for a test"


def compare_nets(first: Iterable[tuple[Hashable, Scores]], second: Iterable[tuple[Hashable, Scores]]) -> Difference:
    """The difference of two methods, over different nets.

    Args:
        first: What searches of one method found: a net each, which may be there several times, and its scores.
        second: Of the other.
    """
    sides = by_net(first), by_net(second)
    shared = sides[0].keys() & sides[1].keys()
    nets = [[scores for net, scores in side.items() if net not in shared] for side in sides]
    seeds = _common_seeds([*nets[0], *nets[1]])
    means = [[fmean(scores[seed] for seed in seeds or scores) for scores in side] for side in nets]
    counts = (len(means[0]), len(means[1]), len(shared), seeds or None)
    if not all(means):
        return Difference(*counts, difference=None)
    difference = fmean(means[0]) - fmean(means[1])
    if min(map(len, means)) < FEWEST_NETS or not any(_differ(side) for side in means):
        return Difference(*counts, difference)
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # of a side without a spread, which Welch's test takes as exact
        found = stats.ttest_ind(*means, equal_var=False)
    low, high = found.confidence_interval(CONFIDENCE)
    numbers = {"t": float(found.statistic), "df": float(found.df), "p": float(found.pvalue)}
    return Difference(*counts, difference, (float(low), float(high)), **numbers)


def _differ(values: Sequence[float]) -> bool:
    """Whether there is a spread beyond rounding; without one on either side a test has nothing to compare with."""
    return max(values) - min(values) > 1e-9 * max(map(abs, values))


def by_net(found: Iterable[tuple[Hashable, Scores]]) -> dict[Hashable, dict[Hashable, float]]:
    """Net -> seed -> score, each net once; where several searches found it, the mean of their scores with a seed."""
    gathered: dict[Hashable, dict[Hashable, list[float]]] = {}
    for net, scores in found:
        for seed, score in scores.items():
            gathered.setdefault(net, {}).setdefault(seed, []).append(score)
    return {net: {seed: fmean(values) for seed, values in scores.items()} for net, scores in gathered.items()}


def _common_seeds(nets: Sequence[Scores]) -> tuple[Hashable, ...]:
    return tuple(seed for seed in nets[0] if all(seed in scores for scores in nets)) if nets else ()
