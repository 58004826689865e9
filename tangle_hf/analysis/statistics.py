"""Does one score predict another: rank correlations. Needs scipy."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import check_extra
from .pictures import COLORS, WIDTH, picture


check_extra("compare", "scipy")


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
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    with picture(path, (WIDTH, 2.6 * rows if columns > 1 else 4), rows, columns) as panels:
        for axes in panels.flat[len(pairs) :]:
            axes.remove()
        for axes, (name, (predicted, actual)) in zip(panels.flat, pairs.items(), strict=False):
            axes.plot(predicted, actual, "o", ms=4, color=COLORS[0])
            found = rank_correlation(predicted, actual)
            if found is not None and found.kendall is not None:
                name += f"\ntau {found.kendall:.2f}, rho {found.spearman:.2f}, n {found.count}"
            axes.set_title(name, fontsize=8)
            axes.set_xlabel(labels[0])
        for axes in panels[:, 0]:
            axes.set_ylabel(labels[1])


def to_dict(found: RankCorrelation | None) -> dict | None:
    """The fields as plain JSON types; None stays None."""
    return None if found is None else asdict(found)
