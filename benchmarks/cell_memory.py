"""Entangled against weight-sharing supernets of cells: bytes saved for backward, parameters, peak memory and time.

    python benchmarks/cell_memory.py                      # bytes saved for backward, beside what arithmetic says
    python benchmarks/cell_memory.py time
    python benchmarks/cell_memory.py peak                 # resident memory of a step, one process each

The supernets are those of NAS-Bench-201 (16 channels, 15 cells) and DARTS (16 channels, 8 cells), and DARTS with partial
channels 6 of 36 channels, for images of 32 pixels. A step is forward + backward, without the optimizer; a search step is an
architecture step and a weight step. The paper (arXiv:2312.10440, section 4.5) reports 25.3 % less memory for NAS-Bench-201 and
35.5 % for DARTS, of the whole GPU.
"""

import argparse
import json
from collections.abc import Callable

import torch
from side_by_side import compare_memory, compare_time, peak_memory, print_rows

from tangle_hf import ArchParameters, ElasticCellsConfig, ElasticCellsForImageClassification, sampler
from tangle_hf.models.cells.operations import kernel_of, module_name, modules_of


SPACES = {
    "nas_bench_201": {"cell": "nas_bench_201"},
    "darts": {"cell": "darts"},
    "darts, partial channels 6": {"cell": "darts", "hidden_size": 36, "partial_channels": 6},
}
SUPERNETS = {"weight sharing": False, "entangled": True}
LEVELS = ("weight", "arch")


def build(space: str, entangled: bool, level: str, batch: int) -> tuple[ElasticCellsForImageClassification, Callable]:
    """A supernet and a function that returns the loss of one step."""
    torch.manual_seed(0)
    net = ElasticCellsForImageClassification(
        ElasticCellsConfig(entangled=entangled, num_labels=10, **SPACES[space])
    ).train()
    inputs = {"pixel_values": torch.randn(batch, 3, 32, 32), "labels": torch.arange(batch) % 10}
    logits, generator = ArchParameters(net.space), torch.Generator().manual_seed(0)
    net.requires_grad_(level == "weight")

    def loss() -> torch.Tensor:
        drawn = logits.sample(sampler("drnas"), 0.0, generator)
        mixture = {name: rows.detach().requires_grad_(level == "arch") for name, rows in drawn.items()}
        return net(**inputs, mixture=mixture).loss

    return net, loss


def step(space: str, entangled: bool, level: str, batch: int) -> Callable[[], None]:
    """A function that takes one step."""
    net, loss = build(space, entangled, level, batch)

    def take():
        loss().backward()
        net.zero_grad(set_to_none=True)

    return take


def saved_bytes(space: str, entangled: bool, level: str, batch: int) -> tuple[int, int]:
    """Bytes that one forward pass keeps for the backward pass, each storage once, and the parameters of the supernet."""
    net, loss = build(space, entangled, level, batch)
    own = {tensor.untyped_storage().data_ptr() for tensor in (*net.parameters(), *net.buffers())}
    storages = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = loss()
    total = sum(storages.values())
    result.backward()
    return total, net.num_parameters()


def difference(space: str, level: str, batch: int) -> int:
    """Bytes that a weight-sharing supernet saves more, by arithmetic.

    A convolution with a batch norm saves its input after the ReLU and the input of the batch norm, a depthwise one the input
    of the pointwise one, too; SeparableConv is two of these. An architecture step also saves
    the output of every module on an edge. All are feature maps of one batch; entanglement saves those of every operation that
    shares a module with another. What it adds is its masked kernels. In an architecture step the first edges read what no
    gradient flows into: without entanglement their modules save nothing, with it they do, for the shares of the kernels.
    """
    config, total = ElasticCellsConfig(**SPACES[space]), 0
    weights = level == "weight"
    for number, layer in enumerate(config.layers):
        if layer.kind == "residual":
            continue
        width = layer.channels // config.partial_channels
        for edge, (source, _) in enumerate(config.wiring.edges):
            stride = layer.stride if source < config.wiring.inputs else 1
            after, before = batch * width * layer.size**2, batch * width * (layer.size * stride) ** 2
            choices = config.operations[layer.kind][edge]
            alone = [c for c in choices if kernel_of(c) and c not in modules_of(choices, True).values()]
            for name in (module_name(choice, True) for choice in alone):
                depthwise = name != "nor_conv"
                maps = before + (1 + depthwise) * after + (3 * after if name == "sep_conv" else 0)
                kernel = kernel_of(modules_of(choices, True)[name])
                masked = (width if depthwise else width**2) * kernel**2 * (2 if name == "sep_conv" else 1)
                reached = weights or number + source >= config.wiring.inputs
                total += (maps if reached else -maps) + (0 if weights else after) - masked
    return 4 * total


def by_bytes(batch: int) -> None:
    """Bytes saved for backward, measured, and by arithmetic."""
    for space in SPACES:
        print(f"\n{space}, {batch} images")
        for level in LEVELS:
            found = {name: saved_bytes(space, entangled, level, batch) for name, entangled in SUPERNETS.items()}
            (sharing, sharing_params), (entangled, entangled_params) = found.values()
            expected = difference(space, level, batch)
            print(
                f"{level:<7} step: {sharing / 2**20:8.1f} MiB weight sharing, {entangled / 2**20:8.1f} MiB entangled, "
                f"{1 - entangled / sharing:6.2%} less; by arithmetic {expected / sharing:6.2%}"
            )
        print(
            f"parameters:   {sharing_params:,} and {entangled_params:,}, {1 - entangled_params / sharing_params:.1%} less"
        )


def by_time(batch: int, rounds: int) -> None:
    """Seconds of the steps, alternately in one process."""
    for space in SPACES:
        steps = {
            f"{name} {level}": step(space, entangled, level, batch)
            for name, entangled in SUPERNETS.items()
            for level in LEVELS
        }
        sums = {f"{name} search": (f"{name} weight", f"{name} arch") for name in SUPERNETS}
        print_rows(f"{space}, {batch} images", compare_time(steps, rounds, sums))


def by_peak(batch: int) -> None:
    """Peak memory of three steps above the imports, one process per supernet and level."""
    for space in SPACES:
        print(f"\n{space}, {batch} images")
        cases = {
            f"{name} {level}": {"space": space, "entangled": entangled, "level": level, "batch": batch}
            for level in LEVELS
            for name, entangled in SUPERNETS.items()
        }
        compare_memory(__file__, cases)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="bytes", choices=("bytes", "time", "peak"), help="which table")
    parser.add_argument("--batch", type=int, default=16, help="images (default 16)")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds of time (default 7)")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(peak_memory(lambda: step(**arguments.case)))
    elif arguments.question == "bytes":
        by_bytes(arguments.batch)
    elif arguments.question == "time":
        by_time(arguments.batch, arguments.rounds)
    else:
        by_peak(arguments.batch)


if __name__ == "__main__":
    main()
