"""What every search recipe does around its data and its supernet: start, search, export, table."""

import time
from dataclasses import fields
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from ..errors import writing
from ..hub.cards import write_card
from ..hub.publishing import check_target, push
from ..hub.settings import SearchHubArguments, hub_options
from ..search import SearchArguments
from ..search.choice import check_budgets
from .folder import begun, check_run_folder
from .front_report import report_front
from .latency import with_latency_table, without_latency
from .search_report import report, save_supernet
from .stages import one_stage, two_stages
from .task import Found, FoundFront, SearchTask


FREE_ON_RESUME = {
    "resume", "output_dir", "report_to", "logging_steps", "eval_steps", "eval_batches", "save_steps",
    "dataloader_num_workers", "allow_other_latency_table", "early_stop_evals", "undecided_entropy", "generations",
    *(item.name for item in fields(SearchHubArguments)),
}  # fmt: skip


def start(settings: SearchArguments, hub: SearchHubArguments, resolved: dict, defaults: dict) -> Accelerator:
    """Checks the folder and where to publish, sets the seed, and gives the accelerator.

    Args:
        settings: The trainer's.
        hub: Whether and where to publish.
        resolved: All settings of the run.
        defaults: Their defaults.

    Raises:
        ValueError: The tracker is not installed, or as `check_run_folder` and `check_target`.
        ConnectionError: As `check_target`.
    """
    # A CPU without instructions for it is many times slower in bfloat16, which says nothing of the machine for the search.
    slow = settings.dry_run and not torch.cuda.is_available() and settings.mixed_precision not in (None, "no")
    if slow:
        print(f"a dry run on the CPU measures in float32, not in {settings.mixed_precision}")
    accelerator = Accelerator(
        mixed_precision="no" if slow else settings.mixed_precision,
        log_with=None if settings.report_to == "none" else settings.report_to,
        project_dir=settings.output_dir,
    )
    if settings.report_to != "none" and not accelerator.log_with:  # accelerate leaves it out without a word
        raise ValueError(
            f"report_to={settings.report_to} needs a package that is not installed: pip install {settings.report_to}"
        )
    if not settings.dry_run:
        check_run_folder(Path(settings.output_dir), resolved, settings.resume, FREE_ON_RESUME, defaults)
        if hub.push_to_hub and accelerator.is_main_process:  # better now than after hours
            for repo_id, supernet in targets(settings, hub):
                kind = "supernet" if supernet else "subnet"
                check_target(repo_id, kind, **hub_options(hub))
    set_seed(settings.seed)
    disable_progress_bar()  # of loading and saving; the search has its own
    return accelerator


def targets(settings: SearchArguments, hub: SearchHubArguments) -> list[tuple[str, bool]]:
    """(repository, whether it is for the supernet) of everything that is to be published.

    A front, which chooses many, has only its supernet to show.
    """
    main = hub.hub_model_id or Path(settings.output_dir).resolve().name, settings.pareto is not None
    return [main] if hub.hub_supernet_model_id is None else [main, (hub.hub_supernet_model_id, True)]


def run(
    supernet: PreTrainedModel,
    task: SearchTask,
    settings: SearchArguments,
    hub: SearchHubArguments,
    accelerator: Accelerator,
    resolved: dict,
) -> None:
    """Searches, reports what was found, and publishes it if asked to, unless it is stopped before."""
    run_dir = Path(settings.output_dir)
    # What needs no latency is refused before it is measured.
    check_budgets(without_latency(settings), supernet, task.sequence_length)
    settings = with_latency_table(supernet, settings, accelerator, task.sequence_length)
    if accelerator.is_main_process:
        print(f"{supernet.space.size:,} architectures, the supernet has {supernet.num_parameters():,} parameters")
    if settings.report_to != "none":
        accelerator.init_trackers("tangle_hf", config={k: str(v) for k, v in resolved.items()})
    begin = time.perf_counter(), time.process_time()
    stages = two_stages if settings.resolved_method.two_stage else one_stage
    with writing(run_dir):
        with begun(run_dir, resolved, accelerator.is_main_process):
            found = stages(supernet, task, settings, accelerator)
        if accelerator.is_main_process:
            finish(supernet, found, task, settings, hub, accelerator, begin)
    accelerator.end_training()


def finish(
    supernet: PreTrainedModel,
    found: Found | FoundFront | None,
    task: SearchTask,
    settings: SearchArguments,
    hub: SearchHubArguments,
    accelerator: Accelerator,
    begin: tuple[float, float],
) -> None:
    """Reports and publishes what was found, or says how to go on with a search that was stopped.

    Args:
        supernet: After the search.
        found: What it found; None if it was stopped.
        task: Data and scores.
        settings: The trainer's.
        hub: Whether and where to publish.
        accelerator: What it ran on.
        begin: When it began, on the clock on the wall and in seconds of this process.
    """
    run_dir = Path(settings.output_dir)
    if found is None:
        print(f"stopped; continue with the same command and --resume (checkpoint in {run_dir / 'checkpoints'})")
    else:
        seconds, cpu_seconds = time.perf_counter() - begin[0], time.process_time() - begin[1]
        used = {"device": device_name(accelerator)}
        if not settings.resume:  # the time of a part would mislead
            used |= {"seconds": seconds, "cpu_seconds": cpu_seconds}
        if not settings.pareto:
            task.settle(found.arch)  # before anything is saved: all exports read the same statistics
        save_supernet(supernet, task, settings)
        (report_front if settings.pareto else report)(supernet, found, task, settings, used)
        for folder in ("subnet", "supernet"):
            if (run_dir / folder).is_dir():
                write_card(run_dir, run_dir / folder, license=hub.license)
        if hub.push_to_hub:
            for repo_id, of_supernet in targets(settings, hub):
                print(f"published: {push(run_dir, repo_id, supernet=of_supernet, **hub_options(hub))}")


def device_name(accelerator: Accelerator) -> str:
    """What a search ran on, in words."""
    kind, count = accelerator.device.type, accelerator.num_processes
    name = (
        f"CPU with {torch.get_num_threads()} torch thread(s)"
        if kind == "cpu"
        else torch.get_device_module().get_device_name()
    )
    return name if count == 1 else f"{count} processes, each {name}"
