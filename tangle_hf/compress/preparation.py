"""What is done once for a checkpoint, whatever the budget: units ordered, layers ranked, single choices tried."""

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from ..data.examples import Examples
from ..errors import writing
from ..run_files import read_results
from ..runs.folder import write_json
from ..search.search_cost import SearchCost
from ..space import Architecture
from ..subnets.extraction import extract
from .batches import calibration_batches, calibration_loss, evaluating
from .means import absorb_means, mean_outputs
from .order import order_units
from .ranks import rank_by_removal
from .scores import Scores, calibrate, projections
from .sensitivities import sensitivities
from .settings import CompressArguments


@dataclass(frozen=True)
class Prepared:
    """What came of it.

    Args:
        scores: Of the units, in their new order.
        batches: The calibration data that single choices were tried on.
        rises: What `sensitivities` gave, on the ordered checkpoint.
        removals: Loss without the k layers of the highest ranks, k = 0, 1, ...
        cost: What it cost, in training steps of the checkpoint.
    """

    scores: Scores
    batches: list[dict[str, Tensor]]
    rises: dict[str, Tensor]
    removals: list[float]
    cost: float


def prepare(
    supernet: PreTrainedModel,
    examples: Examples,
    settings: CompressArguments,
    cost: SearchCost,
    folder: Path,
    main_process: bool,
) -> Prepared:
    """Orders a checkpoint in place; what was found out stays in the folder, and a resumed run finds nothing out again.

    Args:
        supernet: The checkpoint as it was loaded.
        examples: Its data; the first training examples are looked at.
        settings: How many.
        cost: Says what a forward pass costs; nothing is added to it.
        folder: Folder of the run; what is in it is read if the settings resume it.
        main_process: Whether this process writes and shows progress.
    """
    batches = calibration_batches(examples.training(settings.seed), settings.calibration_examples)
    seen = sum(len(batch["labels"]) for batch in batches)
    spent, largest = SearchCost.like(cost), supernet.space.largest
    spent.add_evaluation(largest, seen)
    known = folder / "scores.safetensors"
    scores = Scores.load(known) if settings.resume and known.is_file() else calibrate(supernet, batches, main_process)
    ordered = order_units(supernet, scores)
    found = folder / "layer_ranks.json"
    if settings.resume and found.is_file():
        ranked = read_results(found)
    else:
        ranks, losses = rank_by_removal(supernet, batches, progress=main_process)
        ranked = {"ranks": ranks, "losses": losses}
    supernet.set_layer_ranks(ranked["ranks"])
    layers = len(ranked["ranks"])
    for kept in range(layers, supernet.space.depths[0], -1):  # what stands in front of a layer is computed once
        spent.add_evaluation(largest, round(seen * (1 + kept / 2) * kept / layers))
    few = calibration_batches(examples.training(settings.seed), settings.sensitivity_examples)
    passes: list[Architecture] = []

    def loss(arch: Architecture) -> float:
        passes.append(arch)
        return calibration_loss(supernet, few, arch=arch)

    path = folder / "sensitivities.safetensors"
    if settings.resume and path.is_file():
        rises = load_file(path)
        spent_on_rises = read_results(found)["cost_of_sensitivities"]
    else:
        with evaluating(supernet):
            rises = sensitivities(supernet.space, loss, main_process)
        before = spent.spent
        for arch in passes:
            spent.add_evaluation(arch, sum(len(batch["labels"]) for batch in few))
        spent_on_rises, spent.spent = spent.spent - before, before
    if main_process:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            scores.save(folder / "scores.safetensors")
            write_json(found, ranked | {"cost_of_sensitivities": spent_on_rises})
            save_file(rises, path)
    return Prepared(ordered, few, rises, ranked["losses"], spent.spent + spent_on_rises)


def cut(supernet: PreTrainedModel, arch: Architecture, prepared: Prepared, show: bool) -> PreTrainedModel:
    """A net as it is cut from the ordered checkpoint; biases take over the mean of what is dropped where the loss falls.

    Args:
        supernet: The checkpoint, ordered.
        arch: The net's architecture.
        prepared: What was found out about the checkpoint.
        show: Whether this process shows progress.
    """
    model = extract(supernet, arch)
    if mean_outputs(supernet, arch, prepared.scores, projections(supernet)):
        absorb_means(model, supernet, arch, prepared.scores, prepared.batches, show)
    return model


def cost_of_cut(supernet: PreTrainedModel, arch: Architecture, prepared: Prepared, cost: SearchCost) -> float:
    """What `cut` cost, in training steps of the checkpoint: a pass without and one for every bias that was tried."""
    spent, tried = SearchCost.like(cost), mean_outputs(supernet, arch, prepared.scores, projections(supernet))
    examples = sum(len(batch["labels"]) for batch in prepared.batches)
    spent.add_evaluation(arch, examples * (1 + len(tried)) if tried else 0)
    return spent.spent
