"""One step of both levels: algorithm 1 of TangleNAS (arXiv:2312.10440), on one page.

With weights w, logits l, and a sampler that draws shares a of the logits::

    architecture step     a ~ sampler(l)      l <- Adam(l, dL(w, a; a batch of arch_data)/da  da/dl)      w is frozen
    weight step           a ~ sampler(l)      w <- AdamW(w, dL(w, a; a batch of train_data)/dw)           l is frozen

The gradient by the shares is of first order, or with `unrolled` of second order (`unrolled`). Under budgets the step of the
logits stays on the surface where the expected costs are the limits; with a front, the logits are those of the limit that
was drawn for the step (`arch_front`). Without either, `ArchFront` is one set of logits, and `collect` and `hold` do nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from transformers import PreTrainedModel

from ...arch_parameters import argmax
from ...samplers import sampler
from ..distillation import Teacher, training_loss
from ..loop import clip_gradients, finite
from ..search_cost import SearchCost
from ..settings import SearchArguments
from .arch_front import ArchFront
from .unrolled import backward, frozen, unrolled_backward


UNROLLED_PASSES = 4  # forward passes of a second-order architecture step: two for each order


@dataclass
class BilevelStep:
    """What the two levels share.

    Args:
        supernet: What is searched.
        model: The same, as accelerate runs it.
        optimizer: Of the weights.
        scheduler: Of their learning rate.
        front: The logits.
        arch_optimizer: Of the logits.
        generator: What shares are drawn with.
        cost: Where steps are added up.
        settings: Settings.
        accelerator: Device and processes.
        teacher: Whose outputs both levels learn beside the labels; None: from the labels alone.
    """

    supernet: PreTrainedModel
    model: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    front: ArchFront
    arch_optimizer: torch.optim.Optimizer
    generator: torch.Generator
    cost: SearchCost
    settings: SearchArguments
    accelerator: Accelerator
    teacher: Teacher | None = None

    def __post_init__(self):
        self.sampler = sampler(self.settings.sampler)

    def arch_step(
        self, step: int, limit: int | None, arch_micro: Sequence[dict], train_micro: Sequence[dict]
    ) -> float:
        """One step of the logits; no gradient of the weights is computed.

        Args:
            step: Steps before this one.
            limit: Of the front's cost, as `ArchFront.draw` gave it; None without a front.
            arch_micro: Micro-batches of the architecture's data.
            train_micro: Those of the weight step that follows, for the second order.

        Returns:
            The loss.

        Raises:
            FloatingPointError: The loss or the gradient is not finite; no step was taken.
        """
        settings, accelerator, progress = self.settings, self.accelerator, step / self.settings.max_steps
        logits = self.front.at(limit)
        mixture = logits.sample(self.sampler, progress, self.generator)
        # Micro-batches share one draw. Its leaves collect their gradients, which then go through the sampler once.
        shares = {name: rows.detach().requires_grad_() for name, rows in mixture.items()}
        if settings.unrolled:
            rate = self.scheduler.get_last_lr()[0]
            data = arch_micro, train_micro
            loss = unrolled_backward(self.model, self.supernet, shares, *data, rate, accelerator, self.teacher)
        else:
            # There is nothing to synchronise: no parameter has a gradient.
            with frozen(self.supernet), accelerator.no_sync(self.model):
                loss = backward(self.model, shares, arch_micro, accelerator, self.teacher)
        loss = finite(accelerator.reduce(loss, "mean"), "architecture loss", step)
        torch.autograd.backward(list(mixture.values()), [self._gradient(rows) for rows in shares.values()])
        if settings.arch_kl_scale:
            (settings.arch_kl_scale * sum(map(self.sampler.divergence, logits.logits.values()))).backward()
        self.cost.add_arch_step(settings.unrolled)
        if self.teacher is not None:
            self.cost.add_teacher(UNROLLED_PASSES if settings.unrolled else 1)
        self.front.collect(limit, logits)
        norm = torch.nn.utils.clip_grad_norm_(self.front.parameters(), settings.arch_max_grad_norm or math.inf)
        finite(norm, "norm of the architecture gradient", step)
        self.arch_optimizer.step()
        self.arch_optimizer.zero_grad()
        self.front.hold(limit)
        return loss

    def weight_step(self, step: int, limit: int | None, train_micro: Sequence[dict]) -> float:
        """One step of the weights under a mixture drawn for it, or on one path.

        Args:
            step: Steps before this one.
            limit: The limit of the front's cost for this step; None without a front.
            train_micro: Micro-batches of the weights' data.

        Returns:
            The loss.

        Raises:
            FloatingPointError: The loss or the gradient is not finite; no step was taken.
        """
        with torch.no_grad():
            mixture = self.front.at(limit).sample(self.sampler, step / self.settings.max_steps, self.generator)
        # Under one-hot shares the superposition is one subnet (law 1), and weights need no gradient of the shares: run it
        # as a single path, at its own cost.
        chosen = {"arch": argmax(self.supernet.space, mixture)} if self.sampler.hard else {"mixture": mixture}
        self.cost.add_weight_step(chosen.get("arch"))
        if self.teacher is not None:
            self.cost.add_teacher()
        *others, last = train_micro
        loss = 0.0
        for batch in others:
            with self.accelerator.no_sync(self.model):
                loss += self._weight_gradient(batch, chosen, len(train_micro))
        loss += self._weight_gradient(last, chosen, len(train_micro))
        loss = finite(self.accelerator.reduce(loss, "mean"), "training loss", step)
        clip_gradients(self.model, self.settings, self.accelerator, step)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return loss

    def _weight_gradient(self, batch: dict, chosen: dict, count: int) -> Tensor:
        loss = training_loss(self.model(**batch, **chosen), batch, self.teacher, self.accelerator) / count
        self.accelerator.backward(loss)
        return loss.detach()

    def _gradient(self, rows: Tensor) -> Tensor:
        """The gradient by shares, averaged over processes; zero where a dimension has one choice, whose share is 1."""
        gradient = torch.zeros_like(rows) if rows.grad is None else rows.grad
        return self.accelerator.reduce(gradient.to(self.accelerator.device), "mean").cpu()
