"""Settings of a search that starts from a checkpoint, with the help texts that recipes show."""

from dataclasses import dataclass, field
from typing import ClassVar

from ..settings import with_default
from .distillation import TeacherArguments


GENTLE = 1e-4  # peak learning rate that leaves a checkpoint what it has learned (`docs/results.md`)


@dataclass
class StartArguments(TeacherArguments):
    """What the weights of a search are at its start, and how fast they leave it.

    Raises:
        ValueError: A value is out of its range, or would have no effect.
    """

    usual_learning_rate: ClassVar[float] = 3e-3  # of new weights

    start_from: str | None = field(
        default=None,
        metadata={
            "help": "folder or Hub name of a checkpoint to start from; the largest choices must be its sizes. Default: new "
            "weights",
        },
    )
    teacher_share: float = with_default(
        TeacherArguments,
        "teacher_share",
        0.0,
        help="share of what the checkpoint of start_from says, as a target beside the labels, in both levels of the search and "
        "in the finalists; 1: no labels (distillation)",
    )
    learning_rate: float | None = field(
        default=None,
        metadata={
            "group": "training of the weights",
            "help": "peak learning rate of the weights (cosine); default: 3e-3 (search_cnn 1e-3), with start_from "
            "1e-4",
        },
    )

    def __post_init__(self):
        super().__post_init__()
        if self.learning_rate is None:
            self.learning_rate = self.usual_learning_rate if self.start_from is None else GENTLE
        if self.teacher_share and self.start_from is None:
            raise ValueError(
                f"teacher_share={self.teacher_share} needs a teacher, the checkpoint that the search starts from; give "
                "start_from or leave it out"
            )
