"""Gradient search on a frozen checkpoint: architecture steps alone, on the loss that its smaller nets are trained by."""

from copy import copy

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from ..arch_parameters import Mixture
from ..messages import progress_bar
from ..samplers import sampler
from ..search import Limits, SearchArguments
from ..search.batches import Batches
from ..search.distillation import Teacher
from ..search.gradient.arch_front import ArchFront
from ..search.gradient.bilevel_step import BilevelStep
from ..search.search_cost import SearchCost


def search_frozen(
    supernet: PreTrainedModel,
    data,
    settings: SearchArguments,
    steps: int,
    accelerator: Accelerator,
    limits: Limits,
    cost: SearchCost,
    teacher: Teacher | None,
) -> Mixture:
    """Trains architecture parameters within the limits; the weights stay as they are.

    Args:
        supernet: The checkpoint.
        data: Training examples.
        settings: Sampler, batch, learning rate of the logits, seed.
        steps: Architecture steps.
        accelerator: Device and processes.
        limits: What the search keeps to.
        cost: Where steps are added up.
        teacher: From whose outputs is learned beside the labels.

    Returns:
        The shares, dimension -> (rows, choices).

    Raises:
        FloatingPointError: A loss or a gradient is not finite.
    """
    settings = copy(settings)
    settings.max_steps = steps  # of annealed samplers, and of the learning rate of the logits
    method = sampler(settings.sampler)
    front = ArchFront(supernet.space, method, limits.anchors, settings)
    betas = (settings.arch_adam_beta1, settings.arch_adam_beta2)
    optimizer = torch.optim.Adam(front.parameters(), lr=settings.resolved_arch_learning_rate, betas=betas)
    batches = iter(Batches(accelerator, data, settings.per_device_batch_size, settings.seed + 1))
    generator = torch.Generator().manual_seed(settings.seed)
    own = (optimizer, generator, cost, settings, accelerator, teacher)
    levels = BilevelStep(supernet.eval(), supernet, None, None, front, *own)  # no optimizer of the weights
    with progress_bar(steps, "gradient search", show=accelerator.is_main_process) as bar:
        for step in range(steps):
            micro = [next(batches) for _ in range(settings.gradient_accumulation_steps)]
            loss = levels.arch_step(step, None, micro, ())
            bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
            bar.update()
    return front.anchors[0].probabilities(method)
