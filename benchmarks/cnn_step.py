"""Time and memory of one supernet step beside one training step of the plain net of the largest sizes.

    python benchmarks/cnn_step.py time
    python benchmarks/cnn_step.py memory
    python benchmarks/cnn_step.py time --space mobilenetv3

Conv-macro, 64 images of 32 pixels, 10 classes; MobileNetV3 in once-for-all's space, 8 images of 224 pixels, 1,000 classes. A
step is forward + backward, without the optimizer; a search step is an architecture step and a weight step.
"""

import argparse
import json

import torch
from side_by_side import compare_memory, compare_time, keep_memory, peak_memory, print_rows
from steps import plain_step, search_steps

from tangle_hf import (
    ElasticConvMacroConfig,
    ElasticConvMacroForImageClassification,
    ElasticMobileNetV3Config,
    ElasticMobileNetV3ForImageClassification,
    TangleConvMacroConfig,
    TangleConvMacroForImageClassification,
    TangleMobileNetV3Config,
    TangleMobileNetV3ForImageClassification,
)
from tangle_hf.models.conv_spaces import CONV_MACRO, OFA_MOBILENETV3


KINDS = ("plain", "weight", "arch")
# images, their size, classes, plain net, its config, supernet, its config, space
SPACES = {
    "conv_macro": (
        (64, 32, 10),
        (TangleConvMacroForImageClassification, TangleConvMacroConfig),
        (ElasticConvMacroForImageClassification, ElasticConvMacroConfig),
        CONV_MACRO,
    ),
    "mobilenetv3": (
        (8, 224, 1000),
        (TangleMobileNetV3ForImageClassification, TangleMobileNetV3Config),
        (ElasticMobileNetV3ForImageClassification, ElasticMobileNetV3Config),
        OFA_MOBILENETV3,
    ),
}


def build(kind: str, space: str):
    """A function that takes one step of a kind of `KINDS`."""
    torch.manual_seed(0)
    (images, size, classes), plain, elastic, choices = SPACES[space]
    batch = {"pixel_values": torch.randn(images, 3, size, size), "labels": torch.arange(images) % classes}
    if kind == "plain":
        return plain_step(plain[0](plain[1](num_labels=classes)).train(), batch)
    supernet = elastic[0](elastic[1](space=choices, num_labels=classes)).train()
    return search_steps(supernet, batch)[kind]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="time", choices=("time", "memory"), help="which table")
    parser.add_argument("--space", choices=tuple(SPACES), help="one space only")
    parser.add_argument("--rounds", type=int, default=15, help="counted rounds (default 15)")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(peak_memory(lambda: build(**arguments.case)))
        return
    if arguments.question == "time":  # what is kept for later would count as in use
        keep_memory()
    for space in [arguments.space] if arguments.space else SPACES:
        if arguments.question == "time":
            rows = compare_time({k: build(k, space) for k in KINDS}, arguments.rounds, {"search": ("weight", "arch")})
            print_rows(space, rows)
        else:
            print(f"\n{space}")
            compare_memory(__file__, {kind: {"kind": kind, "space": space} for kind in KINDS})


if __name__ == "__main__":
    main()
