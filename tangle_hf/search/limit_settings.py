"""Settings of budgets and fronts, with the help texts that recipes show."""

from dataclasses import dataclass, field

from ..budgets.limits import parse_amount
from ..cost.kinds import COSTS, LIMITS


BUDGET_MODES = ("equal", "at_most")
BUDGET_PARTS = ("start", "project", "return")


@dataclass
class LimitArguments:
    """What a search keeps to: budgets, a front over one of their costs, and whether the net must be a stock class.

    Raises:
        ValueError: A value is out of its range, or would have no effect; the message says which values are allowed.
    """

    max_params: str | None = field(
        default=None,
        metadata={
            "group": "budgets",
            "main": True,
            "help": "most parameters of the net: a number, 20M, or 50%% of the largest",
        },
    )
    max_params_without_embeddings: str | None = field(
        default=None, metadata={"help": "most parameters without the embedding tables, written like max_params"}
    )
    max_flops: str | None = field(
        default=None,
        metadata={"help": "most FLOPs of a forward pass over one example (a whole block of text): 1.5G, or 50%%"},
    )
    max_latency_ms: str | None = field(
        default=None,
        metadata={
            "help": "most milliseconds of a forward pass over latency_batch_size examples, predicted from times measured on "
            "this device: 12, or 60%% of the largest"
        },
    )
    latency_batch_size: int = field(default=1, metadata={"help": "examples in a forward pass that is timed"})
    latency_table: str | None = field(
        default=None,
        metadata={"help": "file of measured times, latency_table.json of another run; default: measured at the start"},
    )
    allow_other_latency_table: bool = field(
        default=False,
        metadata={
            "help": "take latency_table even if it was measured with another device, type, batch, number of threads or space"
        },
    )
    standard_only: bool = field(
        default=False, metadata={"help": "find a net that is a stock transformers class: its layers are equal"}
    )
    budget_mode: str = field(
        default="equal",
        metadata={"help": "equal: the expected cost stays on the budget; at_most: the budget is a ceiling only"},
    )
    budget_parts: list[str] = field(
        default_factory=lambda: list(BUDGET_PARTS),
        metadata={
            "help": "what keeps the search on its budget; an ablation may leave parts out: start (begin on it), project "
            "(the loss gradient along it), return (to it after each step)"
        },
    )
    budget_candidates: int = field(
        default=5,
        metadata={
            "help": "how many of the most likely nets within the limits are compared by inherited loss; the best one is taken"
        },
    )
    pareto: str | None = field(
        default=None,
        metadata={
            "group": "fronts",
            "help": f"search the whole front of loss against a cost instead of one net: {', '.join(COSTS)}",
        },
    )
    pareto_anchors: list[str] | None = field(
        default=None,
        metadata={
            "help": "ascending budgets of that cost that have logits of their own; in between, logits are interpolated. "
            "Default: 10, 50 and 90%% of the way from the smallest to the largest net"
        },
    )
    pareto_points: int = field(
        default=9, metadata={"help": "budgets at which the front is read off, evenly between the outer anchors"}
    )

    def __post_init__(self):
        for name in ("budget_candidates", "latency_batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in self.given_limits():
            try:
                parse_amount(getattr(self, name), largest=10**12, unit=COSTS[LIMITS[name]].unit)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if self.budget_mode not in BUDGET_MODES:
            raise ValueError(f"budget_mode={self.budget_mode!r} is unknown; choose one of {BUDGET_MODES}")
        if unknown := set(self.budget_parts) - set(BUDGET_PARTS):
            raise ValueError(f"budget_parts={sorted(unknown)} are unknown; choose from {BUDGET_PARTS}")
        if self.latency_batch_size != 1 and not self.asks_for_latency:
            raise ValueError(
                f"latency_batch_size={self.latency_batch_size} would have no effect: no latency is measured; give "
                "max_latency_ms, too"
            )
        if self.allow_other_latency_table and not self.asks_for_latency:
            raise ValueError("allow_other_latency_table would have no effect: give the latency_table, too")
        self._check_pareto()

    def _check_pareto(self) -> None:
        if self.pareto is None:
            if self.pareto_anchors is not None:
                raise ValueError("pareto_anchors would have no effect: give the cost of the front with pareto, too")
            return
        if self.pareto not in COSTS:
            raise ValueError(f"pareto={self.pareto!r} is not a cost; choose one of {list(COSTS)}")
        if getattr(self, f"max_{self.pareto}") is not None:
            raise ValueError(
                f"pareto={self.pareto} and max_{self.pareto} limit the same cost; say with pareto_anchors from where to "
                "where the front goes"
            )
        if self.pareto_anchors is not None and len(self.pareto_anchors) < 2:
            raise ValueError(f"pareto_anchors={self.pareto_anchors} must be at least two budgets; one needs no front")
        if self.pareto_points < 2:
            raise ValueError(f"pareto_points={self.pareto_points} must be at least 2")
        for amount in self.pareto_anchors or ():
            try:
                parse_amount(amount, largest=10**12, unit=COSTS[self.pareto].unit)
            except ValueError as error:
                raise ValueError(f"pareto_anchors: {error}") from None

    def given_limits(self) -> list[str]:
        """The budgets that are set, by name."""
        return [name for name in LIMITS if getattr(self, name) is not None]

    @property
    def limits_latency(self) -> bool:
        """Whether a budget or a front is of latency."""
        return self.max_latency_ms is not None or self.pareto == "latency_ms"

    @property
    def asks_for_latency(self) -> bool:
        """Whether latency is limited, or at least noted of each candidate."""
        return self.limits_latency or self.latency_table is not None
