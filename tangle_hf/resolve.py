"""Another budget for a finished search: its trained distribution is discretised again, nothing is trained."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from .arch import ArchParameters, one_hot
from .budgets import make_budgets
from .discretise import Candidate, discretise
from .export import Export, export
from .models.loading import load_supernet
from .recalibrate import batch_norms, recalibrate
from .samplers import sampler
from .search.choose import BAND
from .space import Architecture


logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Resolved:
    """What was found for the new budgets.

    Args:
        candidate: The architecture, its log-probability and its costs.
        limits: The budgets in whole numbers, by cost.
        export: The exported model.
    """

    candidate: Candidate
    limits: dict[str, int]
    export: Export


def resolve(
    run_dir: str | Path,
    budgets: Mapping[str, str | int],
    folder: str | Path,
    *,
    standard_only: bool = False,
    count: int = 5,
    loss: Callable[[PreTrainedModel, Architecture], float] | None = None,
    inputs: Mapping[str, Tensor] | None = None,
    form: str = "auto",
    batches: Iterable[Tensor] | None = None,
) -> Resolved:
    """Finds the best architecture of a finished run within other budgets, and exports it.

    Args:
        run_dir: Folder of the run, with `config.yaml`, `arch_parameters.safetensors` and `supernet/`.
        budgets: "max_params", "max_params_without_embeddings" or "max_flops" -> amount, as in `make_budgets`. FLOPs of
            text are those of a block of the run.
        folder: Where to write the model.
        standard_only: Only architectures that have the stock form.
        count: How many candidates to rank by `loss`.
        loss: Loss of an architecture in the supernet that it is given; None takes the most likely architecture.
        inputs: Arguments of one forward pass to compare the export by; made up if None.
        form: As in `tangle_hf.extract`.
        batches: Training images (batch, channels, height, width), from which what is exported gets batch-norm statistics of
            its own; without them a net with batch norms keeps those of the run's net, which warns.

    Raises:
        ValueError: The run is not finished or chose nothing, a budget is unknown or cannot be kept, or the folder holds
            something else than an earlier export.
    """
    run_dir, folder = Path(run_dir), Path(folder)
    _check_folders(run_dir, folder)
    kinds = ("max_params", "max_params_without_embeddings", "max_flops")
    if unknown := budgets.keys() - set(kinds):
        raise ValueError(f"{sorted(unknown)} are not budgets; choose from {kinds}")
    settings = yaml.safe_load((run_dir / "config.yaml").read_text())
    method = sampler(settings["sampler"])
    if method.single_path:
        raise ValueError(f"the run in {run_dir} used {settings['sampler']}, which trains weights and chooses nothing")
    supernet = load_supernet(run_dir / "supernet").eval()
    arch_parameters = ArchParameters(supernet.space)
    arch_parameters.load(run_dir / "arch_parameters.safetensors")
    limits = make_budgets(supernet.config, **budgets, sequence_length=settings.get("block_size"))
    shares, count = arch_parameters.probabilities(method), 1 if loss is None else count
    candidates = discretise(supernet, shares, limits, count=count, band=BAND, standard_only=standard_only)
    if loss is not None:
        candidates = sorted(candidates, key=lambda candidate: loss(supernet, candidate.arch))
    if batches is not None:
        recalibrate(supernet, batches, one_hot(supernet.space, candidates[0].arch))
    elif batch_norms(supernet):
        logger.warning(
            "the batch norms keep the statistics of the net that the run found; pass batches to recalibrate them"
        )
    inputs = _example(supernet) if inputs is None else inputs
    written = export(supernet, candidates[0].arch, folder, inputs, form, _processor(run_dir / "supernet"))
    return Resolved(candidates[0], {budget.cost: budget.limit for budget in limits}, written)


def _check_folders(run_dir: Path, folder: Path) -> None:
    missing = [
        name for name in ("config.yaml", "arch_parameters.safetensors", "supernet") if not (run_dir / name).exists()
    ]
    if missing:
        raise ValueError(f"{run_dir} is not a finished run: {', '.join(missing)} missing; finish it with --resume")
    if folder.exists() and not all((folder / name).is_file() for name in ("architecture.json", "config.json")):
        raise ValueError(f"{folder} exists and holds no earlier export; choose another folder")


def _processor(folder: Path):
    """The tokenizer or image processor beside a model, if there is one."""
    for name, auto in {"tokenizer_config.json": AutoTokenizer, "preprocessor_config.json": AutoImageProcessor}.items():
        if (folder / name).is_file():
            return auto.from_pretrained(folder)
    return None


def _example(supernet: PreTrainedModel) -> dict[str, Tensor]:
    """Inputs of the right shape: counting tokens, or a random image."""
    config = supernet.config
    if supernet.main_input_name == "pixel_values":
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        generator = torch.Generator().manual_seed(0)
        return {"pixel_values": torch.randn(1, config.num_channels, height, width, generator=generator)}
    return {"input_ids": torch.arange(min(64, config.max_position_embeddings))[None] % config.vocab_size}
