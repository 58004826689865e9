"""Superposition: one forward pass of full-sized tensors that stands for the share-weighted sum of all slices.

TangleNAS (arXiv:2312.10440, section 3 and algorithm 2) sums zero-padded slices of a weight, each times its share. The
sums are never formed one by one here: over one dimension a sum of nested slices is one mask, over two dimensions at once
(combi-superposition) it is constant on blocks. `tests/oracle.py` holds the literal sums that every function is compared
with. Functions with a backward pass of their own keep little for it and make few passes over memory.
"""

from .conv import kernel_masks, superpose_conv2d
from .layer_norm import NestedWidths, nested_widths, superpose_layer_norm
from .linear import masked_linear, superpose_linear
from .masks import share_mask, share_sum
from .rms_norm import superpose_rms_norm


__all__ = [
    "NestedWidths",
    "kernel_masks",
    "masked_linear",
    "nested_widths",
    "share_mask",
    "share_sum",
    "superpose_conv2d",
    "superpose_layer_norm",
    "superpose_linear",
    "superpose_rms_norm",
]
