"""Another budget for a finished search, decided by finalists: its proposals within the budget beside cuts by hand."""

import shutil
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import PreTrainedModel

from ..arch_parameters import one_hot
from ..budgets.discretisation import discretise
from ..cost.kinds import LIMITS
from ..data.examples import Examples
from ..data.images.soft_targets import use_soft_targets
from ..errors import writing
from ..files import check_replaceable
from ..hub.cards import RESOLVED, write_card
from ..run_files import read_results
from ..search import SearchArguments
from ..search.search_cost import SearchCost
from ..subnets.exports import EXPORT, Export
from .data_of_runs import examples_of
from .finalists import decide
from .folder import begun, check_run_folder, defaults_of, from_settings, settings_of, write_json
from .found import Found
from .info import loading_line
from .reports import report_net
from .resolving import Within, find_within
from .run import FREE_ON_RESUME, STOPPED, accelerator_of
from .search import choose_net


def resolve_with_finalists(
    run_dir: str | Path,
    budgets: Mapping[str, str | int],
    folder: str | Path,
    options: Mapping[str, Any],
    *,
    resume: bool = False,
    standard_only: bool = False,
    form: str = "auto",
    latency_table: str | Path | None = None,
    allow_other_latency_table: bool = False,
) -> Found | None:
    """Finds the best net of a finished run within other budgets by a short training of finalists, as a search does.

    The data, and how nets are trained, are those of the run. Losses are kept in a hidden folder beside the net until it is
    there, so that `resume` goes on where it was stopped; then `finalists.jsonl` is in the net's folder, and so are a card and
    the table (`resolved.json`).

    Args:
        run_dir: Folder of the run.
        budgets: Name of a budget -> amount, as in `resolve`.
        folder: Where to write the model; an earlier export is replaced.
        options: Settings of the finalists (`FinalistArguments`), "finalists" among them; others are those of the run.
        resume: Go on with what was stopped.
        standard_only: Only architectures that have the stock form.
        form: Form of the model, as in `resolve`.
        latency_table: As in `resolve`.
        allow_other_latency_table: As in `resolve`.

    Returns:
        What was found; None on all processes but the main one. The process ends with exit code 130 if it was stopped.

    Raises:
        ValueError: The run cannot be resolved (see `resolve`), its settings or its data are not there, an option is out of its
            range, or there is something else, or nothing, to resume.
    """
    run_dir, folder = Path(run_dir), Path(folder)
    check_replaceable(folder, *EXPORT)
    within = find_within(run_dir, budgets, standard_only, latency_table, allow_other_latency_table)
    if not (run_dir / "config.yaml").is_file():
        raise ValueError(
            f"finalists are trained with the data and the settings of the search, and {run_dir} has no config.yaml; resolve "
            "the run itself, or leave --finalists out"
        )
    discretise(
        within.supernet, within.shares, within.limits.budgets, standard_only=standard_only
    )  # or says that none fits
    searched = read_results(run_dir / "results.json")
    work = folder.resolve().with_name(f".finalists-{folder.resolve().name}")
    limited = dict.fromkeys(LIMITS) | {name: str(amount) for name, amount in budgets.items()}
    limited |= {"standard_only": standard_only, "output_dir": str(work), "resume": resume}
    settings = _settings(within, limited | dict(options), latency_table or run_dir / "latency_table.json")
    accelerator = accelerator_of(settings)
    resolved = settings_of(settings) | {"latency_table": None if latency_table is None else str(latency_table)}
    check_run_folder(work, resolved, resume, FREE_ON_RESUME, defaults_of(settings), other="--output")
    supernet = within.supernet.to(accelerator.device)
    if supernet.main_input_name == "pixel_values":
        use_soft_targets(supernet)
    with accelerator.main_process_first():
        examples = examples_of(run_dir, within.settings, supernet)
    accelerator.wait_for_everyone()  # all have looked at the folder
    set_seed(settings.seed)

    def more(written: Export) -> dict[str, str]:
        return {"loads with": loading_line(written.folder)}

    with writing(work), begun(work, resolved, accelerator.is_main_process):
        found = _decide(within, supernet, examples, settings, accelerator, searched)
        if found is None:
            return None
        examples.settle(supernet, settings.per_device_batch_size, mixture=one_hot(supernet.space, found.arch))
        # The time would be that of the search alone, beside the cost of both.
        used = {name: value for name, value in searched["search"].items() if "seconds" not in name}
        results = report_net(settings, supernet, examples, found, used, folder, more, form)
        # What is said of the search stays that of the run; the cost is that of both.
        write_json(folder / RESOLVED, results | {"command": searched["command"]})
        if (work / "finalists.jsonl").is_file():  # a single one is not trained
            (work / "finalists.jsonl").replace(folder / "finalists.jsonl")
        write_card(run_dir, folder)
    shutil.rmtree(work)
    return found


def _settings(within: Within, given: Mapping[str, Any], latency_table: Path) -> SearchArguments:
    """The settings of the run with other limits and finalists."""
    table = within.limits.latency_table
    timed = {"latency_table": None, "latency_batch_size": 1, "allow_other_latency_table": False}
    if table is not None:
        timed = {"latency_table": str(latency_table), "latency_batch_size": table.conditions["batch_size"]}
    once = {"pareto": None, "pareto_anchors": None, "early_stop_evals": None, "dry_run": False, "report_to": "none"}
    settings = replace(from_settings(SearchArguments, within.settings), **once, **timed, **given)
    if settings.resolved_finalist_start == "checkpoint":
        raise ValueError(
            f"the finalists of this search were trained from slices of {settings.start_from}, which resolve does not read; "
            "give --finalist_start supernet, or new"
        )
    if settings.teacher_share:
        raise ValueError(
            f"this search had a teacher ({settings.start_from}), which resolve does not read; leave --finalists out, or search "
            "again with the budget"
        )
    return settings


def _decide(
    within: Within,
    supernet: PreTrainedModel,
    examples: Examples,
    settings: SearchArguments,
    accelerator: Accelerator,
    searched: Mapping[str, Any],
) -> Found | None:
    """What the search would take within the limits, then the best of the finalists; steps and scores are as in the search."""
    batch = settings.per_device_batch_size * searched["search"].get("num_processes", 1)
    step = batch * settings.gradient_accumulation_steps
    _, architecture = examples.split(settings.train_portion, settings.seed, batch)
    found = None
    if accelerator.is_main_process:
        cost = SearchCost(supernet, step, examples.sequence_length, searched["search_cost"])
        parameters = within.arch_parameters
        found = choose_net(supernet, parameters, examples, architecture, settings, within.limits, cost)

    def stopped() -> None:
        if accelerator.is_main_process:
            print("stopped; the same command with --resume goes on from there")
        sys.exit(STOPPED)

    return decide(supernet, examples, found, within.limits, settings, accelerator, stopped=stopped, step=step)
