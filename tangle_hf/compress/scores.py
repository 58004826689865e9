"""Statistics of a calibration pass: how much each unit inside a layer matters to what the layer gives.

A layer writes to the residual stream through its *projections*, `out = a W + b`: the second matrix of the MLP and the one
behind attention. Input channel i adds `a_i W_i` to it. Left out, it changes `out` by `a_i W_i`, on average over tokens

    variance       Var[a_i] |W_i|^2        where a bias can make up for the mean `E[a_i] W_i` (arXiv:2312.11983)
    second_moment  E[a_i^2] |W_i|^2        where none can

The statistics are kept by channel and not by unit, so that one pass serves every space and every budget.
"""

from collections.abc import Iterable, Iterator, Mapping
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

from ..axes import Axis, AxisTable
from ..errors import writing
from ..messages import with_progress
from .batches import evaluating, on_device


CRITERIA = ("variance", "second_moment")
PARTS = ("mean", "variance", "norm")


@dataclass(frozen=True)
class Scores:
    """Statistics of the inputs of every projection, by the name of its weight; float64, on the CPU, of shape (channels,).

    Args:
        mean: Mean over tokens.
        variance: Variance over tokens.
        norm: Squared norm of the channel's row of the weight, by which scores of other weights are told.
        tokens: How many tokens were seen.
    """

    mean: dict[str, Tensor]
    variance: dict[str, Tensor]
    norm: dict[str, Tensor]
    tokens: int

    def importance(self, name: str, criterion: str) -> Tensor:
        """The score of every channel of a projection, (channels,), by one of `CRITERIA`.

        Raises:
            ValueError: The criterion is unknown.
        """
        if criterion not in CRITERIA:
            raise ValueError(f"criterion={criterion!r} is unknown; choose one of {CRITERIA}")
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
        return cls(**parts, tokens=tokens)


@dataclass(frozen=True)
class Projection:
    """A linear layer from the units inside a layer to the residual stream.

    Args:
        name: Name of its weight.
        layer: Row of the space that its layer is.
        module: The stock module.
        inputs: Axis of its input channels.
    """

    name: str
    layer: int
    module: nn.Module
    inputs: Axis

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
    residual, found = residual_axis(supernet.axes), []
    for name, entry in supernet.axes.items():
        if entry.layer is None or len(entry.axes) != 2:
            continue
        module = supernet.get_submodule(name.rpartition(".")[0])
        inputs, outputs = entry.axes if isinstance(module, Conv1D) else entry.axes[::-1]
        if outputs is residual and inputs is not residual:
            found.append(Projection(name, entry.layer, module, inputs))
    return found


def residual_axis(axes: AxisTable) -> Axis:
    """The axis of the residual stream of a transformer: the one that all matrices of a layer have.

    Args:
        axes: The family's axis table.
    """
    matrices = [entry.axes for entry in axes.values() if entry.layer == 0 and len(entry.axes) == 2]
    return next(axis for axis in matrices[0] if all(any(axis is other for other in axes) for axes in matrices))


@torch.no_grad()
def calibrate(supernet: PreTrainedModel, batches: Iterable[Mapping[str, Tensor]], progress: bool = True) -> Scores:
    """Runs the largest net over calibration data and collects statistics of the inputs of every projection.

    Args:
        supernet: An `Elastic*` model of a transformer family; its space does not matter.
        batches: Arguments of forward passes, `labels` left out of account; padding (`attention_mask` of 0) does not count.
        progress: Show a progress bar.

    Raises:
        ValueError: The family is no transformer, there is no batch, or activations are not finite.
    """
    found = projections(supernet)
    sums = {p.name: torch.zeros(2, p.rows.shape[0], dtype=torch.float64, device=supernet.device) for p in found}
    tokens, mask = 0, None

    def collect(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen = inputs[0].flatten(0, -2) if mask is None else inputs[0][mask]
        seen = seen.double()
        sums[name] += torch.stack([seen.sum(0), seen.square().sum(0)])

    with _hooks([(p.module, partial(collect, p.name)) for p in found]), evaluating(supernet):
        for batch in with_progress(batches, "calibration", progress):
            inputs = on_device(supernet, batch, labels=False)
            mask = inputs["attention_mask"].bool() if "attention_mask" in inputs else None
            seen = supernet.base_model(**inputs).last_hidden_state
            tokens += int(mask.sum()) if mask is not None else seen.shape[:-1].numel()
    if not tokens:
        raise ValueError("there is no token to calibrate on; give at least one batch")
    mean = {name: (total[0] / tokens).cpu() for name, total in sums.items()}
    variance = {name: (t[1].cpu() / tokens - mean[name] ** 2).clamp_min(0) for name, t in sums.items()}
    if not all(values.isfinite().all() for values in variance.values()):
        raise ValueError("activations of the checkpoint are not finite; look at its weights")
    return Scores(mean, variance, {p.name: p.norm for p in found}, tokens)


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
