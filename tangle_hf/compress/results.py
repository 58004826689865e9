"""What a compression leaves of every net: its folder, its row, its table beside the checkpoint, its card."""

import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from ..analysis import format_table
from ..cost.timing import measure
from ..data.examples import Examples
from ..files import replacing
from ..hub.card_facts import has_remote_code
from ..hub.compressed_cards import joint_table
from ..hub.settings import command_line
from ..messages import format_lines
from ..models.example_inputs import example_inputs
from ..models.generation import with_pad_token
from ..run_files import read_results
from ..runs.closing import next_steps_of_trained
from ..runs.finalists import rows
from ..runs.folder import write_json
from ..runs.results import table_row
from ..search.distillation import Teacher
from ..space import Architecture
from .checkpoints import size_on_disk
from .choice import Tried
from .recovery import Recovered
from .settings import CompressArguments


WORST = 1e-3  # difference of a reloaded net's logits, as a share of their size, above which it is not the net


def save_net(
    model: PreTrainedModel, folder: Path, arch: Architecture, examples: Examples, auto_class: type[PreTrainedModel]
) -> float:
    """Leaves a net in its natural form with its tokenizer or image processor, loads it again and compares logits.

    Args:
        model: The net.
        folder: Where to; it appears when it is whole.
        arch: Its architecture.
        examples: Data of the comparison, and the processor.
        auto_class: What loads it.

    Returns:
        The largest difference of logits.

    Raises:
        ValueError: The files do not compute what the net does.
    """
    (inputs,) = examples.inputs(examples.test, 1, examples.sample_size)
    inputs = {name: values.to(model.device) for name, values in inputs.items()}
    with replacing(folder, "architecture.json", "config.json") as partial:
        model.save_pretrained(partial)
        with_pad_token(examples.processor).save_pretrained(partial)
        (partial / "architecture.json").write_text(arch.to_json() + "\n")
        again = auto_class.from_pretrained(partial, trust_remote_code=has_remote_code(partial)).to(model.device).eval()
        with torch.no_grad():
            own, found = model.eval()(**inputs).logits, again(**inputs).logits
        difference, scale = (own - found).abs().max().item(), own.abs().max().item()
        if not difference <= WORST * scale:
            raise ValueError(
                f"the files of {folder} would differ from the net by {difference:.1e}; nothing was written"
            )
    return difference


def compare_nets(
    supernet: PreTrainedModel,
    checkpoint: str,
    arch: Architecture,
    model: PreTrainedModel,
    folder: Path,
    inherited: Mapping[str, float],
    examples: Examples,
    settings: CompressArguments,
) -> list[dict[str, Any]]:
    """The rows before and after: the checkpoint, the net as it was cut, and the net as it is.

    Args:
        supernet: The checkpoint.
        checkpoint: Its folder, or its name on the Hub.
        arch: The net's architecture.
        model: The net.
        folder: Its files.
        inherited: Its test scores before it was trained.
        examples: Test data.
        settings: Examples of a batch of the test, and of one that is timed.
    """
    batch_size = settings.per_device_batch_size
    inputs = example_inputs(model, batch_size=settings.latency_batch_size, sequence_length=examples.sequence_length)
    times = measure([supernet.eval(), model.eval()], inputs, progress=False)
    largest = supernet.space.largest
    rows = [table_row("checkpoint", supernet, largest, examples, examples.score(supernet, examples.test, batch_size))]
    rows.append(table_row("cut, not trained", supernet, arch, examples, inherited))
    rows.append(table_row("compressed", supernet, arch, examples, examples.score(model, examples.test, batch_size)))
    sizes = [size_on_disk(Path(checkpoint)), size_on_disk(folder), size_on_disk(folder)]
    for row, mib, ms in zip(rows, sizes, [times[0], times[1], times[1]], strict=True):
        row["MiB on disk"], row["ms"] = "-" if mib is None else mib, ms
    return rows


def tried_rows(tried: Tried, recovered: Recovered, supernet: PreTrainedModel) -> list[dict[str, Any]]:
    """A row for each net that was tried, the one that is taken first."""
    table, ranked = [], recovered.decision.ranked
    for row, finalist in zip(rows(recovered.decision, supernet, ranked[0].arch), ranked, strict=True):
        first = {
            "finalist": finalist.origin,
            "parameters": row["parameters"],
            "inherited": tried.inherited[finalist.arch],
        }
        table.append(first | {name: value for name, value in row.items() if name not in first})
    return table


def leave_row(
    run_dir: Path,
    name: str,
    supernet: PreTrainedModel,
    recovered: Recovered,
    budgets: Mapping[str, int | float],
    tried: list[dict],
    table: list[dict],
    costs: Mapping[str, float],
    teacher: Teacher | None,
    facts: Mapping[str, Any],
) -> None:
    """Leaves the row of a finished net; its checkpoints are not needed any more."""
    nets = [finalist.arch for finalist in recovered.decision.ranked]
    arch = nets[0]
    row = {"found": arch.to_dict(), "by_position": supernet.by_position(arch).to_dict()}
    row |= {"space": supernet.space.to_dict(), "layer_ranks": supernet.config.layer_ranks}
    row |= {"budgets": dict(budgets), "table": table, "costs": dict(costs), "cost": sum(costs.values())}
    row |= {"finalists": {"rows": tried, "archs": [net.to_dict() for net in nets], "noise": None}}
    kept = supernet.kept_layers(arch)
    removed = [layer for layer in range(supernet.space.max_depth) if layer not in kept]
    row |= {"teacher": teacher and teacher.facts(), "layers_removed": removed, **facts}
    row |= {"parameters": table[-1]["parameters"]}
    write_json(run_dir / "rows" / f"{name}.json", row)
    shutil.rmtree(run_dir / "checkpoints" / name, ignore_errors=True)
    with suppress(OSError):  # another size is not finished
        (run_dir / "checkpoints").rmdir()


def report(run_dir: Path, names: list[str], examples: Examples, checkpoint: str, timed: int) -> str:
    """Leaves `results.json`; the table of the checkpoint and of all nets that were made of it."""
    rows = {name: read_results(run_dir / "rows" / f"{name}.json") for name in names}
    table = joint_table(rows)
    facts = {"pipeline": examples.pipeline, "data": examples.description, "command": command_line()}
    write_json(run_dir / "results.json", {"checkpoint": checkpoint, **facts, "table": table, "nets": rows})
    lines = [
        format_table(table),
        f"ms: a forward pass over {timed} {examples.example}{'s' * (timed > 1)} on this machine, timed in turns",
    ]
    for name, row in rows.items():
        spent = ", ".join(f"{what} {cost:,.1f}" for what, cost in row["costs"].items())
        lines.append(f"{name}: cost {row['cost']:,.1f} training steps of the checkpoint ({spent})")
        lines += [f"{form}: {words}" for form, words in row["forms"].items()]
    closing = next_steps_of_trained(run_dir, [run_dir / name for name in names], examples.pipeline)
    return "\n".join([*lines, format_lines(closing)])
