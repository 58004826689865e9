"""One search from its start to its end: folder, seed, processes, clocks."""

import math
import sys
import time
from contextlib import ExitStack
from dataclasses import fields
from datetime import timedelta
from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import set_seed
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from ..errors import STOPPED, writing
from ..hub.publishing import check_target
from ..hub.settings import SearchHubArguments, hub_options
from ..messages import silent
from ..search import SearchArguments
from ..search.limits import Limits
from ..search.loop import check_settings
from .about import about
from .folder import begun, check_run_folder, defaults_of, settings_of
from .latency import OWN, with_latency_table, without_latency
from .opening import opening
from .reporting import refresh_report


# Others may wait for the one process that measures latency, traces a front or trains its last finalist. NCCL's ten minutes
# would end them.
WAITING = timedelta(hours=12)
FREE_ON_RESUME = {
    "resume", "output_dir", "report_to", "logging_steps", "eval_steps", "eval_batches", "save_steps",
    "dataloader_num_workers", "allow_other_latency_table", "early_stop_evals", "undecided_entropy", "generations",
    *(item.name for item in fields(SearchHubArguments)),
}  # fmt: skip


class Run:
    """A search in its folder, as the context in which a recipe does everything.

    Entering it checks the folder, the tracker and where to publish, and sets the seed. A full or protected disk is an error
    that names the folder. A search that ends in the user's error before it kept anything takes its settings back.

    Args:
        *parts: All settings of the recipe, `SearchArguments` and `SearchHubArguments` among them.

    Raises:
        ValueError: On entering: the folder holds another run, or none to resume; the tracker is not installed; or the
            repository to publish to has another kind of content or is not ours to write.
        ConnectionError: On entering: the Hub cannot be reached, and the run is to be published.
    """

    def __init__(self, *parts):
        (self.settings,) = (part for part in parts if isinstance(part, SearchArguments))
        (self.hub,) = (part for part in parts if isinstance(part, SearchHubArguments))
        self.resolved, self._defaults = settings_of(*parts), defaults_of(*parts)
        self._parts, self.folder = parts, Path(self.settings.output_dir)
        self._stack, self._begin, self._stopped = ExitStack(), None, False
        self._report = -math.inf, 0.0  # when it was last written, and how many seconds that took

    def __enter__(self) -> "Run":
        settings = self.settings
        self.accelerator = accelerator_of(settings)
        if not settings.dry_run:
            check_run_folder(self.folder, self.resolved, settings.resume, FREE_ON_RESUME, self._defaults)
            if self.hub.push_to_hub and self.main_process:  # better now than after hours
                for repo_id, supernet in self.targets():
                    check_target(repo_id, "supernet" if supernet else "subnet", **hub_options(self.hub))
        set_seed(settings.seed)
        disable_progress_bar()  # of loading and saving; the search has its own
        self._stack.enter_context(writing(self.folder))
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._stack.__exit__(kind, error, trace)
        if kind is None and self._begin is not None:
            self.accelerator.end_training()
        if kind is None and self._stopped:
            sys.exit(STOPPED)

    def stop(self) -> None:
        """Says how to go on after Ctrl-C or SIGTERM; leaving the run ends the process with exit code 130."""
        self._stopped = True
        if self.main_process:
            print(
                f"stopped; the same command with --resume goes on from the checkpoint in {self.folder / 'checkpoints'}"
            )

    @property
    def main_process(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.accelerator.is_main_process

    def begin(self, supernet: PreTrainedModel, sequence_length: int | None) -> Limits:
        """Refuses budgets that cannot be kept, measures latency if a budget is of it, and leaves the settings in the folder.

        Args:
            supernet: What is searched.
            sequence_length: Tokens of an example of text.

        Returns:
            What the search keeps to, latency by the run's own table.

        Raises:
            ValueError: The limits cannot be made or kept, or a latency table is not for this search.
        """
        # What needs no latency is refused before it is measured.
        others = without_latency(self.settings)
        limits, written = Limits.of(others, supernet, sequence_length), []
        if not self.settings.asks_for_latency:
            limits.check(others, supernet)
        else:
            with silent():  # the search says it
                check_settings(others, supernet, self.accelerator, limits)
            written = [] if (self.folder / OWN).exists() else [OWN]
            self.settings, limits = with_latency_table(supernet, self.settings, self.accelerator, sequence_length)
        facts = about(*self._parts, device=device_name(self.accelerator), space=supernet.space)
        self._stack.enter_context(begun(self.folder, self.resolved, self.main_process, facts, written))
        if self.main_process:
            print(opening(supernet, self.settings, limits))
        if self.settings.report_to != "none":
            self.accelerator.init_trackers("tangle_hf", config={k: str(v) for k, v in self.resolved.items()})
        self._begin = time.perf_counter(), time.process_time()
        return limits

    def used(self) -> dict[str, float | str]:
        """Device and processes; unless it was resumed, seconds since `begin` by the clock and of this process on the CPU."""
        used = {"device": device_name(self.accelerator), "num_processes": self.accelerator.num_processes}
        if self.settings.resume:  # the time of a part would mislead
            return used
        wall, cpu = self._begin
        return used | {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - cpu}

    def refresh_report(self, *, now: bool = False) -> None:
        """Writes the report anew, as far as the run has come.

        Args:
            now: Also where that would take more than a twentieth of the time since the last one.
        """
        last, took = self._report
        start = time.monotonic()
        if now or start - last > 20 * took:
            refresh_report(self.folder)
            self._report = start, time.monotonic() - start

    def targets(self) -> list[tuple[str, bool]]:
        """(repository, whether it is for the supernet) of everything that is to be published.

        A front, which chooses many, has only its supernet to show.
        """
        hub = self.hub
        main = hub.hub_model_id or self.folder.resolve().name, self.settings.pareto is not None
        return [main] if hub.hub_supernet_model_id is None else [main, (hub.hub_supernet_model_id, True)]


def accelerator_of(settings: SearchArguments) -> Accelerator:
    """Processes, device and precision of a search.

    Raises:
        ValueError: The tracker is not installed.
    """
    # A CPU without instructions for it is many times slower in bfloat16, which says nothing of the machine for the search.
    slow = settings.dry_run and not torch.cuda.is_available() and settings.mixed_precision not in (None, "no")
    if slow:
        print(f"a dry run on the CPU measures in float32, not in {settings.mixed_precision}")
    accelerator = Accelerator(
        mixed_precision="no" if slow else settings.mixed_precision,
        log_with=None if settings.report_to == "none" else settings.report_to,
        project_dir=settings.output_dir,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=WAITING)],
    )
    if settings.report_to != "none" and not accelerator.log_with:  # accelerate leaves it out without a word
        raise ValueError(
            f"report_to={settings.report_to} needs a package that is not installed: pip install {settings.report_to}"
        )
    return accelerator


def device_name(accelerator: Accelerator) -> str:
    """What a search ran on, in words."""
    kind, count = accelerator.device.type, accelerator.num_processes
    name = (
        f"CPU with {torch.get_num_threads()} torch thread(s)"
        if kind == "cpu"
        else torch.get_device_module().get_device_name()
    )
    return name if count == 1 else f"{count} processes, each {name}"
