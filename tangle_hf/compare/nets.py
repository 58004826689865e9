"""Nets of a comparison, and what is known of them so far."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from ..analysis.differences import by_net
from ..budgets.equal_cost import EqualCost
from ..data.examples import Examples
from ..space import Architecture
from .rows import Row, read_row
from .runs import Run, supernet_of
from .settings import CompareArguments
from .standings import Standings


@dataclass(frozen=True)
class Net:
    """One of the nets that are compared.

    Args:
        method: The method that it is a repetition of.
        name: Its own name.
        arch: Its architecture.
        run: Name of the run that found it.
        baseline: Whether it is a baseline and not found by a run.
    """

    method: str
    name: str
    arch: Architecture
    run: str | None = None
    baseline: bool = False

    def rows(self, mode: str, horizon: float | None = None, seeds: Sequence[int] = ()) -> list[Row]:
        """Its rows of a mode; only what a run found has weights to inherit."""
        if mode == "retrain":
            return [Row(mode, self.arch, None, horizon, seed) for seed in seeds]
        if self.run is None:
            return []
        if mode == "inherit":
            return [Row(mode, self.arch, self.run)]
        return [Row(mode, self.arch, self.run, horizon, seed) for seed in seeds]


@dataclass(frozen=True)
class Comparison:
    """What is reported on.

    Args:
        nets: All nets.
        runs: Runs whose supernets they are scored in.
        settings: Settings of the comparison.
        data: The data that all nets share.
        cost: What equal cost means; None if there is no budget.
        folder: Folder of the comparison.
        search_costs: Method -> plain-model steps of a search; of all four with the paper's protocol. None if unknown.
        standings: A table of trained nets; None if there is none.
    """

    nets: Sequence[Net]
    runs: Sequence[Run]
    settings: CompareArguments
    data: Examples
    cost: EqualCost | None
    folder: Path
    search_costs: Mapping[str, float | None]
    standings: Standings | None = None

    @property
    def supernet(self) -> PreTrainedModel:
        """The supernet of the first run, which knows the space and its costs."""
        return supernet_of(self.runs[0].folder)

    @property
    def columns(self) -> list[tuple[str, float | None]]:
        """(mode, horizon) of everything that is scored."""
        trained = [(mode, h) for mode in ("retrain", "finetune") for h in self.settings.horizons]
        return [(m, h) for m, h in [*trained, ("inherit", None)] if m in self.settings.modes]

    @property
    def metric(self) -> str:
        """The score that is compared: accuracy, or of text the loss, whose differences are those of log-likelihoods."""
        return "accuracy" if self.data.metric == "accuracy" else "loss"

    def by_seed(
        self, net: Net, mode: str, horizon: float | None, split: str, metric: str | None = None
    ) -> dict[int | None, float]:
        """Seed -> score of a net's finished rows, accuracies in percent; what is inherited has no seed."""
        metric = metric or self.metric
        seeds = self.settings.baseline_seeds if net.baseline else self.settings.seeds
        stored = ((row.seed, read_row(self.folder, row)) for row in net.rows(mode, horizon, seeds))
        return {s: (100 if metric == "accuracy" else 1) * row[split][metric] for s, row in stored if row is not None}

    def scores(self, net: Net, mode: str, horizon: float | None, split: str, metric: str | None = None) -> list[float]:
        """The same as a list."""
        return list(self.by_seed(net, mode, horizon, split, metric).values())

    def found(
        self, nets: Sequence[Net], mode: str, horizon: float | None
    ) -> list[tuple[Architecture, dict[int | None, float]]]:
        """What tests are made of: the architecture and test scores of each of some nets that has any."""
        scored = ((net.arch, self.by_seed(net, mode, horizon, "test")) for net in nets)
        return [(arch, scores) for arch, scores in scored if scores]

    def sample(self, nets: Sequence[Net], mode: str, horizon: float | None) -> tuple[list[float], str]:
        """What a method's mean and interval are of, and what these are: different nets, each the mean of its scores.

        Of one net its seeds; where several searches found it, and each has weights of its own, the searches.
        """
        found = self.found(nets, mode, horizon)
        different = by_net(found)
        if len(different) > 1:
            return [statistics.fmean(scores.values()) for scores in different.values()], "nets"
        if mode == "inherit" or (mode == "finetune" and len(found) > 1):
            return [statistics.fmean(scores.values()) for _, scores in found], "searches"
        return [score for scores in different.values() for score in scores.values()], "seeds"

    @property
    def methods(self) -> dict[str, list[Net]]:
        """Method -> its nets, in order of appearance."""
        found: dict[str, list[Net]] = {}
        for net in self.nets:
            found.setdefault(net.method, []).append(net)
        return found

    def inherited(self, run: Run, arch: Architecture) -> float | None:
        """Validation loss of an architecture in the supernet of a run, None if it is not measured yet."""
        row = read_row(self.folder, Row("rank", arch, run.name))
        return None if row is None else row["validation"]["loss"]

    def equal_cost(self, net: Net) -> bool | None:
        """Whether a net has the cost of the budget, None if there is no budget."""
        return self.cost.of(net.arch) if self.cost else None


def different(nets: Sequence[Net]) -> list[Net]:
    """One net of each architecture."""
    found: dict[Architecture, Net] = {}
    for net in nets:
        found.setdefault(net.arch, net)
    return list(found.values())


def column(mode: str, horizon: float | None) -> str:
    """The name of a column of scores."""
    return mode if horizon is None else f"{mode} x{horizon:g}"
