"""Do two methods differ, does one score predict another: Welch's t-test and rank correlations. Needs scipy."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.figure

from ..errors import check_extra


check_extra("compare", "scipy")


@dataclass(frozen=True)
class Welch:
    """Welch's t-test of equal means, two-sided, variances not assumed to be equal.

    Args:
        difference: Mean of the first sample minus mean of the second.
        t: Statistic; None if neither sample varies.
        df: Degrees of freedom; None if neither sample varies.
        p: Probability of a difference at least this large, in either direction, if the means are equal; None if
            neither sample varies.
    """

    difference: float
    t: float | None
    df: float | None
    p: float | None


def welch(first: Sequence[float], second: Sequence[float]) -> Welch | None:
    """Welch's t-test of the difference of two means (doi:10.1093/biomet/34.1-2.28); None if a sample is below two values.

    Args:
        first: Independent measurements of one method.
        second: Independent measurements of the other.
    """
    if min(len(first), len(second)) < 2:
        return None
    from scipy import stats

    difference = sum(first) / len(first) - sum(second) / len(second)
    if len(set(first)) == 1 and len(set(second)) == 1:
        return Welch(difference, None, None, None)
    found = stats.ttest_ind(first, second, equal_var=False)
    return Welch(difference, float(found.statistic), float(found.df), float(found.pvalue))


@dataclass(frozen=True)
class RankCorrelation:
    """How well one score orders what another one orders.

    Args:
        count: Pairs.
        kendall: Kendall's tau-b in [-1, 1]. It and the next three are None if one of the scores does not vary.
        kendall_p: Two-sided p-value of `kendall`.
        spearman: Spearman's rho in [-1, 1].
        spearman_p: Two-sided p-value of `spearman`.
    """

    count: int
    kendall: float | None
    kendall_p: float | None
    spearman: float | None
    spearman_p: float | None


def rank_correlation(predicted: Sequence[float], actual: Sequence[float]) -> RankCorrelation | None:
    """Kendall's and Spearman's rank correlation of paired scores; None with fewer than three pairs."""
    if len(predicted) != len(actual):
        raise ValueError(f"{len(predicted)} predictions and {len(actual)} scores are not pairs; give one for each")
    if len(predicted) < 3:
        return None
    if min(len(set(predicted)), len(set(actual))) == 1:
        return RankCorrelation(len(predicted), None, None, None, None)
    from scipy import stats

    kendall, spearman = stats.kendalltau(predicted, actual), stats.spearmanr(predicted, actual)
    return RankCorrelation(
        len(predicted),
        float(kendall.statistic),
        float(kendall.pvalue),
        float(spearman.statistic),
        float(spearman.pvalue),
    )


def plot_rank_correlation(
    pairs: Mapping[str, tuple[Sequence[float], Sequence[float]]], labels: tuple[str, str], path: str | Path
) -> None:
    """Predicted against actual scores as a PNG, a panel for each predictor, with its correlations.

    Args:
        pairs: Predictor -> (predicted, actual).
        labels: Names of both axes.
        path: Where to write.
    """
    columns = min(len(pairs), 6)
    rows = -(-len(pairs) // columns)
    figure = matplotlib.figure.Figure(figsize=(2.8 * columns, 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat[len(pairs) :]:
        axes.set_visible(False)
    for axes, (name, (predicted, actual)) in zip(panels.flat, pairs.items(), strict=False):
        axes.plot(predicted, actual, "o", ms=4)
        found = rank_correlation(predicted, actual)
        if found is not None and found.kendall is not None:
            name += f"\ntau {found.kendall:.2f}, rho {found.spearman:.2f}, n {found.count}"
        axes.set_title(name, fontsize="small")
        axes.set_xlabel(labels[0])
    for axes in panels[:, 0]:
        axes.set_ylabel(labels[1])
    figure.savefig(path, dpi=150)


def to_dict(found: Welch | RankCorrelation | None) -> dict | None:
    """The fields as plain JSON types; None stays None."""
    return None if found is None else asdict(found)
