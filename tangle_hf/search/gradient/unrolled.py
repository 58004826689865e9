"""Gradients of an architecture step: first order, and second order through one step of the weights (DARTS).

arXiv:1806.09055, equations 6 to 8. With learning rate xi, weights w and shares a::

    w'   = w - xi dL_train(w, a)/dw
    grad = dL_arch(w', a)/da - xi (dL_train(w+, a)/da - dL_train(w-, a)/da) / (2 eps),   w+- = w +- eps dL_arch(w', a)/dw'
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel


def backward(model, shares: Mapping[str, Tensor], micro: Sequence[dict], accelerator: Accelerator) -> Tensor:
    """The mean loss of micro-batches under given shares, and its gradients; the last call of a weight step synchronises."""
    total = torch.zeros((), device=accelerator.device)
    for batch in micro:
        loss = model(**batch, mixture=shares).loss / len(micro)
        accelerator.backward(loss)
        total += loss.detach()
    return total


@contextmanager
def frozen(supernet: PreTrainedModel) -> Iterator[None]:
    """No gradient of the weights is computed inside."""
    supernet.requires_grad_(False)
    try:
        yield
    finally:
        supernet.requires_grad_(True)


def unrolled_backward(
    model,
    supernet: PreTrainedModel,
    shares: Mapping[str, Tensor],
    arch_micro: Sequence[dict],
    train_micro: Sequence[dict],
    rate: float,
    accelerator: Accelerator,
) -> Tensor:
    """Leaves the second-order gradient in the shares; weights, their gradients and statistics are as before.

    eps is 0.01 / |dL_arch(w', a)/dw'|, as in DARTS. The step of the weights is plain gradient descent.

    Args:
        model: The prepared supernet.
        supernet: The same, not prepared.
        shares: Dimension -> shares that need gradients.
        arch_micro: Micro-batches of the architecture step.
        train_micro: Micro-batches of the weight step that follows.
        rate: Learning rate xi of the weights.
        accelerator: Device and processes.

    Returns:
        The loss on the architecture's batches after the step, averaged over them.
    """
    weights = list(supernet.parameters())
    state = [tensor.detach().clone() for tensor in (*weights, *supernet.buffers())]
    fixed = {name: rows.detach() for name, rows in shares.items()}
    backward(model, fixed, train_micro, accelerator)
    steps = _take_gradients(weights)
    _move(weights, steps, -rate)
    loss = backward(model, shares, arch_micro, accelerator)
    slope = _take_gradients(weights)
    eps = 0.01 / max(torch.sqrt(sum(g.square().sum() for g in slope)).item(), 1e-12)
    sides = []
    for sign in (1, -1):
        _restore(supernet, state)
        _move(weights, slope, sign * eps)
        leaves = {name: rows.detach().clone().requires_grad_() for name, rows in shares.items()}
        with frozen(supernet), accelerator.no_sync(model):
            backward(model, leaves, train_micro, accelerator)
        sides.append(leaves)
    _restore(supernet, state)
    for name, rows in shares.items():
        ahead, behind = (side[name].grad for side in sides)
        if ahead is not None and rows.grad is not None:
            rows.grad -= rate * (ahead - behind) / (2 * eps)
    return loss


def _take_gradients(weights: list[Tensor]) -> list[Tensor]:
    gradients = [torch.zeros_like(w) if w.grad is None else w.grad for w in weights]
    for weight in weights:
        weight.grad = None
    return gradients


@torch.no_grad()
def _move(weights: list[Tensor], direction: list[Tensor], length: float) -> None:
    for weight, step in zip(weights, direction, strict=True):
        weight.add_(step, alpha=length)


@torch.no_grad()
def _restore(supernet: PreTrainedModel, state: list[Tensor]) -> None:
    for tensor, before in zip((*supernet.parameters(), *supernet.buffers()), state, strict=True):
        tensor.copy_(before)
