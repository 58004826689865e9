"""What a search has found, by whatever method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..search.gradient.arch_front import ArchFront
from ..search.gradient.front import FrontPoint
from ..space import Architecture


@dataclass(frozen=True)
class Found:
    """One net.

    Args:
        arch: The architecture.
        cost: What the search cost, in plain-model steps.
        results: More for `results.json`.
        proposed: What the search proposes as finalists, its choice first.
        teacher: What the teacher took, if there was one.
    """

    arch: Architecture
    cost: float
    results: dict
    proposed: Sequence[Architecture] = ()
    teacher: dict | None = None


@dataclass(frozen=True)
class FoundFront:
    """A front.

    Args:
        front: Its architecture parameters.
        points: Its points.
        hand_cuts: Nets with equal layers at its budgets: (architecture, cost, inherited loss).
        worst: The loss that the smallest net inherits, or the cheapest one where choices are operations.
        cost: What the search cost, in plain-model steps.
        proposed: What the search proposes as finalists for each point, its choice first.
        inherited: An architecture -> the loss that it inherits.
        results: More for `results.json`.
        columns: More columns of the front's table, for each point.
        teacher: What the teacher took, if there was one.
    """

    front: ArchFront
    points: list[FrontPoint]
    hand_cuts: list[tuple[Architecture, float, float]]
    worst: float
    cost: float
    proposed: Sequence[Sequence[Architecture]]
    inherited: Callable[[Architecture], float]
    results: dict = field(default_factory=dict)
    columns: Sequence[dict[str, str | float]] = ()
    teacher: dict | None = None
