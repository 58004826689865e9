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
from .plan import INFLUENCE, Plan, passes, removal_cost, sensitivity_cost
from .ranks import rank_by_influence, rank_by_removal
from .scores import Scores, calibrate, projections
from .sensitivities import sensitivities
from .settings import CompressArguments


FOUND = SCORES, RANKS, RISES = "scores.safetensors", "layer_ranks.json", "sensitivities.safetensors"


@dataclass(frozen=True)
class Prepared:
    """What came of it.

    Args:
        scores: Of the units, in their new order.
        batches: Some of the calibration data, by which nets are compared before they are trained.
        absorbing: Of these, what means are absorbed by.
        rises: What `sensitivities` gave, on the ordered checkpoint; None: nothing was tried.
        cost: What it cost, in training steps of the checkpoint.
    """

    scores: Scores
    batches: list[dict[str, Tensor]]
    absorbing: list[dict[str, Tensor]]
    rises: dict[str, Tensor] | None
    cost: float


def prepare(
    supernet: PreTrainedModel,
    examples: Examples,
    settings: CompressArguments,
    plan: Plan,
    cost: SearchCost,
    folder: Path,
    main_process: bool,
) -> Prepared:
    """Orders a checkpoint in place; what was found out stays in the folder, and a resumed run finds nothing out again.

    Args:
        supernet: The checkpoint as it was loaded.
        examples: Its data; some of the training examples are looked at.
        settings: How many of them.
        plan: What else is found out, and on how many.
        cost: Says what a forward pass costs; nothing is added to it.
        folder: Folder of the run; what is in it is read if the settings resume it.
        main_process: Whether this process writes and shows progress.
    """
    data = examples.training(settings.seed)
    # Images may lie class by class; text is taken as it comes, and so are streams.
    order = settings.seed if examples.sequence_length is None and hasattr(data, "__len__") else None
    few_at_once = min(
        8, settings.per_device_batch_size
    )  # it goes backward, too, and that has to fit as a training step does
    batches = calibration_batches(data, settings.calibration_examples, few_at_once, seed=order)
    space, seen = supernet.space, sum(len(batch["labels"]) for batch in batches)
    spent, show = passes(cost, space, 2 * seen), main_process  # forward, and backward through activations alone
    known = folder / SCORES
    scores = Scores.load(known) if settings.resume and known.is_file() else calibrate(supernet, batches, show)
    ordered = order_units(supernet, scores)
    found, ranked = folder / RANKS, None
    if plan.ranked is not None:
        few = calibration_batches(data, plan.ranked or INFLUENCE, seed=order)
        if settings.resume and found.is_file():
            ranked = read_results(found)
        elif plan.ranked:
            ranks, losses = rank_by_removal(supernet, few, progress=show)
            ranked = {"ranks": ranks, "losses": losses, "examples": plan.ranked}
        else:
            ranked = {"ranks": rank_by_influence(supernet, few, show), "losses": None, "examples": INFLUENCE}
        supernet.set_layer_ranks(ranked["ranks"])
        spent += removal_cost(space, cost, plan.ranked) if plan.ranked else passes(cost, space, INFLUENCE)
    few = calibration_batches(data, settings.sensitivity_examples, seed=order)
    path, rises = folder / RISES, None
    if plan.sensitive:
        fewer = calibration_batches(data, plan.sensitive, seed=order)
        spent += sensitivity_cost(space, cost, plan.sensitive)
        if settings.resume and path.is_file():
            rises = load_file(path)
        else:
            with evaluating(supernet):
                rises = sensitivities(space, lambda arch: calibration_loss(supernet, fewer, arch=arch), show)
    if main_process:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            scores.save(known)
            if ranked is not None:
                write_json(found, ranked)
            if rises is not None:
                save_file(rises, path)
    absorbing = calibration_batches(data, plan.absorbing, seed=order) if plan.absorbing else []
    return Prepared(ordered, few, absorbing, rises, spent)


def cut(supernet: PreTrainedModel, arch: Architecture, prepared: Prepared, show: bool) -> PreTrainedModel:
    """A net as it is cut from the ordered checkpoint; biases take over the mean of what is dropped where the loss falls.

    Args:
        supernet: The checkpoint, ordered.
        arch: The net's architecture.
        prepared: What was found out about the checkpoint.
        show: Whether this process shows progress.
    """
    model = extract(supernet, arch)
    if prepared.absorbing and mean_outputs(supernet, arch, prepared.scores, projections(supernet)):
        absorb_means(model, supernet, arch, prepared.scores, prepared.absorbing, show)
    return model


def cost_of_cut(supernet: PreTrainedModel, arch: Architecture, prepared: Prepared, cost: SearchCost) -> float:
    """What `cut` cost, in training steps of the checkpoint: a pass without and one for every bias that was tried."""
    spent, tried = SearchCost.like(cost), mean_outputs(supernet, arch, prepared.scores, projections(supernet))
    examples = sum(len(batch["labels"]) for batch in prepared.absorbing)
    spent.add_evaluation(arch, examples * (1 + len(tried)) if tried else 0)
    return spent.spent
