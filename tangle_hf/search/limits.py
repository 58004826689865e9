"""What a search keeps to, made once at its start: budgets, the anchors of a front, stock forms only."""

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from transformers import PreTrainedModel

from ..arch_parameters import ArchParameters, uniform_mixture
from ..budgets.discretisation import discretise
from ..budgets.limits import Budget, make_budgets, parse_amount
from ..cost.kinds import LIMITS
from ..cost.latency_tables import LatencyTable, check_latency_table, load_latency_table
from ..cost.tables import of_smallest
from ..cost.timing import conditions
from ..samplers import sampler
from .gradient.budget_surface import Surface, start_on_surface
from .settings import SearchArguments


ANCHORS = (0.1, 0.5, 0.9)  # where a front has logits unless told otherwise, between the smallest and the largest net


@dataclass(frozen=True)
class Limits:
    """What a search keeps to, with the tables of cost that this takes. `Limits.of` makes them from settings.

    Args:
        budgets: What every net keeps to.
        anchors: The sets of budgets for which a search has logits of their own: `budgets` alone, or of a front one set per
            anchor, each with the budget of the front's cost as its last; those limits ascend.
        standard_only: Whether only architectures may be found that have the stock form.
        sequence_length: Tokens of an example of text, for FLOPs; None of images.
        latency_table: Measured times; None where latency is neither limited nor noted.
    """

    budgets: tuple[Budget, ...] = ()
    anchors: tuple[tuple[Budget, ...], ...] = ((),)
    standard_only: bool = False
    sequence_length: int | None = None
    latency_table: LatencyTable | None = None

    @classmethod
    def of(cls, settings: SearchArguments, supernet: PreTrainedModel, sequence_length: int | None = None) -> "Limits":
        """The limits that settings put on the nets of a supernet.

        Args:
            settings: `max_params` and the other budgets, `pareto` and its anchors, `standard_only`, `latency_table`.
            supernet: What is searched.
            sequence_length: Tokens of an example of text.

        Raises:
            ValueError: A budget cannot be read, FLOPs of text have no length, a latency has no table, or the anchors of the
                front do not ascend.
        """
        path = settings.latency_table
        table = None if path is None else load_latency_table(path)
        given = {"latency_table": table, "sequence_length": sequence_length}
        amounts = {name: getattr(settings, name) for name in LIMITS}
        budgets = make_budgets(supernet.config, **amounts, **given)
        anchors = (budgets,)
        if settings.pareto is not None:
            (whole,) = make_budgets(supernet.config, **{f"max_{settings.pareto}": "100%"}, **given)
            anchors = tuple((*budgets, replace(whole, limit=limit)) for limit in _anchor_limits(whole, settings))
        return cls(budgets, anchors, settings.standard_only, sequence_length, table)

    @property
    def any(self) -> bool:
        """Whether there is anything to keep to."""
        return self.standard_only or any(self.anchors)

    def at(self, limit: int) -> "Limits":
        """What a net of one point of a front keeps to.

        Args:
            limit: The limit of the front's cost at that point, as its table counts.
        """
        *others, own = self.anchors[0]
        budgets = (*others, replace(own, limit=limit))
        return replace(self, budgets=budgets, anchors=(budgets,))

    def check(self, settings: SearchArguments, supernet: PreTrainedModel) -> None:
        """Refuses, before anything is trained or written, what a search cannot keep to.

        Raises:
            ValueError: No architecture keeps to all limits (names the smallest possible cost), or the sampler cannot come
                as close to the smallest or largest architecture as they ask.
        """
        if not self.any:
            return
        space = supernet.space
        for budgets in self.anchors:
            discretise(supernet, uniform_mixture(space), budgets, standard_only=self.standard_only)
            if not settings.resolved_method.two_stage:
                surface = Surface(sampler(settings.sampler), budgets)
                start_on_surface(surface, ArchParameters(space, settings.seed).logits)


def _anchor_limits(whole: Budget, settings: SearchArguments) -> list[int]:
    """The limits of a front's cost at its anchors, ascending, as the cost's table counts; `whole` allows every net."""
    smallest, largest = of_smallest(whole.table), whole.limit
    if settings.pareto_anchors is None:
        limits = [round(smallest + share * (largest - smallest)) for share in ANCHORS]
    else:
        limits = [parse_amount(amount, largest, whole.unit) for amount in settings.pareto_anchors]
    if any(low >= high for low, high in pairwise(limits)):
        raise ValueError(
            f"the anchors of the front must ascend, but are {[whole.text(n) for n in limits]}; order --pareto_anchors"
        )
    return limits


def check_latency(
    table: LatencyTable | None,
    settings: SearchArguments,
    supernet: PreTrainedModel,
    sequence_length: int | None,
    device: torch.device,
) -> list[str]:
    """What differs between the conditions of a latency table and those of a search, as far as it may.

    Args:
        table: Measured times; None differs in nothing.
        settings: `latency_batch_size`, and whether a table of other conditions is allowed.
        supernet: What is searched.
        sequence_length: Tokens of an example of text.
        device: Where the search runs, and its nets will.

    Raises:
        ValueError: The table is of another space, or of other conditions and those are not allowed.
    """
    if table is None:
        return []
    here = conditions(supernet, batch_size=settings.latency_batch_size, sequence_length=sequence_length, device=device)
    return check_latency_table(table, supernet.space, here, allow_other=settings.allow_other_latency_table)
