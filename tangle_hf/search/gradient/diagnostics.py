"""What a search would give now, and whether it has decided: costs, gap, rows near uniform, how long nothing has changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile

from transformers import PreTrainedModel

from ...arch_parameters import ArchParameters, Mixture
from ...samplers import Sampler, sampler
from ...space import Architecture, SearchSpace
from ..choice import costs, most_likely
from ..settings import SearchArguments
from .arch_front import ArchFront


WINDOW = 5  # evaluations over which stability is reported


@dataclass(frozen=True)
class Found:
    """What a search would give now for one anchor's budgets.

    Args:
        limit: The anchor's limit of the front's cost, None without a front.
        arch: The best architecture.
        numbers: Entropy, costs and, where they were taken, scores and the discretisation gap.
        details: Architecture, shares and entropies of every row, for `metrics.jsonl`.
        undecided: Dimension -> numbers of its rows that are near uniform.
    """

    limit: float | None
    arch: Architecture
    numbers: dict[str, float]
    details: dict
    undecided: dict[str, list[int]]

    @property
    def label(self) -> str:
        """The end of the names of its numbers: the limit, or nothing without a front."""
        return "" if self.limit is None else f"@{self.limit}"


def describe(
    supernet: PreTrainedModel,
    front: ArchFront,
    settings: SearchArguments,
    evaluate: Callable[[Architecture], float | Mapping[str, float]] | None = None,
    evaluate_mixture: Callable[[Mixture], float] | None = None,
) -> list[Found]:
    """What the search would give now, for each anchor.

    The discretisation gap is the loss under the expected shares minus that of the discretised net, with the same weights on
    the same data: how much of what was trained is not in the net that is taken.

    Args:
        supernet: With its current weights.
        front: The architecture parameters.
        settings: Settings.
        evaluate: Loss of an architecture with the current weights, or several scores with "loss" among them; None: no scores.
        evaluate_mixture: Loss under a mixture, on the data of `evaluate`; None: no discretisation gap.
    """
    method, found = sampler(settings.sampler), []
    for limit in front.limits:
        arch_parameters, budgets = front.at(limit), front.budgets_at(limit)
        shares, numbers = arch_parameters.probabilities(method), {}
        best = most_likely(supernet, shares, budgets, settings.standard_only)
        if evaluate is not None:
            scores = evaluate(best)
            scores = scores if isinstance(scores, Mapping) else {"loss": scores}
            numbers |= {f"validation_{name}": score for name, score in scores.items()}
            if evaluate_mixture is not None:
                numbers["discretisation_gap"] = evaluate_mixture(shares) - scores["loss"]
        numbers |= costs(shares, best, budgets) | {"entropy": arch_parameters.entropy(method)}
        shown = None if limit is None else budgets[-1].in_units(limit)
        details = {} if limit is None else {"limit": shown}
        details |= {"arch": best.to_dict(), "shares": {name: rows.tolist() for name, rows in shares.items()}}
        details["entropies"] = {name: rows.tolist() for name, rows in arch_parameters.entropies(method).items()}
        near = undecided_rows(arch_parameters, method, best, settings.undecided_entropy)
        found.append(Found(shown, best, numbers, details, near))
    return found


class Stability:
    """For how long one architecture has been the best, as a checkpoint holds it.

    `found` are the architectures of the evaluations since architecture steps began, as JSON.
    """

    def __init__(self):
        self.found: list[str] = []
        self.best: str | None = None
        self.changed = self.evaluated = 0
        self.decided = False

    def see(self, step: int, arch: Architecture, decided: bool, evaluated: bool) -> dict[str, float]:
        """Takes the best architecture after a step, and gives the numbers for `metrics.jsonl`.

        Args:
            step: Steps so far.
            arch: The best architecture.
            decided: Whether none of its rows is near uniform.
            evaluated: Whether this step counts as an evaluation.

        Returns:
            Steps since the last change, and the share of the last evaluations that found this architecture, in [0, 1].
        """
        if arch.to_json() != self.best:
            self.best, self.changed = arch.to_json(), step
        if evaluated:
            self.found.append(self.best)
            self.evaluated, self.decided = step, decided
        last = self.found[-WINDOW:]
        share = {"arch_stability": last.count(self.best) / len(last)} if last else {}
        return {"arch_unchanged_steps": step - self.changed, **share}

    def settled(self, step: int, enough: int) -> bool:
        """Whether the evaluation after this step was the last of `enough` equal ones, with every row decided."""
        same = sum(1 for _ in takewhile(lambda arch: arch == self.found[-1], reversed(self.found)))
        return self.evaluated == step and self.decided and same >= enough

    def state_dict(self) -> dict:
        return dict(vars(self))

    def load_state_dict(self, state: dict) -> None:
        vars(self).update(state)


def undecided_rows(
    arch_parameters: ArchParameters, method: Sampler, arch: Architecture, threshold: float
) -> dict[str, list[int]]:
    """The rows that are near uniform: dimension -> their numbers. Rows of layers that the architecture lacks do not count.

    Args:
        arch_parameters: The logits.
        method: Turns them into shares.
        arch: What was found.
        threshold: Entropy relative to uniform above which a row is undecided, in (0, 1].
    """
    near = {}
    for name, entropies in arch_parameters.entropies(method).items():
        values = arch.values(name)  # None or missing where a layer does not exist
        rows = [row for row, taken in enumerate(values) if taken is not None and entropies[row] > threshold]
        near |= {name: rows} if rows else {}
    return near


def tracked_curves(found: Found, space: SearchSpace) -> dict[str, float]:
    """The curves that trackers get beside the numbers: the entropy of each row, from 1, and the mean share of each choice."""
    curves = {
        f"entropy/{name}/{row}{found.label}": entropy
        for name, rows in found.details["entropies"].items()
        for row, entropy in enumerate(rows, 1)
    }
    for name, rows in found.details["shares"].items():
        for value, shares in zip(space.choices[name], zip(*rows, strict=True), strict=True):
            curves[f"share/{name}/{value}{found.label}"] = sum(shares) / len(shares)
    return curves


def undecided_message(
    found: Sequence[Found], settings: SearchArguments, space: SearchSpace, layer_ranks: Sequence[int] | None = None
) -> str | None:
    """What a search has left open, and what to change; None if nothing.

    Args:
        found: What it has found.
        settings: Its settings.
        space: What was searched.
        layer_ranks: The supernet's; layers are named by their position.
    """
    parts = []
    for one in found:
        names = [
            f"{name}{_of_rows(getattr(one.arch, name), rows, kind_of_row(space, name), layer_ranks)}"
            for name, rows in one.undecided.items()
        ]
        if names:
            parts.append(", ".join(names) + ("" if one.limit is None else f" at {settings.pareto} <= {one.limit:,}"))
    if not parts:
        return None
    return (
        f"the search has not decided {'; '.join(parts)}; more --max_steps or a larger --arch_learning_rate "
        f"({settings.resolved_arch_learning_rate:.3g} here) may, unless the loss does not depend on it"
    )


def kind_of_row(space: SearchSpace, name: str) -> str:
    """What the rows of a dimension are: "edge" of a cell, whose choices are operations, "stage" of depths, else "layer"."""
    if isinstance(space.choices[name][0], str):
        return "edge"
    return "stage" if name == space.depth_name else "layer"


def _of_rows(value: object, rows: Sequence[int], kind: str, ranks: Sequence[int] | None) -> str:
    """\" of layers 1, 3" for rows 0 and 2 of a value per layer; nothing for a value of the whole net."""
    if not isinstance(value, tuple):
        return ""
    positions = rows if ranks is None else sorted(ranks.index(row) for row in rows)
    return f" of {kind}{'s' * (len(rows) > 1)} {', '.join(str(position + 1) for position in positions)}"
