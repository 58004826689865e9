"""The nets that are asked for, with what each keeps to; where a latency is limited, times are measured first."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from accelerate import Accelerator
from transformers import PreTrainedModel

from ..cost.latency_profiles import profile
from ..cost.latency_tables import load_latency_table, save_latency_table
from ..search import Limits, SearchArguments
from ..search.finalists.candidates import Finalist
from ..search.limits import check_latency
from ..subnets.exports import read_architecture
from .candidates import GIVEN, uniform_cut
from .settings import CompressArguments


TABLE = "latency_table.json"


@dataclass(frozen=True)
class Size:
    """One net that is asked for.

    Args:
        search: Settings of a search within its budgets.
        limits: What it keeps to.
        first: The net that has to be beaten, or the one that is given.
    """

    search: SearchArguments
    limits: Limits
    first: Finalist


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
        ValueError: A table is of another space or of other conditions, no net keeps to the budgets of a size, or a given net
            is none of the checkpoint.
    """
    own, known = run_dir / TABLE, settings.latency_table
    resumed = settings.resume and own.is_file()
    if "max_latency_ms" in settings.given():
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
            limits = Limits.of(search, supernet, sequence_length)
            limits.check(search, supernet)
            found[name] = Size(search, limits, first_net(supernet, limits, settings.architecture))
    except ValueError:
        accelerator.wait_for_everyone()
        if accelerator.is_main_process and not resumed:
            own.unlink(missing_ok=True)
        raise
    return found


def first_net(supernet: PreTrainedModel, limits: Limits, architecture: str | None) -> Finalist:
    """The net of a file, or the uniform cut.

    Raises:
        ValueError: The file holds no architecture of the checkpoint.
    """
    if architecture is None:
        return uniform_cut(supernet, limits)
    arch = read_architecture(architecture)
    supernet.space.validate(arch)
    return Finalist(arch, GIVEN)
