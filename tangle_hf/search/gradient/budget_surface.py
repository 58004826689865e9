"""Budgets in the gradient search: logits stay where the expected cost is the budget, and the loss moves them along it.

A penalty on the cost would go through the same Adam as the loss: while the cost is off its target, the penalty is the larger
gradient and moves all rows alike. Here the logits start on the surface `E[cost] = limit`, the loss gradient loses its
component across it, and after each step the logits return to it exactly, so that Adam sees the loss only. This is
gradient projection (Rosen, 1961, doi:10.1137/0109044) on closed-form expected costs.

With several budgets the surface is that of the one used most, `max_b E[cost_b] / limit_b = 1`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ...budgets.limits import Budget
from ...cost.tables import expected, of_largest
from ...samplers import Sampler


Rows = dict[str, Tensor]

EXACT = 1e-9  # relative distance from the surface that counts as on it, before rounding to the logits' type
ACTIVE = 1e-6  # the same for a budget whose surface the logits were returned to
LONGEST_STEP = 1.0  # of a logit, before the direction across the surface is taken again
MOST_STEPS = 500


@dataclass(frozen=True)
class Surface:
    """Where the expected cost is the budget.

    Args:
        method: Its `mean` turns logits into expected shares.
        budgets: Limits; those that even the largest architecture keeps to are no limits and do not count.
        at_most: True lets the expected cost fall below the budget, which is then a ceiling only.
    """

    method: Sampler
    budgets: tuple[Budget, ...]
    at_most: bool = False

    def __post_init__(self):
        binding = (b for b in self.budgets if b.limit < of_largest(b.table))
        object.__setattr__(self, "budgets", tuple(binding))


def used(surface: Surface, logits: Mapping[str, Tensor]) -> Tensor:
    """Expected share of each budget that is used, `E[cost] / limit` under the sampler's mean, in double precision."""
    shares = {name: surface.method.mean(rows.double()) for name, rows in logits.items()}
    return torch.stack([expected(budget.table, shares) / budget.limit for budget in surface.budgets])


def start_on_surface(surface: Surface, logits: Mapping[str, Tensor]) -> Rows:
    """Logits that use up the budget exactly, reached along the cost gradient from below or from above.

    Newton's method on `E[cost] / limit = 1`, with bounded steps, and bisection where a step crosses the surface.

    Args:
        surface: The budgets.
        logits: Dimension -> (rows, K).

    Raises:
        ValueError: The sampler's mean comes no closer to the budget, which is too near to the smallest or largest cost.
    """
    return _to_surface(surface, logits, at_most=False)


def return_to_surface(surface: Surface, logits: Mapping[str, Tensor]) -> Rows:
    """As `start_on_surface`, after a step; with `at_most`, only from above."""
    return _to_surface(surface, logits, surface.at_most)


def project_gradient(surface: Surface, logits: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Rows:
    """A loss gradient without what would leave the budget to first order: `g - N^T (N N^T)^-1 N g`.

    N has a row d(E[cost]/limit)/d(logits) for each budget that has to be held. One that the step leaves alone, because
    another one is held or, with `at_most`, because the step makes nets cheaper, is none of them.

    Args:
        surface: The budgets.
        logits: Where the gradient was taken, on the surface or, with `at_most`, below it.
        gradients: Dimension -> gradient of the loss, shaped as the logits.
    """
    gradients = {name: gradients[name] for name in logits}  # in the order of the logits
    shares, normals = _normals(surface, logits)
    if not len(normals):
        return gradients
    gradient = _flat(gradients)
    first = [] if surface.at_most else [shares.argmax().item()]
    active = sorted({*first, *(i for i, share in enumerate(shares.tolist()) if share >= 1 - ACTIVE)})
    for size in range(0 if surface.at_most else 1, len(active) + 1):
        for held in combinations(active, size):
            rows = normals[list(held)]
            left = gradient - torch.linalg.pinv(rows) @ (rows @ gradient) if size else gradient
            # The step is -left. The smallest set of held budgets that keeps to the others, too.
            rounding = 1e-9 * gradient.norm() * normals[active].norm(dim=1)
            if (normals[active] @ -left <= rounding).all():
                return _shaped(left, gradients)
    raise AssertionError("holding all budgets keeps to all of them")


def _to_surface(surface: Surface, logits: Mapping[str, Tensor], at_most: bool) -> Rows:
    if not surface.budgets:
        return {name: rows.detach().clone() for name, rows in logits.items()}
    at, share = _flat(logits), 1.0

    def gap(flat: Tensor) -> float:
        with torch.no_grad():
            return used(surface, _shaped(flat, logits, torch.float64)).max().item() - 1

    for _ in range(MOST_STEPS):
        shares, normals = _normals(surface, _shaped(at, logits, torch.float64))
        normal, share = normals[shares.argmax()], shares.max().item()
        if abs(share - 1) <= EXACT or (at_most and share < 1):
            return _shaped(at, logits)
        newton = (1 - share) / normal.square().sum() * normal
        step = newton * min(1.0, LONGEST_STEP / newton.abs().max().item())
        after = gap(at + step)
        if (after < 0) == (share < 1) or abs(after) < 0.1 * abs(share - 1):
            at = at + step
            continue
        low, high = 0.0, 1.0  # the surface was crossed: it is between them
        while high - low > 1e-15:
            middle = (low + high) / 2
            low, high = (middle, high) if (gap(at + middle * step) < 0) == (share < 1) else (low, middle)
        at = at + high * step
    limits = ", ".join(f"max_{b.cost} = {b.text(b.limit)}" for b in surface.budgets)
    raise ValueError(
        f"the expected cost cannot be brought to {limits}: it stays at {share:.4f} of the budget, because a sampler gives no "
        "choice all of the shares. Move the budget away from the smallest or largest possible cost"
    )


def _normals(surface: Surface, logits: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Used shares (budgets,) and their gradients in the logits (budgets, logits)."""
    if not surface.budgets:
        return torch.zeros(0), torch.zeros(0, 0)
    leaves = {name: rows.detach().double().requires_grad_() for name, rows in logits.items()}
    with torch.enable_grad():
        shares = used(surface, leaves)
        gradients = [
            torch.autograd.grad(share, list(leaves.values()), retain_graph=True, allow_unused=True) for share in shares
        ]
    filled = [[torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves.values(), gs, strict=True)]
              for gs in gradients]  # fmt: skip
    return shares.detach(), torch.stack([torch.cat([g.flatten() for g in gs]) for gs in filled])


def _flat(rows: Mapping[str, Tensor]) -> Tensor:
    return torch.cat([tensor.detach().double().flatten() for tensor in rows.values()])


def _shaped(flat: Tensor, like: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> Rows:
    parts = flat.split([rows.numel() for rows in like.values()])
    return {
        n: part.view(rows.shape).to(dtype or rows.dtype) for (n, rows), part in zip(like.items(), parts, strict=True)
    }
