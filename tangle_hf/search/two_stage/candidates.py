"""Candidates evaluated side by side on all processes, each once: what is known is in `candidates.jsonl`."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import moocore
import numpy as np
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object

from ...space import Architecture
from ..loop import append_record, keep_records
from ..search_cost import SearchCost


class CandidateLog:
    """The evaluated candidates of a search and the file that holds them, a whole line for each.

    A line has the candidate's number and generation, its architecture, its scores ("loss" among them), its costs, and the
    search cost so far in plain-model steps, training included. A search that starts again with the same file evaluates
    nothing twice.

    Args:
        path: `candidates.jsonl`.
        accelerator: Says which candidates are this process's.
        evaluate: Architecture -> its scores with the trained weights.
        examples: How many examples that takes.
        cost: What was spent so far.
        costs: Name -> cost of an architecture, noted for each candidate.
        resume: Whether what the file holds is known; else it starts empty.
    """

    def __init__(
        self,
        path: Path,
        accelerator: Accelerator,
        evaluate: Callable[[Architecture], Mapping[str, float]],
        examples: int,
        cost: SearchCost,
        costs: Mapping[str, Callable[[Architecture], int | float]],
        resume: bool = False,
    ):
        self.path, self.accelerator, self._evaluate = path, accelerator, evaluate
        self._examples, self._costs, self.cost = examples, costs, cost
        stored = [keep_records(path, lambda record: resume) if accelerator.is_main_process else None]
        self.records: dict[Architecture, dict] = {}
        for record in broadcast_object_list(stored)[0]:
            self.records[Architecture(record["arch"])] = record
            cost.spent = record["search_cost"]

    def evaluate(
        self, archs: Sequence[Architecture], generation: int, after: Callable[[dict], None] = lambda record: None
    ) -> list[float] | None:
        """The losses of candidates, evaluated where they are not known.

        Args:
            archs: The candidates.
            generation: What to note as their generation.
            after: Called with each new record.

        Returns:
            A loss for each; None if the search was asked to stop, with all candidates known that had been evaluated.

        Raises:
            FloatingPointError: A loss is not finite.
        """
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        unknown = [arch for arch in dict.fromkeys(archs) if arch not in self.records]
        for first in range(0, len(unknown), world):
            together = unknown[first : first + world]
            scores = gather_object([dict(self._evaluate(arch)) for arch in together[rank : rank + 1]])
            for arch, found in zip(together, scores, strict=True):
                after(self._add(arch, found, generation))
            if self.accelerator.check_trigger():
                return None
        return [self.records[arch]["loss"] for arch in archs]

    def best(self) -> list[dict]:
        """All records, the smallest loss first."""
        return sorted(self.records.values(), key=lambda record: record["loss"])

    def front(self, cost: str) -> list[dict]:
        """The records that no other one beats in loss and cost, the cheapest first."""
        records = sorted(self.records.values(), key=lambda record: (record[cost], record["loss"]))
        best = moocore.is_nondominated(np.array([(record[cost], record["loss"]) for record in records], dtype=float))
        return [record for record, first in zip(records, best, strict=True) if first]

    def _add(self, arch: Architecture, scores: Mapping[str, float], generation: int) -> dict:
        if not math.isfinite(scores["loss"]):
            raise FloatingPointError(
                f"the candidate {arch} has loss {scores['loss']}: the supernet's weights are not finite or too large; train "
                "it again with a smaller --learning_rate"
            )
        self.cost.add_evaluation(arch, self._examples)
        record = {"number": len(self.records), "generation": generation, "arch": arch.to_dict(), **scores}
        record |= {name: count(arch) for name, count in self._costs.items()}
        record["search_cost"] = self.cost.spent
        self.records[arch] = record
        if self.accelerator.is_main_process:
            append_record(self.path, record)
        return record
