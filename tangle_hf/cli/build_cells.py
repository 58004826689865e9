"""Write the network that a genotype is trained as, with new weights: a checkpoint for `finetune.py vision --mode retrain`.

    tangle-hf build_cells --architecture runs/darts/architecture.json --output_dir runs/darts/network
    tangle-hf build_cells --cell nas_bench_201 --genotype "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|..."
    accelerate launch recipes/finetune.py vision --mode retrain --checkpoint runs/darts/network \\
        --config recipes/configs/finetune/darts_cifar10.yaml

A search has fewer cells and channels than the network that is trained in the end, and batch norms without gains.
"""

from dataclasses import dataclass, field
from pathlib import Path

from transformers.utils.logging import disable_progress_bar

from ..errors import readable_errors
from ..files import replacing
from ..models.cells import TangleCellsConfig, TangleCellsForImageClassification
from ..models.cells.configuration_tangle_cells import darts_cifar, darts_imagenet
from ..models.cells.subnets_cells import operations_of
from ..settings import parse
from ..subnets.exports import read_architecture


NETWORKS = ("cifar", "imagenet")


@dataclass
class CellsNetworkArguments:
    """Which cells, and the network around them.

    Raises:
        ValueError: Not exactly one of genotype and architecture is given, or the cell has no such network.
    """

    _argument_group_name = "network"

    cell: str = field(default="darts", metadata={"main": True, "help": "darts, nas_bench_201 or toy_cell"})
    genotype: str | None = field(
        default=None, metadata={"main": True, "help": "the cells in the notation of the space"}
    )
    architecture: str | None = field(
        default=None, metadata={"main": True, "help": "the architecture.json of a search, in place of a genotype"}
    )
    network: str = field(
        default="cifar", metadata={"main": True, "help": "for darts: cifar or imagenet; decides stem and sizes"}
    )
    hidden_size: int | None = field(
        default=None,
        metadata={
            "main": True,
            "help": "channels of the first cell; default: 36 cifar, 48 imagenet, else the search's",
        },
    )
    num_cells: int | None = field(
        default=None, metadata={"main": True, "help": "number of cells; default: 20 cifar, 14 imagenet"}
    )
    num_channels: int | None = field(default=None, metadata={"help": "channels of the images; default: the space's"})
    image_size: int | None = field(default=None, metadata={"help": "height and width; default: the network's"})
    drop_path_rate: float | None = field(
        default=None,
        metadata={"help": "drop path at the end of training; default: 0.2 darts on CIFAR (DrNAS 0.3), else 0"},
    )
    auxiliary_weight: float | None = field(
        default=None, metadata={"help": "weight of the second classifier's loss; default: 0.4 darts, else 0"}
    )
    output_dir: str = field(default="runs/network", metadata={"help": "folder to write"})

    def __post_init__(self):
        if (self.genotype is None) == (self.architecture is None):
            raise ValueError("give either --genotype or --architecture")
        if self.network not in NETWORKS:
            raise ValueError(f"network={self.network!r} is unknown; choose one of {NETWORKS}")
        if self.network != "cifar" and self.cell != "darts":
            raise ValueError(f"network={self.network} is for darts; {self.cell} has one network, leave it out")


def network_config(arguments: CellsNetworkArguments) -> TangleCellsConfig:
    """The config of the network to train.

    Raises:
        ValueError: There is no such architecture file, or the cells or sizes do not fit.
    """
    if arguments.genotype is None:  # not by its genotype: a search that keeps all edges finds cells that have none
        cells = operations_of(arguments.cell, read_architecture(arguments.architecture))
    else:
        cells = {"genotype": arguments.genotype}
    names = ("hidden_size", "num_cells", "num_channels", "image_size", "drop_path_rate", "auxiliary_weight")
    options = {name: value for name in names if (value := getattr(arguments, name)) is not None}
    if arguments.cell != "darts":
        return TangleCellsConfig(cell=arguments.cell, **cells, **options)
    return (darts_imagenet if arguments.network == "imagenet" else darts_cifar)(**cells, **options)


def main(arguments: CellsNetworkArguments) -> None:
    """Builds and writes the network."""
    folder = Path(arguments.output_dir)
    if folder.exists():
        raise ValueError(f"{folder} exists already; choose another --output_dir")
    disable_progress_bar()
    model = TangleCellsForImageClassification(network_config(arguments))
    with replacing(folder) as partial:
        model.save_pretrained(partial)
    cells = model.config.genotype or model.config.operations
    print(f"{model.num_parameters():,} parameters (those of two classes), in {folder}\n{cells}")


if __name__ == "__main__":
    with readable_errors():
        main(*parse(CellsNetworkArguments, description=__doc__))
