"""What a compression has to beat, at equal total cost: cuts by hand as people make them, trained for what is left of it.

    python benchmarks/compression.py --checkpoint teacher --max_params_without_embeddings 50.5% --cost 180 --seeds 0 1 2 \\
        --train_file austen/train.txt --validation_file austen/validation.txt --test_file austen/test.txt

`labels` and `kl`: the uniform cut of the weights as they are stored, trained on labels or on the outputs of the checkpoint.
`minitron` (arXiv:2407.14679): units and heads ordered by the mean size of their activations, layers by block influence; of all
cuts by hand the one whose loss without training is lowest on 16 examples, trained on the outputs of the checkpoint. Its ten
best are not trained in turn, which would cost more. Costs are counted as in `tangle_hf/search/search_cost.py`: calibration,
scores and the teacher's forward passes, too. `compress` is what `recipes/compress.py` does with the options given. A row of
JSON for each; test losses are those of the first `--test_examples`.
"""

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import set_seed

from tangle_hf.budgets.equal_cost import hand_cuts
from tangle_hf.compress.batches import calibration_batches, calibration_loss, evaluating
from tangle_hf.compress.candidates import uniform_cut
from tangle_hf.compress.checkpoints import FEW, load_teacher
from tangle_hf.compress.choice import nets_to_try, plan_of, recovery_cost, step_cost
from tangle_hf.compress.data import examples_of
from tangle_hf.compress.layerwise import LayerwiseTeacher
from tangle_hf.compress.order import order_units
from tangle_hf.compress.plan import first_round, rounds, wasted
from tangle_hf.compress.preparation import cost_of_cut, prepare
from tangle_hf.compress.ranks import rank_by_influence
from tangle_hf.compress.recovery import recover
from tangle_hf.compress.results import tried_rows
from tangle_hf.compress.scores import Scores, calibrate, projections
from tangle_hf.compress.settings import CompressArguments, parse_for_checkpoint
from tangle_hf.compress.sizes import Size
from tangle_hf.search import Limits
from tangle_hf.search.search_cost import SearchCost
from tangle_hf.space import Architecture
from tangle_hf.subnets.extraction import extract
from tangle_hf.training.trainer import train, training_arguments


WAYS = ("labels", "kl", "minitron", "compress")


def by_activation(supernet, batches) -> Scores:
    """Scores whose second moment times the norm is the squared mean size of an activation, whatever its weights are."""
    found, sizes = projections(supernet), {}

    def note(name):
        return lambda _, inputs: sizes.setdefault(name, []).append(inputs[0].abs().flatten(0, -2).double().mean(0))

    hooks = [p.module.register_forward_pre_hook(note(p.name)) for p in found]
    scores = calibrate(supernet, batches, progress=False)
    for hook in hooks:
        hook.remove()
    size = {name: torch.stack(values).square().mean(0) for name, values in sizes.items()}
    spread = {name: size[name] / scores.norm[name].clamp_min(1e-30) for name in size}
    return replace(scores, mean={name: torch.zeros_like(v) for name, v in spread.items()}, variance=spread)


def compressed(way: str, settings: CompressArguments, data, cost: float, seed: int, most: int | None) -> dict:
    """One net, made and trained for `cost` in all."""
    set_seed(seed)
    settings = replace(settings, seed=seed)
    # Minitron's grid is scored net by net, at its own cost.
    supernet = load_teacher(settings.checkpoint, FEW if way == "minitron" else settings.layer_sizes)
    examples = examples_of(settings.checkpoint, supernet, *data)
    (budgets,) = settings.sizes().values()
    limits = Limits.of(settings.search_settings(budgets, "nowhere"), supernet, examples.sequence_length)
    unit = SearchCost(supernet, settings.per_device_batch_size, examples.sequence_length)
    told = {"labels": (0.0, 0.0), "compress": (settings.teacher_share, settings.layer_weight)}
    share, layers = told.get(way, (1.0, 0.0))  # the others learn outputs alone
    teacher = LayerwiseTeacher(supernet, share, settings.teacher_temperature, layers) if share else None
    with tempfile.TemporaryDirectory() as folder:
        if way == "compress":
            row, model, before = by_the_recipe(
                supernet, examples, settings, budgets, limits, unit, teacher, cost, Path(folder)
            )
        else:
            arch, before = by_hand(way, supernet, examples, limits, unit, seed)
            row = {"arch": str(arch), "steps": int((cost - before) / step_cost(unit, arch, teacher))}  # taught in all
            model = extract(supernet, arch)
            row["inherited"] = examples.score(model, examples.test, 8, 8)["loss"]
            how = training_arguments(settings, "finetune", seed, Path(folder), row["steps"])
            model = train(model, examples.training(seed), how, teacher)
    test = examples.score(model, examples.test, 8, most and most // 8)["loss"]
    return {"way": way, "seed": seed, "test": test, "before": before, "parameters": model.num_parameters(), **row}


def by_hand(way: str, supernet, examples, limits: Limits, unit: SearchCost, seed: int) -> tuple[Architecture, float]:
    """A cut by hand, and what it cost to choose it."""
    if way != "minitron":
        return uniform_cut(supernet, limits).arch, 0.0
    spent, cuts = SearchCost.like(unit), hand_cuts(supernet.space, limits.budgets)
    # Its scores need no backward pass, and are counted without the one that `calibrate` makes.
    batches, few = (calibration_batches(examples.training(seed), count) for count in (64, 16))
    order_units(supernet, by_activation(supernet, batches), criterion="second_moment")
    supernet.set_layer_ranks(rank_by_influence(supernet, few, progress=False))
    spent.add_evaluation(supernet.space.largest, 64 + 16)
    with evaluating(supernet):
        losses = {arch: calibration_loss(supernet, few, arch=arch) for arch in cuts}
    for arch in cuts:
        spent.add_evaluation(arch, 16)
    return min(losses, key=losses.get), spent.spent


def by_the_recipe(supernet, examples, settings, budgets, limits, unit, teacher, cost, folder):
    """What the recipe does, with as many steps of recovery as are left."""
    accelerator, first = Accelerator(cpu=True), uniform_cut(supernet, limits)
    mean = recovery_cost(unit, first.arch, teacher, settings) / settings.max_steps
    settings = replace(settings, max_steps=int(cost / (1 + settings.choice_ratio) / mean))
    size = Size(settings.search_settings(budgets, str(folder)), limits, first)
    plan = plan_of(settings, supernet, [size], unit, teacher)
    prepared = prepare(supernet, examples, settings, plan, unit, folder, True)
    own = (settings.arch_steps, settings.hand_cuts, accelerator, unit, teacher)
    tried = nets_to_try(supernet, examples, prepared, plan, size, *own)
    spent = SearchCost.like(unit)
    nets, count = (
        [finalist.arch for finalist in tried.finalists],
        settings.finalist_batches * settings.per_device_batch_size,
    )
    for number, arch in enumerate(nets):
        spent.spent += cost_of_cut(supernet, arch, prepared, unit)
        spent.add_evaluation(arch, count * len(rounds(len(nets), 1)) if number < 2 else count)
    before = prepared.cost + sum(tried.costs.values()) + spent.spent
    before += step_cost(unit, first.arch, teacher) * wasted(len(nets), first_round(settings.max_steps))
    settings = replace(settings, max_steps=int((cost - before) / mean))
    how = training_arguments(settings, "finetune", settings.seed, folder / "checkpoints", settings.max_steps)
    best = recover(supernet, tried.finalists, prepared, settings, examples, how, teacher, accelerator, unit)
    total = prepared.cost + sum(tried.costs.values()) + sum(best.costs.values())
    rows = tried_rows(tried, best, supernet)
    row = {"arch": str(best.decision.ranked[0].arch), "steps": settings.max_steps, "total": total, "tried": rows}
    return row, best.model, total - best.costs["recovery"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--cost", type=float, required=True, help="training steps of the checkpoint, all in all")
    parser.add_argument("--test_examples", type=int, help="default: all")
    own, others = parser.parse_known_args()
    settings, _, *data = parse_for_checkpoint(others, __doc__)
    for seed in own.seeds:
        for way in own.ways:
            print(json.dumps(compressed(way, settings, data, own.cost, seed, own.test_examples)), flush=True)
