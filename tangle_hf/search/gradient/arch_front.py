"""Architecture parameters for a whole range of budgets, so that one search gives a front and not one net.

A few budgets, the anchors, have logits of their own on their own budget surface. Between two anchors logits are interpolated
and brought to the surface of the budget in between. Each step of the search draws one budget. This conditions the
architecture on the trade-off as MODNAS does (arXiv:2402.18213, section 3), with a piecewise linear function in place of its
hypernetwork, and with budgets that hold in place of weights of the cost in the loss.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ...arch_parameters import ArchParameters, read_logits
from ...budgets.limits import Budget
from ...samplers import Sampler
from ...space import SearchSpace
from ..settings import SearchArguments
from .budget_surface import Surface, project_gradient, return_to_surface, start_on_surface


class ArchFront(nn.Module):
    """Architecture parameters as a function of the limit of one budget::

        logits(limit) = to_surface(limit, (1 - t) logits_k + t logits_(k+1)),  t = (limit - limit_k) / (limit_(k+1) - limit_k)

    beyond the outer anchors with the logits of the nearest one. A search for a single net is the front with one anchor.

    Args:
        space: The search space.
        method: Turns logits into shares.
        budgets: Of each anchor, `Limits.anchors`: with several anchors the last budget is that of the front's cost.
        settings: For the seed, the mode of the budgets, and which parts hold them.
    """

    def __init__(
        self, space: SearchSpace, method: Sampler, budgets: Sequence[tuple[Budget, ...]], settings: SearchArguments
    ):
        super().__init__()
        self.space, self.method, self.budgets = space, method, tuple(budgets)
        self.parts, self.at_most = frozenset(settings.budget_parts), settings.budget_mode == "at_most"
        self.anchors = nn.ModuleList(ArchParameters(space, seed=settings.seed) for _ in budgets)
        if "start" in self.parts:
            for anchor, limit in zip(self.anchors, self.limits, strict=True):
                _assign(anchor.logits, start_on_surface(self._surface(limit), anchor.logits))

    @property
    def limits(self) -> tuple[int | None, ...]:
        """The anchors' limits of the front's cost, ascending; (None,) where there is no front."""
        return tuple(budgets[-1].limit for budgets in self.budgets) if len(self.budgets) > 1 else (None,)

    def budgets_at(self, limit: int | None) -> tuple[Budget, ...]:
        """All budgets that hold at a limit of the front's cost."""
        if limit is None:
            return self.budgets[0]
        *others, own = self.budgets[0]
        return (*others, replace(own, limit=limit))

    def at(self, limit: int | None) -> ArchParameters:
        """The architecture parameters of one limit: the anchor itself where there is no front, else a copy."""
        if limit is None:
            return self.anchors[0]
        point, near = ArchParameters(self.space), self._neighbours(limit)
        mixed = {name: sum(w * self.anchors[k].logits[name].detach() for k, w in near) for name in point.logits}
        if "return" in self.parts:
            mixed = return_to_surface(self._surface(limit), mixed)
        _assign(point.logits, mixed)
        return point

    def draw(self, generator: torch.Generator) -> int | None:
        """A limit between the outer anchors, uniformly; without a front nothing is drawn."""
        if len(self.anchors) == 1:
            return None
        return int(torch.randint(self.limits[0], self.limits[-1] + 1, (), generator=generator))

    def collect(self, limit: int | None, point: ArchParameters) -> None:
        """Hands the loss gradient of `at(limit)` to the anchors, without what would leave their budgets.

        The logits of a limit are p = to_surface(m) with m = sum_k w_k logits_k. On the surface, moving to it changes nothing
        but the component along its normal n, so that its derivative is the projection P = I - n n^T / |n|^2, and::

            dL/dlogits_k = P_k (w_k P dL/dp)        P_k: projection onto the surface of the anchor's own budget
        """
        if limit is None and not self._surface(limit).budgets:
            return
        logits = point.logits
        gradients = {n: torch.zeros_like(rows) if rows.grad is None else rows.grad for n, rows in logits.items()}
        if "project" in self.parts:
            gradients = project_gradient(self._surface(limit), logits, gradients)
        if limit is None:
            return _set_gradients(logits, gradients)
        for k, weight in self._neighbours(limit):
            own = {name: weight * gradient for name, gradient in gradients.items()}
            if "project" in self.parts:  # the surfaces of two budgets are not parallel
                own = project_gradient(self._surface(self.limits[k]), self.anchors[k].logits, own)
            _set_gradients(self.anchors[k].logits, own)

    def hold(self, limit: int | None) -> None:
        """After a step: the anchors that it moved return to their budgets."""
        if "return" not in self.parts:
            return
        for k, _ in self._neighbours(limit):
            logits = self.anchors[k].logits
            _assign(logits, return_to_surface(self._surface(self.limits[k]), logits))

    def save(self, path: str | Path, metadata: Mapping[str, str] | None = None) -> None:
        """Writes all logits as safetensors, with the metadata in the header."""
        save_file({name: rows.detach().cpu().contiguous() for name, rows in self.state_dict().items()}, path, metadata)

    def load(self, path: str | Path) -> None:
        """Reads logits written by `save`.

        Raises:
            ValueError: There is no such file, it holds something else or numbers that are not finite, or it belongs to another
                space or to another number of anchors.
        """
        stored = read_logits(path)
        expected, found = ({n: tuple(r.shape) for n, r in rows.items()} for rows in (self.state_dict(), stored))
        if expected != found:
            raise ValueError(
                f"{path} holds logits {found}, this front needs {expected}; use the settings of that search"
            )
        self.load_state_dict(stored)

    def _surface(self, limit: int | None) -> Surface:
        return Surface(self.method, self.budgets_at(limit), self.at_most)

    def _neighbours(self, limit: int | None) -> list[tuple[int, float]]:
        """The anchors that a limit depends on, with their weights, which sum to one."""
        limits = self.limits
        if limit is None or limit <= limits[0]:
            return [(0, 1.0)]
        if limit >= limits[-1]:
            return [(len(limits) - 1, 1.0)]
        k = bisect_right(limits, limit) - 1
        t = (limit - limits[k]) / (limits[k + 1] - limits[k])
        return [(k, 1 - t), (k + 1, t)] if t else [(k, 1.0)]


@torch.no_grad()
def _assign(logits: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, rows in values.items():
        logits[name].copy_(rows)


def _set_gradients(logits: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> None:
    for name, gradient in gradients.items():
        logits[name].grad = gradient
