"""Another budget for a finished search: its trained distribution is discretised again, nothing is trained."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import logging

from ..arch_parameters import ArchParameters, one_hot
from ..budgets.discretisation import Candidate, discretise
from ..budgets.equal_cost import BAND
from ..budgets.limits import Budget, make_budgets
from ..cost.kinds import LIMITS
from ..cost.latency_profiles import compare
from ..cost.latency_tables import LatencyTable, check_latency_table, load_latency_table
from ..cost.timing import build_nets, conditions, measure
from ..files import check_replaceable
from ..models.example_inputs import example_inputs
from ..models.loading import load_processor, load_supernet
from ..run_files import ARCH_PARAMETERS, read_results, read_settings, supernet_folder
from ..samplers import SAMPLERS, sampler
from ..search.gradient.arch_front import ArchFront
from ..search.limits import Limits
from ..search.settings import SearchArguments
from ..space import Architecture
from ..subnets.exports import EXPORT, Export, export
from ..subnets.recalibration import batch_norms, recalibrate


logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class Resolved:
    """What was found for the new budgets.

    Args:
        candidate: The architecture, its log-probability and its costs.
        limits: The budgets in whole numbers, latency in milliseconds, by cost.
        export: The exported model.
        latency: Its predicted and its measured milliseconds, where latency has a budget.
    """

    candidate: Candidate
    limits: dict[str, int | float]
    export: Export
    latency: dict[str, float] | None = None


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
    latency_table: str | Path | None = None,
    allow_other_latency_table: bool = False,
    batches: Iterable[Tensor] | None = None,
) -> Resolved:
    """Finds the best architecture of a finished run within other budgets, and exports it.

    Args:
        run_dir: Folder of the run, or of a supernet that was published with its `arch_parameters.safetensors`. Of a run with
            `pareto` the distribution at the new limit of the front's cost is taken.
        budgets: Name of a budget, "max_params", "max_flops" and so on -> amount, such as 20M or "50%". FLOPs of text are
            those of a block of the run.
        folder: Where to write the model.
        standard_only: Only architectures that have the stock form.
        count: How many candidates to rank by `loss`.
        loss: Loss of an architecture in the supernet that it is given; None takes the most likely architecture.
        inputs: Arguments of one forward pass to compare the export by; made up if None.
        form: "stock", "padded", "compact", or "auto": stock where the architecture has that form, else compact.
        latency_table: File of measured times for "max_latency_ms"; the run's own if None. What is found is timed with its
            batch size and length.
        allow_other_latency_table: Take it even if it was measured under other conditions than those here.
        batches: Training images (batch, channels, height, width), from which what is exported gets batch-norm statistics of
            its own; without them a net with batch norms keeps those of the saved supernet, which warns.

    Raises:
        ValueError: The run is not finished or of two stages, a budget is unknown or cannot be kept, the latency table is
            missing or was measured under other conditions, or the folder holds something else than an earlier export.
    """
    check_replaceable(folder, *EXPORT)
    within = find_within(run_dir, budgets, standard_only, latency_table, allow_other_latency_table)
    supernet, limits, count = within.supernet, within.limits, 1 if loss is None else count
    candidates = discretise(
        supernet, within.shares, limits.budgets, count=count, band=BAND, standard_only=standard_only
    )
    if loss is not None:
        candidates = sorted(candidates, key=lambda candidate: loss(supernet, candidate.arch))
    settle_batch_norms(supernet, candidates[0].arch, batches)
    return write_resolved(within, candidates[0], run_dir, folder, inputs, form)


@dataclass(frozen=True)
class Within:
    """A finished run, and what is to hold for another of its nets.

    Args:
        settings: Those of the run; of a published supernet those in the header of its logits, as text.
        supernet: Its supernet, where latency is limited on the device of the latency table.
        limits: The new ones.
        arch_parameters: What the search has trained, at these limits.
    """

    settings: dict
    supernet: PreTrainedModel
    limits: Limits
    arch_parameters: ArchParameters

    @property
    def shares(self) -> dict[str, Tensor]:
        """The distribution at these limits."""
        return self.arch_parameters.probabilities(sampler(self.settings["method"]))


def find_within(
    run_dir: str | Path,
    budgets: Mapping[str, str | int],
    standard_only: bool = False,
    latency_table: str | Path | None = None,
    allow_other_latency_table: bool = False,
) -> Within:
    """Reads a finished run for other budgets; arguments and errors are those of `resolve`."""
    run_dir, table = Path(run_dir), None
    _check(run_dir)
    if unknown := budgets.keys() - LIMITS.keys():
        raise ValueError(f"{sorted(unknown)} are not budgets; choose from {list(LIMITS)}")
    settings = _settings(run_dir)
    supernet = load_supernet(supernet_folder(run_dir)).eval()
    if "max_latency_ms" in budgets:
        table = load_latency_table(latency_table or run_dir / "latency_table.json")
        if table.conditions["device"] == _accelerator():
            supernet.to(_accelerator())
        here = conditions(supernet, **_timed_inputs(table))
        check_latency_table(table, supernet.space, here, allow_other=allow_other_latency_table)
    length = _block_size(settings)
    given = make_budgets(supernet.config, **budgets, latency_table=table, sequence_length=length)
    limits = Limits(given, (given,), standard_only, length, table)
    return Within(settings, supernet, limits, _arch_parameters(run_dir, settings, supernet, given))


def write_resolved(
    within: Within,
    candidate: Candidate,
    run_dir: str | Path,
    folder: str | Path,
    inputs: Mapping[str, Tensor] | None = None,
    form: str = "auto",
) -> Resolved:
    """Exports what was found within other budgets, and times it where latency is limited."""
    supernet, table = within.supernet, within.limits.latency_table
    inputs = {n: v.to(supernet.device) for n, v in (inputs or example_inputs(supernet)).items()}
    written = export(supernet, candidate.arch, folder, inputs, form, load_processor(supernet_folder(run_dir)))
    latency = None
    if table is not None:
        timed = example_inputs(supernet, **_timed_inputs(table))
        (ms,) = measure(build_nets(supernet, [candidate.arch], written.form), timed, progress=False)
        latency = compare(table, candidate.arch, ms)
    return Resolved(candidate, {b.cost: b.in_units(b.limit) for b in within.limits.budgets}, written, latency)


def settle_batch_norms(supernet: PreTrainedModel, arch: Architecture, batches: Iterable[Tensor] | None) -> None:
    """Gives a supernet the batch-norm statistics of an architecture before that is exported.

    Args:
        supernet: Its statistics are replaced.
        arch: The architecture.
        batches: Training images (batch, channels, height, width); None leaves the statistics as they are, and warns if there
            are any.
    """
    if batches is not None:
        recalibrate(supernet, batches, one_hot(supernet.space, arch))
    elif batch_norms(supernet):
        logger.warning(
            "the batch norms keep the statistics of the saved supernet, which are not those of this net; pass batches of "
            "training images, or run tangle-hf recalibrate on the exported folder"
        )


def _timed_inputs(table: LatencyTable) -> dict[str, int | None]:
    """What nets were timed on, as arguments of `example_inputs` and `conditions`."""
    return {name: table.conditions[name] for name in ("batch_size", "sequence_length")}


def _accelerator() -> str | None:
    """The kind of accelerator at hand, as a table names it."""
    return torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else None


def extract_point(
    run_dir: str | Path,
    number: int,
    folder: str | Path,
    inputs: Mapping[str, Tensor] | None = None,
    form: str = "auto",
    batches: Iterable[Tensor] | None = None,
) -> Export:
    """Exports one architecture of a finished run's front.

    Args:
        run_dir: Folder of a run with `--pareto`, with `pareto.json` and `supernet/`.
        number: Of the point in `pareto.json`, from 0.
        folder: Where to write the model.
        inputs: Arguments of one forward pass to compare the export by; made up if None.
        form: "stock", "padded", "compact", or "auto": stock where the architecture has that form, else compact.
        batches: Training images, from which what is exported gets batch-norm statistics of its own.

    Raises:
        ValueError: The run is not finished or has no front, there is no such point, or the folder holds something else than
            an earlier export.
    """
    arch = front_point(run_dir, number)
    check_replaceable(folder, *EXPORT)
    supernet = load_supernet(supernet_folder(run_dir)).eval()
    settle_batch_norms(supernet, arch, batches)
    return export(supernet, arch, folder, inputs, form, load_processor(supernet_folder(run_dir)))


def front_point(run_dir: str | Path, number: int) -> Architecture:
    """One architecture of a finished run's front.

    Args:
        run_dir: Folder of a run with `--pareto`, with `pareto.json`.
        number: Of the point in `pareto.json`, from 0.

    Raises:
        ValueError: The run is not finished or has no front, or there is no such point.
    """
    run_dir = Path(run_dir)
    _check(run_dir)
    path = run_dir / "pareto.json"
    if not path.exists():
        raise ValueError(f"the run in {run_dir} has no front: {path.name} is missing; search with --pareto")
    points = read_results(path)["points"]
    if not 0 <= number < len(points):
        raise ValueError(f"the front in {run_dir} has no point {number}; choose from 0 to {len(points) - 1}")
    return Architecture(points[number]["arch"])


def _arch_parameters(
    run_dir: Path, settings: dict, supernet: PreTrainedModel, budgets: tuple[Budget, ...]
) -> ArchParameters:
    """The architecture parameters of a run; of a run with a front, those of the budget of the front's cost."""
    path, cost = run_dir / ARCH_PARAMETERS, settings.get("pareto")
    if cost is None:
        arch_parameters = ArchParameters(supernet.space)
        arch_parameters.load(path)
        return arch_parameters
    limits = [budget.limit for budget in budgets if budget.cost == cost]
    if not limits:
        raise ValueError(f"the run in {run_dir} has a front over {cost}; give max_{cost}, alone or with other budgets")
    known = {name: settings[name] for name in (f.name for f in fields(SearchArguments)) if name in settings}
    if cost == "latency_ms":
        known["latency_table"] = str(run_dir / "latency_table.json")  # the one of the search
    searched = SearchArguments(**known)
    anchors = Limits.of(searched, supernet, _block_size(settings)).anchors
    front = ArchFront(supernet.space, sampler(searched.sampler), anchors, searched)
    front.load(path)
    discretise(supernet, front.anchors[0].probabilities(front.method), budgets)  # one that cannot be kept says so here
    return front.at(limits[0])


def _check(run_dir: Path) -> None:
    if (run_dir / "candidates.jsonl").is_file():
        raise ValueError(
            f"{run_dir} was searched in two stages and has no logits to discretise again; search again with the budget, or "
            "take a candidate within it from candidates.jsonl"
        )
    needed = [supernet_folder(run_dir) / "config.json", run_dir / ARCH_PARAMETERS]
    if missing := [str(path.relative_to(run_dir)) for path in needed if not path.is_file()]:
        raise ValueError(
            f"{run_dir} is no finished run and no supernet with its logits: {', '.join(missing)} missing; finish a run "
            "with --resume"
        )


def _settings(run_dir: Path) -> dict:
    """The settings of a run; of a published supernet those in the header of its logits, as text."""
    with safe_open(run_dir / ARCH_PARAMETERS, "pt") as file:
        settings = file.metadata() or {}
    if (run_dir / "config.yaml").is_file():
        settings |= read_settings(run_dir)
    if "method" not in settings:
        raise ValueError(f"{run_dir / ARCH_PARAMETERS} does not say which method trained it; resolve the run itself")
    if settings["method"] not in SAMPLERS:
        raise ValueError(
            f"the run in {run_dir} used {settings['method']}, which trains no distribution to discretise again; its "
            "candidates.jsonl has every architecture that it scored"
        )
    return settings


def _block_size(settings: dict) -> int | None:
    length = settings.get("block_size")
    return None if length is None else int(length)
