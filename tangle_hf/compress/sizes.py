"""The nets that are asked for, with what each keeps to; where a latency is limited, times are measured first."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel

from ..cost.latency_profiles import profile
from ..cost.latency_tables import load_latency_table, save_latency_table
from ..search import Limits, SearchArguments
from ..search.limits import check_latency
from .settings import CompressArguments


@dataclass(frozen=True)
class Size:
    """One net that is asked for.

    Args:
        search: Settings of a search within its budgets.
        limits: What it keeps to.
    """

    search: SearchArguments
    limits: Limits


def sizes_of(
    settings: CompressArguments,
    supernet: PreTrainedModel,
    accelerator: Accelerator,
    sequence_length: int | None,
    run_dir: Path,
) -> Mapping[str, Size]:
    """Name -> net. What cannot be kept is refused before anything else is computed.

    A latency table is the run's own, `latency_table.json`: copied, or measured, and on resume as it was.

    Args:
        settings: Budgets.
        supernet: The checkpoint.
        accelerator: The main process measures, the others wait.
        sequence_length: Tokens of an example of text.
        run_dir: Folder of the run.

    Raises:
        ValueError: A table is of another space or of other conditions, or no net keeps to the budgets of a size.
    """
    own, known = run_dir / "latency_table.json", settings.latency_table
    resumed = settings.resume and own.is_file()
    if settings.max_latency_ms is not None:
        if resumed:
            known = str(own)
        if known is not None:
            table, anyone = load_latency_table(known), next(iter(settings.sizes().values()))
            check_latency(table, settings.search_settings(anyone, ""), supernet, sequence_length, accelerator.device)
        if accelerator.is_main_process and not resumed:
            if known is None:
                table = profile(supernet, batch_size=settings.latency_batch_size, sequence_length=sequence_length)
            save_latency_table(table, own)
        accelerator.wait_for_everyone()
        settings = replace(settings, latency_table=str(own))
    found = {}
    try:
        for name, budgets in settings.sizes().items():
            search = settings.search_settings(budgets, str(run_dir / "checkpoints" / name))
            found[name] = Size(search, Limits.of(search, supernet, sequence_length))
            found[name].limits.check(search, supernet)
    except ValueError:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process and not resumed:
            own.unlink(missing_ok=True)
        raise
    return found
