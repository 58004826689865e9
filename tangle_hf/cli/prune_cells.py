"""Between two stages of DrNAS (arXiv:2006.10355, section 3.4): keep the strongest operations of each edge, then widen edges.

    accelerate launch recipes/search_cnn.py --config recipes/configs/darts_cifar10.yaml
    tangle-hf prune_cells --run runs/darts --keep_operations 4 --partial_channels 4 --output_dir runs/darts-pruned
    accelerate launch recipes/search_cnn.py --config recipes/configs/darts_cifar10_stage2.yaml

The folder has a supernet for `--start_from` and logits for `--arch_start_from` of the next search. That search has optimizers
and a learning-rate schedule of its own.
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import AutoImageProcessor
from transformers.utils.logging import disable_progress_bar

from ..arch_parameters import ArchParameters
from ..errors import readable_errors
from ..files import replacing
from ..models.cells import ElasticCellsForImageClassification
from ..models.cells.progressive_cells import grow, strongest_operations
from ..models.loading import load_supernet
from ..run_files import read_settings
from ..samplers import sampler
from ..settings import parse


PRUNED = -10.0  # logit of a pruned operation, so that reports show no share for it


@dataclass
class PruneArguments:
    """Which search, and what is kept of it."""

    _argument_group_name = "pruning"

    run: str = field(metadata={"main": True, "help": "folder of a finished search of cells"})
    keep_operations: int = field(default=4, metadata={"main": True, "help": "operations of each edge to keep"})
    partial_channels: int | None = field(
        default=None,
        metadata={
            "main": True,
            "help": "1 / partial_channels of the channels take operations; default: that of the run",
        },
    )
    seed: int = field(default=0, metadata={"main": True, "help": "seed of the choice of channels to copy"})
    output_dir: str = field(default="runs/pruned", metadata={"main": True, "help": "folder to write"})


def main(arguments: PruneArguments) -> None:
    """Reads the run, writes the smaller space."""
    run, folder = Path(arguments.run), Path(arguments.output_dir)
    if folder.exists():
        raise ValueError(f"{folder} exists already; choose another --output_dir")
    disable_progress_bar()
    for name in ("config.yaml", "arch_parameters.safetensors", "supernet"):
        if not (run / name).exists():
            raise ValueError(f"{run} has no {name}; give the folder of a finished search")
    supernet = load_supernet(run / "supernet")
    if not isinstance(supernet, ElasticCellsForImageClassification):
        raise ValueError(f"{run} searched a {type(supernet).__name__}; only operations of cells can be pruned")
    logits = ArchParameters(supernet.space)
    logits.load(run / "arch_parameters.safetensors")
    shares = logits.probabilities(sampler(read_settings(run)["method"]))
    kept = strongest_operations(supernet.config, shares, arguments.keep_operations)
    given = arguments.partial_channels
    partial = supernet.config.partial_channels if given is None else given
    grown = grow(supernet, kept, partial, arguments.seed)
    with torch.no_grad():
        for kind, edges in kept.items():
            gone = [[choice not in left for choice in supernet.space.choices[kind]] for left in edges]
            logits.logits[kind][torch.tensor(gone)] = PRUNED

    with replacing(folder) as partial_folder:
        grown.save_pretrained(partial_folder / "supernet")
        AutoImageProcessor.from_pretrained(run / "supernet").save_pretrained(partial_folder / "supernet")
        logits.save(partial_folder / "arch_parameters.safetensors")
    for kind, edges in kept.items():
        for (source, target), left in zip(grown.config.wiring.edges, edges, strict=True):
            print(f"{kind}, node {source} to {target}: {', '.join(left)}")
    print(
        f"{supernet.num_parameters():,} parameters before, {grown.num_parameters():,} now. Go on with\n"
        f"  --start_from {folder / 'supernet'} --arch_start_from {folder / 'arch_parameters.safetensors'}"
    )


if __name__ == "__main__":
    with readable_errors():
        main(*parse(PruneArguments, description=__doc__))
