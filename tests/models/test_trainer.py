"""Exported classes under `Trainer`: micro-batches that are added up are one batch."""

import pytest
import torch
from families import conv_macro, gpt2, llama, mobilenetv3, vit
from transformers import Trainer, TrainingArguments

from tangle_hf import ElasticCellsConfig, ElasticCellsForImageClassification, extract
from tangle_hf.models.cells.genotypes import CELLS


def cells(cell):
    sizes = {"hidden_size": 4, "image_size": 10 if cell == "toy_cell" else 8, "num_labels": 10}
    depth = {"toy_cell": {"dropout": 0.0}, "nas_bench_201": {"num_cells": 1}, "darts": {"num_cells": 3}}
    return ElasticCellsForImageClassification(ElasticCellsConfig(cell=cell, **sizes, **depth[cell]))


DIFFERENT = {"mlp_ratio": [1, 2]}  # layers that differ: the compact class
EXPORTED = {
    "GPT2LMHeadModel": (gpt2, {"mlp_ratio": 1}),
    "TangleGPT2ForCausalLM": (gpt2, DIFFERENT),
    "LlamaForCausalLM": (llama, {"intermediate_size": 8}),
    "TangleLlamaForCausalLM": (llama, {"intermediate_size": [8, 20]}),
    "ViTForImageClassification": (vit, {"mlp_ratio": 1}),
    "TangleViTForImageClassification": (vit, DIFFERENT),
    "TangleConvMacroForImageClassification": (conv_macro, {}),
    "TangleMobileNetV3ForImageClassification": (mobilenetv3, {}),
} | {f"TangleCellsForImageClassification-{cell}": (lambda cell=cell: cells(cell), {}) for cell in CELLS}


@pytest.mark.parametrize("name", EXPORTED)
def test_losses_of_micro_batches_add_up_to_the_loss_of_the_batch(name, tmp_path):
    """`Trainer` hands `num_items_in_batch` to every class that takes keywords, and divides by nothing itself."""
    make, values = EXPORTED[name]
    supernet = make()
    space = supernet.space
    equal = {n: choices[0 if n in space.per_layer else -1] for n, choices in space.choices.items()}
    arch = space.architecture(**equal | values) if values else space.largest
    subnet = extract(supernet, arch).train()
    assert type(subnet).__name__ == name.split("-")[0]
    arguments = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    assert Trainer(subnet, arguments).model_accepts_loss_kwargs
    for module in subnet.modules():  # what a batch norm sees is the micro-batch, which nothing can change
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
        elif isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if subnet.can_generate():
        inputs = {"input_ids": torch.randint(50, (16, 8))}
        labels = inputs["input_ids"].clone()
        labels[:5, 4:] = -100
        items = (labels[:, 1:] != -100).sum()
    else:
        shape = subnet.config.num_channels, *[subnet.config.image_size] * 2
        inputs, labels, items = {"pixel_values": torch.randn(16, *shape)}, torch.randint(10, (16,)), 16
    with torch.no_grad():
        whole = subnet(**inputs, labels=labels).loss
        parts = [
            subnet(**{n: x[k : k + 4] for n, x in inputs.items()}, labels=labels[k : k + 4], num_items_in_batch=items)
            for k in range(0, 16, 4)
        ]
    torch.testing.assert_close(sum(part.loss for part in parts), whole)
