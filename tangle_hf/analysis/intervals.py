"""How well a mean is known. Needs scipy."""

import statistics
from collections.abc import Sequence

from ..errors import check_extra


check_extra("compare", "scipy")

CONFIDENCE = 0.95


def interval(values: Sequence[float]) -> tuple[float, float] | None:
    """The 95 % t-interval of a mean: mean +- t(0.975, n - 1) * deviation / sqrt(n); None of fewer than two values.

    Args:
        values: Independent draws: means of different nets or, of one net, its seeds.
    """
    if len(values) < 2:
        return None
    from scipy import stats

    mean, error = statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return mean - half, mean + half
