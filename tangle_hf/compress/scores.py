"""Statistics of a calibration pass: how much each unit inside a layer matters to what the layer gives.

A layer writes to the residual stream through its *projections*, `out = a W + b`: the second matrix of the MLP and the one
behind attention. Input channel i adds `a_i W_i` to it. Left out, it changes `out` by `a_i W_i`, on average over tokens

    variance       Var[a_i] |W_i|^2        where a bias can make up for the mean `E[a_i] W_i` (arXiv:2312.11983)
    second_moment  E[a_i^2] |W_i|^2        where none can

That says how much is lost, not what it was good for. Heads differ in that: one that adds little may be what later layers count
on (`docs/results.md`). A unit u of several channels is weighted by what the loss L makes of its output, the diagonal of the
Fisher information of a factor in front of it (arXiv:1801.05787; of heads arXiv:2204.09656, section 3.2), here by token

    fisher         E[(sum_{i in u} a_i dL/da_i)^2]

The statistics are kept by channel and not by unit, so that one pass serves every space and every budget.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ..axes import Axis, AxisTable, layer_values
from ..errors import writing
from ..messages import with_progress
from .batches import check_labelled, evaluating, on_device


CRITERIA = ("variance", "second_moment", "fisher")
PARTS = ("mean", "variance", "norm", "fisher")


@dataclass(frozen=True)
class Scores:
    """Statistics of the inputs of every projection, by the name of its weight; float64, on the CPU, of shape (channels,).

    Args:
        mean: Mean over tokens.
        variance: Variance over tokens.
        norm: Squared norm of the channel's row of the weight, by which scores of other weights are told.
        fisher: Of the unit of channels that the channel is part of, a head, shared out evenly among them.
        tokens: How many tokens were seen.
    """

    mean: dict[str, Tensor]
    variance: dict[str, Tensor]
    norm: dict[str, Tensor]
    fisher: dict[str, Tensor]
    tokens: int

    def importance(self, name: str, criterion: str) -> Tensor:
        """The score of every channel of a projection, (channels,), by one of `CRITERIA`.

        Raises:
            ValueError: The criterion is unknown.
        """
        if criterion not in CRITERIA:
            raise ValueError(f"criterion={criterion!r} is unknown; choose one of {CRITERIA}")
        if criterion == "fisher":
            return self.fisher[name]
        spread = self.variance[name]
        return (spread if criterion == "variance" else spread + self.mean[name] ** 2) * self.norm[name]

    def save(self, path: str | Path) -> None:
        """Writes a safetensors file.

        Raises:
            WriteError: The disk is full, or the folder cannot be written.
        """
        tensors = {f"{name}.{part}": t for part in PARTS for name, t in getattr(self, part).items()}
        with writing(Path(path).parent):
            save_file({name: t.contiguous() for name, t in tensors.items()}, path, {"tokens": str(self.tokens)})

    @classmethod
    def load(cls, path: str | Path) -> "Scores":
        """Reads what `save` wrote.

        Raises:
            ValueError: There is no such file, or it is none of scores.
        """
        try:
            with safe_open(path, "pt") as file:
                tokens = int((file.metadata() or {})["tokens"])
                found = {name: file.get_tensor(name) for name in list(file.keys())}
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"{path} holds no scores of a calibration ({error}); calibrate again") from None
        parts = {part: {n[: -len(part) - 1]: t for n, t in found.items() if n.endswith(f".{part}")} for part in PARTS}
        if not all(part.keys() == parts["norm"].keys() for part in parts.values()):
            raise ValueError(f"{path} holds scores of an earlier version; calibrate again, in a run by another folder")
        return cls(**parts, tokens=tokens)


@dataclass(frozen=True)
class Projection:
    """A linear layer from the units inside a layer to the residual stream.

    Args:
        name: Name of its weight.
        layer: Row of the space that its layer is.
        module: The stock module.
        inputs: Axis of its input channels.
        width: Channels of its smallest unit: of a head its width, of an MLP 1.
    """

    name: str
    layer: int
    module: nn.Module
    inputs: Axis
    width: int

    @property
    def rows(self) -> Tensor:
        """The weight as (inputs, outputs)."""
        weight = self.module.weight.detach()
        return weight if isinstance(self.module, Conv1D) else weight.T

    @property
    def norm(self) -> Tensor:
        """Squared norm of what each channel adds to the residual stream, (inputs,), float64."""
        return self.rows.double().square().sum(1).cpu()


def projections(supernet: PreTrainedModel) -> list[Projection]:
    """Every projection to the residual stream, read off the axis table.

    Raises:
        ValueError: The family is no transformer.
    """
    if supernet.layer_list is None:
        raise ValueError(f"{type(supernet).__name__} is no transformer; only their units and layers can be ordered")
    residual, found, largest = residual_axis(supernet.axes), [], supernet.space.largest
    for name, entry in supernet.axes.items():
        if entry.layer is None or len(entry.axes) != 2:
            continue
        module = supernet.get_submodule(name.rpartition(".")[0])
        inputs, outputs = entry.axes if isinstance(module, Conv1D) else entry.axes[::-1]
        if outputs is residual and inputs is not residual:
            block = inputs.owned(layer_values(largest, entry.layer))
            width = block[-1][0] if len(block) > 1 else 1
            found.append(Projection(name, entry.layer, module, inputs, width))
    return found


def residual_axis(axes: AxisTable) -> Axis:
    """The axis of the residual stream of a transformer: the one that all matrices of a layer have.

    Args:
        axes: The family's axis table.
    """
    matrices = [entry.axes for entry in axes.values() if entry.layer == 0 and len(entry.axes) == 2]
    return next(axis for axis in matrices[0] if all(any(axis is other for other in axes) for axes in matrices))


def calibrate(supernet: PreTrainedModel, batches: Sequence[Mapping[str, Tensor]], progress: bool = True) -> Scores:
    """Runs the largest net forward and backward over calibration data, for statistics of the inputs of every projection.

    Args:
        supernet: An `Elastic*` model of a transformer family; its space does not matter.
        batches: Arguments of forward passes with `labels`; padding (`attention_mask` of 0) does not count.
        progress: Show a progress bar.

    Raises:
        ValueError: The family is no transformer, there is no batch or one without labels, or activations are not finite.
    """
    found = projections(supernet)
    check_labelled(batches)
    sums = {p.name: torch.zeros(3, p.rows.shape[0], dtype=torch.float64, device=supernet.device) for p in found}
    tokens, seen = 0, {}

    def keep(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if not inputs[0].requires_grad:
            inputs[0].requires_grad_()
        seen[name] = inputs[0]

    with _hooks([(p.module, partial(keep, p.name)) for p in found]), evaluating(supernet), torch.enable_grad():
        for batch in with_progress(batches, "calibration", progress):
            inputs = on_device(supernet, batch)
            loss = supernet(**inputs).loss * len(inputs["labels"])
            slopes = dict(zip(seen, torch.autograd.grad(loss, list(seen.values())), strict=True))
            counts = inputs["attention_mask"].bool() if "attention_mask" in inputs else ...
            for p in found:
                a, slope = (t[p.name].detach()[counts].flatten(0, -2).double() for t in (seen, slopes))
                units = (a * slope).unflatten(-1, (-1, p.width)).sum(-1).square().sum(0)
                fisher = units.repeat_interleave(p.width) / p.width
                sums[p.name] += torch.stack([a.sum(0), a.square().sum(0), fisher])
            tokens += len(a)
    if not tokens:
        raise ValueError("there is no token to calibrate on; give at least one that is no padding")
    mean, square, fisher = ({name: (total[part] / tokens).cpu() for name, total in sums.items()} for part in range(3))
    variance = {name: (square[name] - mean[name] ** 2).clamp_min(0) for name in mean}
    if not all((variance[name] + fisher[name]).isfinite().all() for name in mean):
        raise ValueError("activations of the checkpoint are not finite; look at its weights")
    return Scores(mean, variance, {p.name: p.norm for p in found}, fisher, tokens)


def check_scores(scores: Scores, found: Iterable[Projection]) -> None:
    """Checks that scores are those of these weights, in this order.

    Raises:
        ValueError: They are not.
    """
    for projection in found:
        norm = scores.norm.get(projection.name)
        now = projection.norm
        if norm is None or norm.shape != now.shape or not torch.allclose(norm, now, rtol=1e-2, atol=1e-6 * now.max()):
            raise ValueError(
                f"the scores are not of these weights ({projection.name} differs): calibrate again, or give the weights as "
                "they were when the scores were taken"
            )


@contextmanager
def _hooks(hooks: Iterable[tuple[nn.Module, object]]) -> Iterator[None]:
    handles = [module.register_forward_pre_hook(hook) for module, hook in hooks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
