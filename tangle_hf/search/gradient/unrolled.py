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

from ..distillation import Teacher, training_loss


def backward(
    model,
    shares: Mapping[str, Tensor],
    micro: Sequence[dict],
    accelerator: Accelerator,
    teacher: Teacher | None = None,
) -> Tensor:
    """The mean loss of micro-batches under given shares; leaves its gradients in the weights and in the shares."""
    total = torch.zeros((), device=accelerator.device)
    for batch in micro:
        loss = training_loss(model(**batch, mixture=shares), batch, teacher, accelerator) / len(micro)
        accelerator.backward(loss)
        total += loss.detach()
    return total


@contextmanager
def frozen(supernet: PreTrainedModel) -> Iterator[None]:
    """Inside, no gradient of the weights is computed. Afterwards the weights that needed gradients need them again."""
    trained = [weight for weight in supernet.parameters() if weight.requires_grad]
    for weight in trained:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in trained:
            weight.requires_grad_(True)


def unrolled_backward(
    model,
    supernet: PreTrainedModel,
    shares: Mapping[str, Tensor],
    arch_micro: Sequence[dict],
    train_micro: Sequence[dict],
    rate: float,
    accelerator: Accelerator,
    teacher: Teacher | None = None,
) -> Tensor:
    """Leaves the second-order gradient of an architecture step in the shares (arXiv:1806.09055, equations 6 to 8)::

        w'   = w - xi dL_train(w, a)/dw
        grad = dL_arch(w', a)/da - xi (dL_train(w+, a)/da - dL_train(w-, a)/da) / (2 eps)
        w+-  = w +- eps dL_arch(w', a)/dw',     eps = 0.01 / |dL_arch(w', a)/dw'|

    Weights and buffers are put back, and the weights have no gradients afterwards. w' is a step of plain gradient descent. All
    three passes over the batches of the weights draw the same random numbers, so that L_train is one function, with one dropout
    mask.

    Args:
        model: The prepared supernet.
        supernet: The supernet itself, as it was before accelerate prepared it.
        shares: Dimension -> shares that need gradients.
        arch_micro: Micro-batches of the architecture step.
        train_micro: Micro-batches of the weight step that follows.
        rate: Learning rate xi of the weights.
        accelerator: Device and processes.
        teacher: From whose outputs is learned beside the labels.

    Returns:
        The loss on the architecture's batches after the step, averaged over them.
    """
    weights = list(supernet.parameters())
    state = [tensor.detach().clone() for tensor in (*weights, *supernet.buffers())]
    fixed = {name: rows.detach() for name, rows in shares.items()}
    numbers = _random_numbers(accelerator.device)
    backward(model, fixed, train_micro, accelerator, teacher)
    steps = _take_gradients(weights)  # dL_train(w, a)/dw
    _move(weights, steps, -rate)  # w'
    loss = backward(model, shares, arch_micro, accelerator, teacher)  # leaves dL_arch(w', a)/da in the shares
    slope = _take_gradients(weights)  # dL_arch(w', a)/dw'
    eps = 0.01 / max(torch.sqrt(sum(g.square().sum() for g in slope)).item(), 1e-12)
    sides = []
    for sign in (1, -1):
        _restore(supernet, state)
        _move(weights, slope, sign * eps)  # w+, then w-
        leaves = {name: rows.detach().clone().requires_grad_() for name, rows in shares.items()}
        with frozen(supernet), accelerator.no_sync(model), _repeating(numbers, accelerator.device):
            backward(model, leaves, train_micro, accelerator, teacher)
        sides.append(leaves)
    _restore(supernet, state)
    for name, rows in shares.items():
        ahead, behind = (side[name].grad for side in sides)
        if ahead is not None and rows.grad is not None:
            rows.grad -= rate * (ahead - behind) / (2 * eps)
    return loss


def _random_numbers(device: torch.device) -> list[Tensor]:
    """The states of the generators that a forward pass draws from: the CPU's, and the device's own."""
    return [torch.get_rng_state()] + ([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])


@contextmanager
def _repeating(numbers: list[Tensor], device: torch.device) -> Iterator[None]:
    """Inside, random numbers are drawn from the given states; afterwards the search's own generators go on where they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.set_rng_state(numbers[0])
        if device.type == "cuda":
            torch.cuda.set_rng_state(numbers[1], device)
        yield


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
