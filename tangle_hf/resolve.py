"""Another budget for a finished search: its trained distribution is discretised again, nothing is trained."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
import yaml
from torch import Tensor
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedModel

from .arch import ArchParameters
from .budgets import Budget, make_budgets
from .discretise import Candidate, discretise
from .export import Export, export
from .models.loading import load_supernet
from .samplers import sampler
from .search.arguments import SearchArguments
from .search.choose import BAND
from .search.pareto import arch_front
from .space import Architecture


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
) -> Resolved:
    """Finds the best architecture of a finished run within other budgets, and exports it.

    Args:
        run_dir: Folder of the run, with `config.yaml`, `arch_parameters.safetensors` and `supernet/`. Of a run with `pareto`
            the distribution at the new limit of the front's cost is taken.
        budgets: "max_params", "max_params_without_embeddings" or "max_flops" -> amount, as in `make_budgets`. FLOPs of
            text are those of a block of the run.
        folder: Where to write the model.
        standard_only: Only architectures that have the stock form.
        count: How many candidates to rank by `loss`.
        loss: Loss of an architecture in the supernet that it is given; None takes the most likely architecture.
        inputs: Arguments of one forward pass to compare the export by; made up if None.
        form: As in `tangle_hf.extract`.

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
    limits = make_budgets(supernet.config, **budgets, sequence_length=settings.get("block_size"))
    arch_parameters = _arch_parameters(run_dir, settings, supernet, limits)
    shares, count = arch_parameters.probabilities(method), 1 if loss is None else count
    candidates = discretise(supernet, shares, limits, count=count, band=BAND, standard_only=standard_only)
    if loss is not None:
        candidates = sorted(candidates, key=lambda candidate: loss(supernet, candidate.arch))
    inputs = _example(supernet) if inputs is None else inputs
    written = export(supernet, candidates[0].arch, folder, inputs, form, _processor(run_dir / "supernet"))
    return Resolved(candidates[0], {budget.cost: budget.limit for budget in limits}, written)


def extract_point(
    run_dir: str | Path,
    number: int,
    folder: str | Path,
    inputs: Mapping[str, Tensor] | None = None,
    form: str = "auto",
) -> Export:
    """Exports one architecture of a finished run's front.

    Args:
        run_dir: Folder of a run with `--pareto`, with `pareto.json` and `supernet/`.
        number: Of the point in `pareto.json`, from 0.
        folder: Where to write the model.
        inputs: As in `resolve`.
        form: As in `tangle_hf.extract`.

    Raises:
        ValueError: The run is not finished or has no front, there is no such point, or the folder holds something else than
            an earlier export.
    """
    run_dir, folder = Path(run_dir), Path(folder)
    _check_folders(run_dir, folder)
    if not (run_dir / "pareto.json").exists():
        raise ValueError(f"the run in {run_dir} has no front: pareto.json is missing; search with --pareto")
    points = json.loads((run_dir / "pareto.json").read_text())["points"]
    if not 0 <= number < len(points):
        raise ValueError(f"the front in {run_dir} has no point {number}; choose from 0 to {len(points) - 1}")
    supernet = load_supernet(run_dir / "supernet").eval()
    arch = supernet.space.architecture(**points[number]["arch"])
    inputs = _example(supernet) if inputs is None else inputs
    return export(supernet, arch, folder, inputs, form, _processor(run_dir / "supernet"))


def _arch_parameters(
    run_dir: Path, settings: dict, supernet: PreTrainedModel, budgets: tuple[Budget, ...]
) -> ArchParameters:
    """Those of a run; of a front, those of the budget of its cost."""
    path, cost = run_dir / "arch_parameters.safetensors", settings.get("pareto")
    if cost is None:
        arch_parameters = ArchParameters(supernet.space)
        arch_parameters.load(path)
        return arch_parameters
    limits = [budget.limit for budget in budgets if budget.cost == cost]
    if not limits:
        raise ValueError(f"the run in {run_dir} has a front over {cost}; give max_{cost}, alone or with other budgets")
    known = {name: settings[name] for name in (f.name for f in fields(SearchArguments)) if name in settings}
    front = arch_front(SearchArguments(**known), supernet, settings.get("block_size"))
    front.load(path)
    return front.at(limits[0])


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
