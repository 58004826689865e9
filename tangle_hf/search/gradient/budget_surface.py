"""Budgets in the gradient search: the logits stay where the expected cost equals the budget, and the loss moves them there.

A penalty on the cost would go through the same Adam as the loss: while the cost is off its target, the penalty is the larger
gradient and moves all rows alike. Here the logits start on the surface `E[cost] = limit`, the component of the loss gradient
that leads away from the surface is taken out, and after each step the logits return to it exactly. So Adam sees the loss only.
This is gradient projection (Rosen, 1961, doi:10.1137/0109044) on closed-form expected costs.

With several budgets the surface is where the budget that is used most is used up: `max_b E[cost_b] / limit_b = 1`.
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
ACTIVE = 1e-6  # relative distance below a limit at which a budget counts as used up, once the logits are rounded
LONGEST_STEP = 1.0  # of a logit, before the direction across the surface is taken again
MOST_STEPS = 500


@dataclass(frozen=True)
class Surface:
    """The logits at which the expected cost equals the budget.

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
    """How much of each budget is used, `E[cost] / limit` under the sampler's mean, (budgets,) in double precision."""
    shares = {name: surface.method.mean(rows.double()) for name, rows in logits.items()}
    return torch.stack([expected(budget.table, shares) / budget.limit for budget in surface.budgets])


def start_on_surface(surface: Surface, logits: Mapping[str, Tensor]) -> Rows:
    """Logits that use up the budget exactly, reached along the gradient of the cost from below or from above.

    Newton's method on u(logits) = 1, where u is `E[cost] / limit` of the budget used most and N its gradient::

        step = (1 - u) N / |N|^2

    Steps are shortened to at most `LONGEST_STEP` of a logit. Where a step crosses the surface, bisection finds the crossing.

    Args:
        surface: The budgets.
        logits: Dimension -> (rows, K).

    Raises:
        ValueError: The sampler's mean comes no closer to the budget, which is too near to the smallest or largest cost.
    """
    return _to_surface(surface, logits, at_most=False)


def return_to_surface(surface: Surface, logits: Mapping[str, Tensor]) -> Rows:
    """Logits brought back to the budget after a step, by Newton's method; with `at_most` only those that exceed it."""
    return _to_surface(surface, logits, surface.at_most)


def project_gradient(surface: Surface, logits: Mapping[str, Tensor], gradients: Mapping[str, Tensor]) -> Rows:
    """The loss gradient without the component that would leave the budget to first order: `g - N^T (N N^T)^-1 N g`.

    N has a row d(E[cost]/limit)/d(logits) for each budget that must be held. A budget needs no row where the step does not
    exceed it anyway: because another budget is held or, with `at_most`, because the step makes nets cheaper.

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
            # The step is -left. The first set that passes is the smallest whose step exceeds no other budget.
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
