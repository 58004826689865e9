"""Losses of finalists that are known already: the lines of `finalists.jsonl`, which are the log and the checkpoint."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from ...space import Architecture
from ..loop import append_record, keep_records


Key = tuple[Architecture, int, int]  # which net, trained with which seed, for how many steps


@dataclass
class KnownLosses:
    """Losses by net, seed and steps, infinite where the training diverged, and what they cost.

    Args:
        path: `finalists.jsonl`.
        accelerator: Processes; all know the same.
    """

    path: Path
    accelerator: Accelerator
    losses: dict[Key, float] = field(default_factory=dict)
    cost: float = 0.0

    def read(self, resume: bool) -> None:
        """Takes what the file has; a run that is not resumed starts anew."""
        main = self.accelerator.is_main_process
        for record in broadcast_object_list([keep_records(self.path, lambda record: resume) if main else None])[0]:
            self._note(record)

    def add(self, record: dict) -> None:
        """Takes a result, and leaves it as a line."""
        self._note(record)
        if self.accelerator.is_main_process:
            append_record(self.path, record)

    def _note(self, record: dict) -> None:
        loss = record["loss"]  # none where the training diverged
        self.losses[Architecture(record["arch"]), record["seed"], record["steps"]] = math.inf if loss is None else loss
        self.cost += record["cost"]
