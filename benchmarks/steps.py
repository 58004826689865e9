"""Steps that all benchmarks measure: forward + backward, and an optimizer only where one is given."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from tangle_hf import ArchParameters, sampler
from tangle_hf.arch_parameters import argmax


Step = Callable[[], None]


def plain_step(
    model: PreTrainedModel,
    batch: Mapping[str, Any],
    run: Callable | None = None,
    update: Callable[[], object] | None = None,
    **chosen: Any,
) -> Step:
    """A training step of a model, or with `arch=` of one path of a supernet.

    Args:
        model: Whose gradients are dropped again.
        batch: Inputs with labels.
        run: What is called in its place, such as a compiled model.
        update: The step of an optimizer, such as `adamw` makes.
        **chosen: `arch`, of a supernet.
    """
    run = run or model

    def step() -> None:
        run(**batch, **chosen).loss.backward()
        if update is not None:
            update()
        model.zero_grad(set_to_none=True)

    return step


def adamw(model: PreTrainedModel) -> Callable[[], object]:
    """The step of an AdamW over all weights."""
    return torch.optim.AdamW(model.parameters()).step


def search_steps(
    supernet: PreTrainedModel,
    batch: Mapping[str, Any],
    method: str = "drnas",
    run: Callable | None = None,
    update: Callable[[], object] | None = None,
) -> dict[str, Step]:
    """The two steps of a search, "weight" and "arch", and both, "search", with shares that are drawn anew each time.

    Args:
        supernet: What is searched.
        batch: Inputs with labels.
        method: Name of the sampler; a hard one takes weight steps on single paths, as searches do.
        run: What is called in the supernet's place, such as a compiled one.
        update: The step of an optimizer of the weights.
    """
    run, draw, generator = run or supernet, sampler(method), torch.Generator().manual_seed(0)
    arch_parameters = ArchParameters(supernet.space)

    def weight_step() -> None:
        mixture = {name: rows.detach() for name, rows in arch_parameters.sample(draw, 0.0, generator).items()}
        chosen = {"arch": argmax(supernet.space, mixture)} if draw.hard else {"mixture": mixture}
        run(**batch, **chosen).loss.backward()
        if update is not None:
            update()
        supernet.zero_grad(set_to_none=True)

    def arch_step() -> None:
        supernet.requires_grad_(False)
        mixture = arch_parameters.sample(draw, 0.0, generator)
        leaves = {name: rows.detach().requires_grad_() for name, rows in mixture.items()}
        run(**batch, mixture=leaves).loss.backward()
        supernet.requires_grad_(True)

    def search_step() -> None:
        arch_step()
        weight_step()

    return {"weight": weight_step, "arch": arch_step, "search": search_step}
