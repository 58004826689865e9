"""Where the time of a superposed step goes: the parts of one layer, each alone, beside what a stock model does there.

    python benchmarks/block_parts.py

Forward + backward under `inputs`, weights with gradients, at the sizes of `gpt2_step.py` and `vit_step.py`.
"""

import argparse
from collections.abc import Callable

import torch
from side_by_side import compare_time, print_rows
from torch import Tensor
from torch.nn import functional as F

from tangle_hf.entangle import masked_linear, nested_widths, superpose_layer_norm
from tangle_hf.models.superposed import BlockMasks, superposed_attention


# sequences, tokens of each, widths, head counts to attend with, hidden units
SIZES = {
    "GPT-2, 12x224 tokens": (12, 224, (384, 576, 768), (6, 8, 12), 3072),
    "GPT-2, 2x128 tokens": (2, 128, (384, 576, 768), (6, 8, 12), 3072),
    "AutoFormer-T, 4x197 tokens": (4, 197, (192, 216, 240), (4,), 960),
}


def parts(batch: int, length: int, widths: tuple[int, ...], heads: tuple[int, ...], hidden: int) -> dict[str, dict]:
    """Part -> the stock step and the superposed one."""
    width = widths[-1]
    qkv = 64 * heads[-1]
    x, q, k, v, up = (torch.randn(batch, length, size, requires_grad=True) for size in (width, qkv, qkv, qkv, hidden))
    gain, bias, mask = (
        torch.ones(width, requires_grad=True),
        torch.zeros(width, requires_grad=True),
        torch.rand(hidden),
    )
    weight = torch.randn(hidden, width, requires_grad=True)
    shares = torch.full((3,), 1 / 3)
    nested = nested_widths(widths, shares)

    def attention(counts: tuple[int, ...]) -> Tensor:
        masks = BlockMasks(nested, mask, mask, mask, counts, shares if len(counts) > 1 else None)
        return superposed_attention(q, k, v, masks, (0.125,) * len(counts), is_causal=True)

    steps = {
        "layer norm of 3 widths": {
            "stock": lambda: F.layer_norm(x, (width,), gain, bias),
            "superposed": lambda: superpose_layer_norm(x, gain, bias, nested, 1e-5),
        },
        "GELU, mask and projection of the MLP": {
            "stock": lambda: torch.addmm(bias, F.gelu(up, approximate="tanh").flatten(0, 1), weight),
            "superposed": lambda: masked_linear(up, mask, weight, bias, "tanh"),
        },
    }
    if len(heads) > 1:
        steps[f"attention of {len(heads)} head counts"] = {
            "stock": lambda: attention(heads[-1:]),
            "superposed": lambda: attention(heads),
        }
    return {part: {name: with_backward(run) for name, run in both.items()} for part, both in steps.items()}


def with_backward(run: Callable[[], Tensor]) -> Callable[[], None]:
    """Forward + backward from a gradient of ones."""
    return lambda: run().sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="counted rounds (default 15)")
    arguments = parser.parse_args()
    for title, sizes in SIZES.items():
        for part, steps in parts(*sizes).items():
            rows = compare_time(steps, arguments.rounds, {})
            print_rows(f"{title}, {part}", rows)
            print(f"extra: {1e3 * (rows[1]['seconds'] - rows[0]['seconds']):.2f} ms")


if __name__ == "__main__":
    main()
