"""Where the nets of a comparison stand among all nets of their space that a table of trained ones has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..data.trained_tables import Table, read_table
from ..models.cells.genotypes import CELLS
from ..models.cells.subnets_cells import architecture_of
from ..space import Architecture, SearchSpace
from .runs import Run
from .settings import CompareArguments


METRICS = ("test_accuracy", "accuracy")  # looked for where none is named


@dataclass(frozen=True)
class Standings:
    """The scores of trained nets, of which more is better.

    Args:
        metric: Their name in the table.
        scores: Architecture -> score, of one space.
        size: Architectures of the space.
    """

    metric: str
    scores: Mapping[Architecture, float]
    size: int

    def of(self, arch: Architecture) -> dict[str, float | None]:
        """Score, regret (the best score in the table minus it) and percentile (how many percent of the table are not better).

        None where the table does not have the architecture.
        """
        score = self.scores.get(arch)
        if score is None:
            return {f"table {self.metric}": None, "regret": None, "percentile": None}
        regret = max(self.scores.values()) - score
        behind = sum(other <= score for other in self.scores.values())
        return {f"table {self.metric}": score, "regret": regret, "percentile": 100 * behind / len(self.scores)}

    @property
    def words(self) -> str:
        """What the table covers, for whoever reads the numbers."""
        whole = len(self.scores) == self.size
        among = "all" if whole else f"{len(self.scores):,} of the"
        return f"regret and percentile in {self.metric} are among {among} {self.size:,} architectures of the space"


def read_standings(settings: CompareArguments, runs: Sequence[Run], space: SearchSpace) -> Standings | None:
    """The table that is given, else that of the first run that was scored by one; None if there is none.

    Raises:
        ValueError: The table cannot be read, has no architecture of the space, or its metric is missing or unclear.
    """
    path = settings.table or _table_of(runs)
    if path is None:
        if settings.table_metric:
            raise ValueError(f"table_metric={settings.table_metric} has no effect without a table; give --table, too")
        return None
    cell = runs[0].settings.get("space")
    table = read_table(path, partial(architecture_of, cell) if cell in CELLS else None)
    own = {arch: metrics for arch, metrics in table.items() if _is_of(space, arch)}
    if not own:
        raise ValueError(f"none of the {len(table)} architectures of {path} is one of the runs' space; give its table")
    metric = _metric(settings.table_metric, own, path)
    return Standings(metric, {arch: metrics[metric] for arch, metrics in own.items()}, space.size)


def _table_of(runs: Sequence[Run]) -> str | None:
    path = next(filter(None, (run.settings.get("table") for run in runs)), None)
    if path is None or Path(path).is_file():
        return path
    print(f"{path}, which scored the searches, is not there: no regrets; say with --table where it is")
    return None


def _metric(asked: str | None, table: Table, path: str) -> str:
    names = sorted(set.intersection(*(set(metrics) for metrics in table.values())))
    if asked and asked.endswith("loss"):
        raise ValueError(f"table_metric={asked}: less of a loss is better; name a metric of which more is, of {names}")
    metric = asked or next((name for name in METRICS if name in names), None)
    if metric not in names:
        given = f"table_metric={metric}" if metric else " and ".join(METRICS)
        raise ValueError(f"not every row of {path} has {given}; name one of {names} with --table_metric")
    return metric


def _is_of(space: SearchSpace, arch: Architecture) -> bool:
    try:
        space.validate(arch)
    except ValueError:
        return False
    return True
