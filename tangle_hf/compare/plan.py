"""What a comparison trains: how, at which cost, which nets, in which rows."""

import statistics
from dataclasses import asdict
from pathlib import Path

from filelock import FileLock
from transformers import PreTrainedModel

from ..analysis.anytime import read_curve
from ..budgets.equal_cost import EqualCost, hand_cuts, random_architectures
from ..budgets.limits import Budget, make_budgets
from ..cost.counts import num_params
from ..cost.kinds import LIMITS
from ..cost.latency_tables import load_latency_table
from ..runs.about import about
from ..runs.folder import check_is_folder, check_run_folder, defaults_of, write_config, write_json
from ..space import Architecture
from ..subnets.exports import read_architecture
from ..training.trainer import TrainingSettings
from .nets import Net
from .rows import Row
from .runs import Run, data_settings, supernet_of
from .settings import BASELINES, CompareArguments


PROXY_CANDIDATES = 200  # architectures of which "most_parameters" takes one
# Settings that are taken from the first run unless the comparison is given others.
FROM_THE_RUN = ("per_device_batch_size", "gradient_accumulation_steps", "learning_rate", "min_learning_rate",
                "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "dataloader_num_workers")  # fmt: skip


def training_settings(settings: CompareArguments, run: Run) -> TrainingSettings:
    """How all nets are trained: like the first run, except for what the command line sets."""
    given = {name: getattr(settings, name) for name in ("mixed_precision", "save_steps", "warmup_ratio")}
    for name in FROM_THE_RUN:
        own = getattr(settings, name, None)
        given[name] = run.settings[name] if own is None else own
    if settings.min_learning_rate is None:
        given["min_learning_rate"] = smallest_rate(run.settings, given["learning_rate"])
    scratch = given["learning_rate"]
    if settings.finetune_learning_rate is not None:
        given["learning_rate"] = settings.finetune_learning_rate
    given["warmup_learning_rate"] = min(1e-6, given["learning_rate"], scratch)
    return TrainingSettings(**given, retrain_learning_rate=scratch, logging_steps=10**9)


def smallest_rate(searched: dict, peak: float) -> float:
    """The learning rate at the end: that of the search or, if the peak is another one, the same share of the peak."""
    least = searched["min_learning_rate"]
    return least if peak == searched["learning_rate"] else least / searched["learning_rate"] * peak


def open_folder(folder: Path, training: TrainingSettings, max_steps: int, rank_batches: int, run: Run) -> None:
    """Begins a comparison or goes on with one; what finished rows depend on must not change.

    Raises:
        ValueError: It was begun with other settings.
    """
    resolved = asdict(training) | {"max_steps": max_steps, "rank_batches": rank_batches}
    resolved |= {"space": supernet_of(run.folder).space.to_dict(), "data": data_settings(run)}
    check_is_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):  # several processes may begin at once
        begun = (folder / "config.yaml").exists()
        check_run_folder(folder, resolved, begun, {"save_steps", "dataloader_num_workers"}, defaults_of(training))
        if not begun:
            write_config(folder, resolved)
        write_json(folder / "run.json", about(training))


def check_generation(settings: CompareArguments, supernet: PreTrainedModel) -> None:
    """Refuses to time a generation that the nets cannot do.

    Raises:
        ValueError: They are no language models, or have too few positions.
    """
    if settings.generate_tokens and not supernet.can_generate():
        raise ValueError(f"generate_tokens={settings.generate_tokens} is for language models; leave it out")
    if settings.generate_tokens and settings.generate_tokens >= supernet.config.max_position_embeddings:
        raise ValueError(
            f"generate_tokens={settings.generate_tokens} must be below the {supernet.config.max_position_embeddings} "
            "positions of the nets"
        )


def limits_of(
    settings: CompareArguments, runs: list[Run], supernet: PreTrainedModel, sequence_length: int | None
) -> tuple[Budget, ...]:
    """The budgets that baselines keep to: those given, else those of the runs.

    Raises:
        ValueError: Baselines of equal cost are asked for, and there is no budget, or runs have different ones.
    """
    limits = {name: getattr(settings, name) for name in LIMITS}
    if not any(limits.values()):
        limits, *others = ({name: run.settings.get(name) for name in LIMITS} for run in runs)
        different = [run.name for run, other in zip(runs[1:], others, strict=True) if other != limits]
        if different and set(settings.baselines) - {"largest"}:
            raise ValueError(
                f"{different} have other budgets than {runs[0].name}; say with --max_params or another limit what cost "
                "baselines shall have"
            )
    if not any(limits.values()) and set(settings.baselines) - {"largest"}:
        raise ValueError("the runs have no budget that baselines could keep to; give --max_params or another")
    table = None if limits["max_latency_ms"] is None else load_latency_table(runs[0].folder / "latency_table.json")
    return make_budgets(supernet.config, **limits, sequence_length=sequence_length, latency_table=table)


def search_costs(runs: list[Run], protocol: str) -> dict[str, float | None]:
    """Method -> plain-model steps that its searches took on average, or all in all where only the best of them counts."""
    costs: dict[str, list] = {}
    for run in runs:
        costs.setdefault(run.method, []).append(run.results.get("search_cost"))
    combine = sum if protocol == "paper" else statistics.mean
    return {method: None if None in values else combine(values) for method, values in costs.items()}


def best_of_four(runs: list[Run], losses: dict[Run, float]) -> list[Run]:
    """Of the four runs of every method the one whose net has the smallest validation loss.

    Raises:
        ValueError: A method has not four runs that found something.
    """
    methods = list(dict.fromkeys(run.method for run in runs))
    best = []
    for method in methods:
        own = [run for run in losses if run.method == method]
        if len(own) != 4:
            raise ValueError(
                f"protocol=paper takes four runs of every method, {method} has {len(own)} that found a net; give four, or "
                "use --protocol every_run"
            )
        best.append(min(own, key=losses.get))
        print(f"{method}: of {', '.join(f'{run.name} {losses[run]:.4f}' for run in own)} it is {best[-1].name}")
    return best


def check_horizons(horizons: list[float], max_steps: int) -> None:
    """Refuses a training of no step.

    Raises:
        ValueError: The shortest horizon is less than one of `max_steps` steps.
    """
    if round(min(horizons) * max_steps) < 1:
        raise ValueError(f"horizons={horizons} of max_steps={max_steps} have a training of no step; use longer ones")


def found_nets(settings: CompareArguments, runs: list[Run]) -> list[Net]:
    """What the runs found, and other architectures that were given.

    Raises:
        ValueError: A file holds no architecture of the space, or a name stands for two nets.
    """
    space = supernet_of(runs[0].folder).space
    nets = [Net(run.method, run.name, run.arch, run.name) for run in runs if run.arch is not None]
    taken = {*BASELINES, *(run.name for run in runs), *(run.method for run in runs)}
    for text in settings.architectures:
        name, separator, path = text.partition("=")
        if not separator or not Path(path).is_file():
            raise ValueError(f"architectures={text} must be name=file, with the file of an architecture")
        if name in taken or name.startswith(("uniform-", "random-")):
            raise ValueError(f"architectures={text}: {name!r} is the name of another net or method; choose a new one")
        taken.add(name)
        nets.append(Net(name, name, read_architecture(path)))
    for net in nets:
        space.validate(net.arch)
    return nets


def baseline_nets(settings: CompareArguments, supernet: PreTrainedModel, cost: EqualCost | None) -> list[Net]:
    """The baselines that are asked for; prints a line where fewer exist.

    Raises:
        ValueError: The largest net is asked for in a space of operations.
    """
    space, config, asked = supernet.space, supernet.config, settings.baselines
    if "largest" in asked and not space.ordered:
        raise ValueError(
            "baselines=largest: operations have no order, so that this space has no largest net; leave it out"
        )
    nets = [Net("largest", "largest", space.largest, baseline=True)] if "largest" in asked else []
    if "uniform" in asked:
        shrinks = hand_cuts(space, cost.budgets)
        # Each is a method of its own, since a person would take the best of them and not their mean.
        names = [f"uniform-{number}" for number in range(len(shrinks))]
        nets += [Net(name, name, arch, baseline=True) for name, arch in zip(names, shrinks, strict=True)]
        if not shrinks:
            print("no net with equal layers has the cost of the budget: there is no uniform shrink to compare with")
    if "random" in asked:
        drawn = random_architectures(space, cost, settings.random_count, settings.random_seed)
        nets += [Net("random", f"random-{number}", arch, baseline=True) for number, arch in enumerate(drawn)]
        if len(drawn) < settings.random_count:
            print(f"only {len(drawn)} random architectures of equal cost were found")
    if "most_parameters" in asked:
        drawn = random_architectures(space, cost, PROXY_CANDIDATES, settings.random_seed + 1)
        # Random search with "more parameters is better" as its proxy.
        arch = max(drawn, key=lambda arch: num_params(space, arch, config))
        nets.append(Net("most_parameters", "most_parameters", arch, baseline=True))
    return nets


def planned(settings: CompareArguments, nets: list[Net], runs: list[Run]) -> list[Row]:
    """All rows, seed by seed, so that a comparison that is stopped has seen every net; what only correlations need is last."""
    rows = [row for net in nets for row in net.rows("inherit") if "inherit" in settings.modes]
    for horizon in settings.horizons:
        for turn in range(max(len(settings.seeds), len(settings.baseline_seeds))):
            for mode in ("retrain", "finetune"):
                for net in nets if mode in settings.modes else ():
                    seeds = settings.baseline_seeds if net.baseline else settings.seeds
                    rows += net.rows(mode, horizon, seeds[turn : turn + 1])
    if settings.rank_batches:
        for run in runs:
            on_the_way = [Architecture(arch) for arch in read_curve(run.folder).archs]
            rows += [Row("rank", arch, run.name) for arch in (*(net.arch for net in nets), *on_the_way)]
    return list({row.name: row for row in rows}.values())
