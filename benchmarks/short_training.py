"""Which short training predicts the order that nets of one size have after a full one.

    python benchmarks/short_training.py gpt2 --max_params_without_embeddings 52% --output_dir runs/short-gpt2
    python benchmarks/short_training.py gpt2 --max_params_without_embeddings 52% --train_file train.jsonl \\
        --validation_file validation.jsonl --test_file test.jsonl --output_dir runs/short-stories
    python benchmarks/short_training.py vit --dataset uoft-cs/cifar10 --max_params 50% --output_dir runs/short-vit
    python benchmarks/short_training.py cnn --max_flops 50% --json true --output_dir runs/short-cnn

`gpt2`, `vit` and `cnn` take the options of their search recipes. One search by these settings leaves the supernet. Then every
net is trained from new weights for all steps, and for a few shares of them, each with a schedule of its own that is complete:

    new             from new weights of its own, those from which the full training starts
    alone           from new weights of its own, of another seed
    shared          from slices of one set of new weights, of that other seed, as finalists are
    supernet        from the weights that the supernet has for the net; 0 % is what it inherits
    recalibrated    from these after `--recalibration_steps` at the learning rate with which the search ended
    low rate        from the supernet's, with the learning rate with which the search ended as the peak

Else all trainings have the recipe of the search, and those of one seed have the same order of data. Choices are made by the
loss on the first `--validation_batches`, the order is that of the loss on all validation data.

Every training is a line of `trainings.jsonl`: the same command goes on where it was stopped. Needs the extra `compare`, for
images `vision`, too.
"""

import json
import math
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar


sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

from tangle_hf.analysis import format_table
from tangle_hf.analysis.statistics import rank_correlation
from tangle_hf.budgets.equal_cost import equal_cost, random_architectures
from tangle_hf.compare.plan import FROM_THE_RUN
from tangle_hf.compare.rows import Row, build
from tangle_hf.data.examples import Examples
from tangle_hf.errors import readable_errors
from tangle_hf.files import replacing, to_json
from tangle_hf.models.loading import load_supernet
from tangle_hf.runs.folder import check_run_folder, defaults_of, settings_of, write_config
from tangle_hf.search import Limits, SearchArguments, search
from tangle_hf.search.loop import append_record, keep_records, step_size
from tangle_hf.search.search_cost import SearchCost
from tangle_hf.settings import parse
from tangle_hf.space import Architecture
from tangle_hf.subnets.recalibration import batch_norms
from tangle_hf.training.trainer import TrainingSettings, train, training_arguments


STARTS = ("new", "alone", "shared", "supernet", "recalibrated", "low rate")
FULL = ("new", 100.0)  # start and share of the training that says which order is right
OTHER = ("new, other seed", 100.0)
FREE = {"json", "other_seed", "nets", "shares", "rivals", "save_steps", "eval_steps", "logging_steps",
        "dataloader_num_workers"}  # fmt: skip
RESAMPLES = 1_000  # of the nets, for the range of Kendall's tau


@dataclass
class ShortArguments:
    """Which nets, and how short.

    Raises:
        ValueError: A value is out of its range.
    """

    _argument_group_name = "short trainings"

    nets: int = field(default=22, metadata={"help": "nets, all with equal layers among them; the others are random"})
    steps: int | None = field(default=None, metadata={"help": "steps of a full training; default: max_steps"})
    shares: list[float] = field(
        default_factory=lambda: [2, 5, 10, 20], metadata={"help": "steps of the short ones, in percent of a full one"}
    )
    recalibration_steps: int | None = field(
        default=None, metadata={"help": "steps of recalibrating; default: a hundredth of a full training"}
    )
    validation_batches: int = field(default=20, metadata={"help": "batches by which is chosen"})
    rivals: int = field(default=5, metadata={"help": "of how many random nets one is chosen, in the last column"})
    other_seed: bool = field(
        default=False, metadata={"help": "train each net fully with another seed, too: what such an order is worth"}
    )
    json: bool = field(default=False, metadata={"help": "print JSON in place of the table"})

    def __post_init__(self):
        for name, least in {
            "nets": 3,
            "steps": 1,
            "recalibration_steps": 1,
            "validation_batches": 1,
            "rivals": 2,
        }.items():
            if getattr(self, name) is not None and getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        if self.rivals > self.nets:
            raise ValueError(f"rivals={self.rivals} are more than nets={self.nets}")
        if not self.shares or not all(0 < share < 100 for share in self.shares):
            raise ValueError(f"shares={self.shares} must be above 0 and below 100 percent")

    def complete(self, max_steps: int) -> None:
        """Fills in what depends on the search.

        Raises:
            ValueError: The smallest share is no step.
        """
        self.steps = self.steps or max_steps
        self.recalibration_steps = self.recalibration_steps or max(1, round(self.steps / 100))
        if not round(min(self.shares) / 100 * self.steps):
            raise ValueError(f"{min(self.shares):g} percent of steps={self.steps} is no step; leave that share out")

    @property
    def plan(self) -> list[tuple[str, float]]:
        """(start, share) of all that is done with a net; with a share of 0 it is not trained (any further)."""
        short = [(start, share) for start in STARTS for share in sorted({0, *self.shares})]
        short = [each for each in short if each[1] or each[0] in ("supernet", "recalibrated")]
        return [FULL, *([OTHER] if self.other_seed else []), *short]


def parsed(argv: Sequence[str]) -> tuple:
    """The kind of net and all settings of a command line.

    Raises:
        ValueError: The first word is no kind; as `parse`.
    """
    kinds = {"gpt2": _gpt2, "vit": _vit, "cnn": _cnn}
    if argv[:1] in (["-h"], ["--help"]):
        print(__doc__)
        raise SystemExit(0)
    if not argv or argv[0] not in kinds:
        raise ValueError(f"the first argument must be one of {list(kinds)}, got {list(argv[:1])}; as in `gpt2 --help`")
    types, load = kinds[argv[0]]()
    short, settings, *others = parse(ShortArguments, *types, argv=argv[1:], description=__doc__)
    return short, settings, others, load


def _gpt2() -> tuple:
    from functools import partial

    import search_gpt

    from tangle_hf import ElasticGPT2LMHeadModel
    from tangle_hf.data.text_examples import load_text
    from tangle_hf.data.text_settings import DataArguments
    from tangle_hf.models.space_settings import SpaceArguments
    from tangle_hf.runs.text_supernets import text_supernet

    def load(settings, accelerator, space, data):
        text = load_text(data)
        make_config = partial(search_gpt.supernet_config, space, data.block_size)
        return text, text_supernet(ElasticGPT2LMHeadModel, make_config, data, text.processor)

    return (SearchArguments, SpaceArguments, DataArguments), load


def _vit() -> tuple:
    import search_vit

    from tangle_hf.data.images.settings import ImageArguments
    from tangle_hf.models.space_settings import ViTSpaceArguments
    from tangle_hf.runs.image_search import SmallAugmentationArguments, load_for_search

    def load(settings, accelerator, space, data, augmentation):
        images = load_for_search(data, augmentation, accelerator, None)
        return images, search_vit.build_supernet(space, data.num_channels, images.image_size, images.names)

    return (search_vit.ImageSearchArguments, ViTSpaceArguments, ImageArguments, SmallAugmentationArguments), load


def _cnn() -> tuple:
    import search_cnn

    from tangle_hf.models.space_settings import ConvSpaceArguments
    from tangle_hf.runs.conv_examples import conv_examples
    from tangle_hf.runs.image_search import ConvImageArguments, SmallAugmentationArguments, load_for_search

    def load(settings, accelerator, space, data, augmentation):
        images = load_for_search(data, augmentation, accelerator, None)
        supernet = search_cnn.supernet_for(space, data.num_channels, images.image_size, images.names)
        portion, batch = settings.train_portion, settings.per_device_batch_size
        return conv_examples(images, portion, settings.seed, space.recalibration_batches, batch=batch), supernet

    kinds = (search_cnn.ConvSearchArguments, ConvSpaceArguments, ConvImageArguments, SmallAugmentationArguments)
    return kinds, load


def searched(supernet: PreTrainedModel, examples: Examples, settings: SearchArguments, limits: Limits, accelerator):
    """The supernet with the weights that a search leaves, from the disk where it is there; None if the search was stopped."""
    folder = Path(settings.output_dir)
    if not (folder / "supernet").is_dir():
        weights, architecture = examples.split(settings.train_portion, settings.seed, step_size(settings, accelerator))
        settings.resume = any(folder.glob("checkpoints/*"))
        if search(supernet, weights, architecture, settings, accelerator, limits=limits) is None:
            return None
        with replacing(folder / "supernet", "config.json") as whole:
            supernet.save_pretrained(whole)
    loaded = load_supernet(folder / "supernet").eval().to(accelerator.device)
    loaded.loss_type = supernet.loss_type
    return loaded


def nets_of(supernet: PreTrainedModel, limits: Limits, count: int, seed: int) -> list[Architecture]:
    """Different nets of the cost of the budget: all with equal layers, then random ones.

    Raises:
        ValueError: There are not so many, or more with equal layers.
    """
    space, cost = supernet.space, equal_cost(supernet.space, limits.budgets)
    equal = [arch for arch in space.equal_layers() if cost.of(arch)]
    if len(equal) > count:
        raise ValueError(
            f"{len(equal)} nets with equal layers have the cost of the budget, nets={count} is fewer; give more"
        )
    found = [*equal, *(arch for arch in random_architectures(space, cost, count, seed) if arch not in equal)][:count]
    if len(found) < count:
        raise ValueError(
            f"only {len(found)} nets of the cost of the budget were found, nets={count}; choose another budget"
        )
    return found


class Trainings:
    """Trains nets and scores them.

    Args:
        supernet: After its search.
        examples: Data.
        settings: Of the search, which the trainings take over.
        short: Complete.
        limits: Of the search.
        batch: Examples of a step.
    """

    def __init__(self, supernet, examples: Examples, settings: SearchArguments, short, limits: Limits, batch: int):
        self.supernet, self.examples, self.settings, self.short = supernet, examples, settings, short
        self._length, self._batch, self._folder = limits.sequence_length, batch, Path(settings.output_dir) / "trainer"
        given = {name: getattr(settings, name) for name in FROM_THE_RUN}
        given |= {"optimizer": settings.optimizer, "nesterov": settings.nesterov, "logging_steps": 10**9}
        given |= {"mixed_precision": settings.mixed_precision or "no", "save_steps": 10**9}
        rate = settings.min_learning_rate  # with which the search ended
        low = {"learning_rate": rate, "min_learning_rate": rate / 10}
        still = dict.fromkeys(("learning_rate", "min_learning_rate", "warmup_learning_rate"), rate)
        self._recipe, self._low = TrainingSettings(**given), TrainingSettings(**(given | low))
        self._still = TrainingSettings(**(given | still), warmup_ratio=0)

    def record(self, arch: Architecture, start: str, share: float) -> dict:
        """Trains a net as one (start, share) says, and scores it."""
        seed = self.settings.seed + (start in ("alone", "shared") or (start, share) == OTHER)
        began, steps = time.process_time(), round(share / 100 * self.short.steps)
        set_seed(seed)
        source = (
            type(self.supernet)(self.supernet.config).to(self.supernet.device) if start == "shared" else self.supernet
        )
        source.loss_type = self.supernet.loss_type
        model = build(source, Row("retrain" if start == "alone" or start.startswith("new") else "finetune", arch))
        taken = steps
        if start == "recalibrated":
            model = self._train(model, self._still, self.short.recalibration_steps, seed + 1)
            taken += self.short.recalibration_steps
        if steps:
            model = self._train(model, self._low if start == "low rate" else self._recipe, steps, seed)
        size = self.settings.per_device_batch_size
        if batch_norms(model):
            self.examples.settle(model, size)
        most = None if share == FULL[1] else self.short.validation_batches
        scores = dict(self.examples.score(model, self.examples.validation, size, most))
        return {"arch": arch.to_dict(), "start": start, "share": share, "steps": taken, **scores,
                "cpu_seconds": time.process_time() - began}  # fmt: skip

    def cost(self, arch: Architecture, record: Mapping) -> float:
        """What it takes to train a net and to score it by as much as choices take, in training steps of the largest net."""
        cost, size = SearchCost(self.supernet, self._batch, self._length), self.settings.per_device_batch_size
        for _ in range(record["steps"]):
            cost.add_weight_step(arch)
        cost.add_evaluation(arch, min(len(self.examples.validation), self.short.validation_batches * size))
        return cost.spent

    def _train(self, model: PreTrainedModel, recipe: TrainingSettings, steps: int, seed: int) -> PreTrainedModel:
        shutil.rmtree(self._folder, ignore_errors=True)  # of a training that was stopped
        set_seed(seed)
        arguments = training_arguments(recipe, "retrain", seed, self._folder, steps)
        model = train(model.train(), self.examples.training(seed), arguments)
        shutil.rmtree(self._folder, ignore_errors=True)
        return model


def summary(
    losses: Mapping[tuple, Sequence[float]], costs: Mapping[tuple, Sequence[float]], alike: Sequence, rivals: int
) -> list[dict]:
    """How well each (start, share) predicts the order of the full training.

    Args:
        losses: (start, share) -> the loss of every net.
        costs: (start, share) -> what every net took, in training steps of the largest net.
        alike: What each net has in common with some others, such as its width.
        rivals: Of how many random nets one is chosen in "regret of".
    """
    final, rows = losses[FULL], []
    for (start, share), predicted in losses.items():
        chosen = final[min(range(len(final)), key=predicted.__getitem__)]
        low, high = _range(predicted, final)
        rows.append({
            "start": start, "share": share, "loss": statistics.mean(predicted),
            "kendall": rank_correlation(predicted, final).kendall, "kendall_low": low, "kendall_high": high,
            "kendall_alike": _among_alike(predicted, final, alike),
            "kendall_other_seed": rank_correlation(predicted, losses[OTHER]).kendall if OTHER in losses else None,
            "regret": chosen - min(final), "rank": 1 + sum(loss < chosen for loss in final),
            "rivals_regret": _of_rivals(predicted, final, rivals) - _of_rivals(final, final, rivals),
            "cost": statistics.mean(costs[start, share]),
        })  # fmt: skip
    return rows


def _range(predicted: Sequence[float], final: Sequence[float]) -> tuple[float, float]:
    """The 5th and 95th percentile of Kendall's tau over resampled nets."""
    rng, found, count = random.Random(0), [], len(final)
    for _ in range(RESAMPLES):
        drawn = rng.choices(range(count), k=count)
        found.append(rank_correlation([predicted[n] for n in drawn], [final[n] for n in drawn]).kendall)
    cuts = statistics.quantiles([tau for tau in found if tau is not None], n=20)
    return cuts[0], cuts[-1]


def _among_alike(predicted: Sequence[float], final: Sequence[float], alike: Sequence) -> float | None:
    """Kendall's tau over the pairs of nets that are alike; None without any."""
    pairs = [(a, b) for a, b in combinations(range(len(final)), 2) if alike[a] == alike[b] and final[a] != final[b]]
    signs = [math.copysign(1, (predicted[a] - predicted[b]) * (final[a] - final[b])) for a, b in pairs]
    return statistics.mean(signs) if pairs else None


def _of_rivals(predicted: Sequence[float], final: Sequence[float], rivals: int) -> float:
    """The mean final loss of the net that is predicted best of some, over all ways to draw so many nets::

    sum over the nets, by their predicted rank i = 0, 1, ... of final * C(n - 1 - i, rivals - 1) / C(n, rivals)
    """
    order, count = sorted(range(len(final)), key=predicted.__getitem__), len(final)
    ways = [math.comb(count - 1 - rank, rivals - 1) for rank in range(count)]
    return sum(final[net] * way for net, way in zip(order, ways, strict=True)) / math.comb(count, rivals)


def report(trainings: Trainings, records: Mapping[tuple, dict], nets: Sequence[Architecture]) -> None:
    """Prints the table, or JSON."""
    short = trainings.short
    found = {each: [records[(arch, *each)] for arch in nets] for each in short.plan}
    losses = {each: [record["loss"] for record in of_each] for each, of_each in found.items()}
    costs = {each: [trainings.cost(*pair) for pair in zip(nets, found[each], strict=True)] for each in short.plan}
    space = trainings.supernet.space
    width = [tuple(arch.values(name)[0] for name in space.whole_net) for arch in nets]
    rows, final = summary(losses, costs, width, short.rivals), losses[FULL]
    blind = statistics.mean(final)
    facts = {"nets": len(nets), "steps": short.steps, "recalibration_steps": short.recalibration_steps,
             "best": min(final), "worst": max(final), "blind_regret": blind - min(final), "rivals": short.rivals,
             "blind_rivals_regret": blind - _of_rivals(final, final, short.rivals), "rows": rows}  # fmt: skip
    if short.json:
        return print(to_json(facts, indent=2))
    print(
        f"\n{len(nets)} nets, {short.steps} steps, loss from {min(final):.4f} to {max(final):.4f}; a blind choice has a "
        f"regret of {facts['blind_regret']:.4f}, among {short.rivals} of {facts['blind_rivals_regret']:.4f}; recalibrated for "
        f"{short.recalibration_steps} steps"
    )
    print(format_table([
        {"start": row["start"], "share": f"{row['share']:g} %", "mean loss": f"{row['loss']:.3f}",
         "tau": _rounded(row["kendall"]), "90 % of tau": f"{row['kendall_low']:.2f} to {row['kendall_high']:.2f}",
         "of one width": _rounded(row["kendall_alike"]),
         **({"other seed": _rounded(row["kendall_other_seed"])} if short.other_seed else {}),
         "regret": f"{row['regret']:.4f}", "rank": f"{row['rank']}",
         f"regret of {short.rivals}": f"{row['rivals_regret']:.4f}", "cost": f"{row['cost']:.1f}"}
        for row in rows
    ]))  # fmt: skip


def _rounded(tau: float | None) -> str:
    return "-" if tau is None else f"{tau:.2f}"


def main(short: ShortArguments, settings: SearchArguments, others: Sequence, load) -> None:
    """The search and all trainings that are not done yet, then the table."""
    with redirect_stdout(sys.stderr):  # so that what is printed of JSON is JSON
        found = trained(short, settings, others, load)
    print("stopped; the same command goes on", file=sys.stderr) if found is None else report(*found)


def trained(
    short: ShortArguments, settings: SearchArguments, others: Sequence, load
) -> tuple[Trainings, dict[tuple, dict], list[Architecture]] | None:
    """What `report` takes; None if the search was stopped.

    Raises:
        ValueError: Settings that this benchmark is not for; as `nets_of`, `check_run_folder` and what reads the data.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("this benchmark trains in one process; start it with python")
    if settings.resolved_method.two_stage or settings.pareto:
        raise ValueError("the supernet is that of a search for one net by a method of one stage; leave the others out")
    if settings.start_from is not None:
        raise ValueError(
            f"start_from={settings.start_from!r}: the full trainings start from new weights; leave it out"
        )
    if not settings.given_limits() or settings.asks_for_latency:
        raise ValueError("nets of one size need a budget of parameters or FLOPs; give --max_params 50% or another")
    short.complete(settings.max_steps)
    folder, parts = Path(settings.output_dir), (short, settings, *others)
    begun, resolved = (folder / "config.yaml").exists(), settings_of(*parts)
    check_run_folder(folder, resolved, begun, FREE, defaults_of(*parts))
    disable_progress_bar()  # of loading and saving
    accelerator = Accelerator(mixed_precision=settings.mixed_precision)
    set_seed(settings.seed)
    examples, supernet = load(settings, accelerator, *others)
    limits = Limits.of(settings, supernet, examples.sequence_length)
    nets = nets_of(supernet, limits, short.nets, settings.seed)
    if not begun:
        folder.mkdir(parents=True, exist_ok=True)
        write_config(folder, resolved)
    supernet = searched(supernet, examples, settings, limits, accelerator)
    if supernet is None:
        return None
    trainings = Trainings(supernet, examples, settings, short, limits, step_size(settings, accelerator))
    file = folder / "trainings.jsonl"
    kept = keep_records(file, lambda record: True)
    records = {(Architecture(record["arch"]), record["start"], record["share"]): record for record in kept}
    for number, arch in enumerate(nets, 1):
        for start, share in short.plan:
            if (arch, start, share) not in records:
                record = trainings.record(arch, start, share)
                append_record(file, record)
                records[arch, start, share] = record
        shown = json.dumps(
            {f"{start} {share:g} %": round(records[arch, start, share]["loss"], 4) for start, share in short.plan}
        )
        print(f"net {number} of {len(nets)}: {arch} {shown}", file=sys.stderr, flush=True)
    return trainings, records, nets


if __name__ == "__main__":
    with readable_errors():
        main(*parsed(sys.argv[1:]))
