"""Settings of the finalists, with the help texts that recipes show."""

from dataclasses import dataclass, field


STARTS = {  # what finalists are trained from, in words
    "new": "slices of one set of new weights",
    "supernet": "the supernet's weights",
    "checkpoint": "slices of the checkpoint that the search started from",
}
USUAL = 4  # nets that a search with a budget proposes unless told otherwise


@dataclass
class FinalistArguments:
    """A short training at the end of a search, with a budget or of cells, after which the best net is taken.

    Raises:
        ValueError: A value is out of its range; the message says which values are allowed.
    """

    finalists: int | None = field(
        default=None,
        metadata={
            "group": "finalists",
            "help": "nets within the budget that the search proposes for a short training at its end, beside nets with "
            "equal layers; 0 for none, and what the search likes best is taken untried. Default: 4 with a budget, 0 for a "
            "front, of which every point has as many, and for cells without a budget",
        },
    )
    random_finalists: int = field(default=0, metadata={"help": "random nets within the budget beside them"})
    finalist_ratio: float = field(
        default=0.1,
        metadata={"help": "steps of the longest of these trainings, as a share of max_steps; worse nets end earlier"},
    )
    finalist_start: str | None = field(
        default=None,
        metadata={
            "help": "what they are trained from, as slices: new weights, those of the supernet, or of the checkpoint that the "
            "search started from. Default: checkpoint with start_from, else new"
        },
    )
    finalist_seeds: int = field(
        default=2,
        metadata={
            "help": "seeds with which the best two, the search's choice and the best cut by hand are trained; 2 or more show "
            "the noise"
        },
    )
    finalist_batches: int = field(
        default=8, metadata={"help": "validation batches, each as large as that of a step, by which they are compared"}
    )

    def __post_init__(self):
        for name, least in {"finalists": 0, "random_finalists": 0, "finalist_seeds": 1, "finalist_batches": 1}.items():
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        if not 0 < self.finalist_ratio <= 1:
            raise ValueError(
                f"finalist_ratio={self.finalist_ratio} must be above 0 and at most 1: a short training is not longer than "
                "the search"
            )
        if self.finalist_start not in {None, *STARTS}:
            raise ValueError(f"finalist_start={self.finalist_start!r} is unknown; choose one of {list(STARTS)}")
        if self.finalists == 0 and self.random_finalists:
            raise ValueError(f"random_finalists={self.random_finalists} would have no effect: finalists is 0")
