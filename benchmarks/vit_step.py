"""Time and memory of one supernet step beside one training step of the stock ViT of the largest architecture.

    python benchmarks/vit_step.py time
    python benchmarks/vit_step.py memory
    python benchmarks/vit_step.py blocks          # blocks compiled one by one, after a minute or two
    python benchmarks/vit_step.py compile         # whole nets compiled, after many minutes

AutoFormer-T (hidden 192/216/240, 12 to 14 layers, 3 or 4 heads of 64, ratio 3.5/4), 4 images of 224 pixels, 1,000 classes.
A step is forward + backward, without the optimizer; a search step is an architecture step and a weight step.
"""

import argparse
import json

import torch
from side_by_side import compare_memory, compare_time, keep_memory, peak_memory, print_rows
from steps import adamw, plain_step, search_steps
from transformers import ViTConfig, ViTForImageClassification

from tangle_hf import ElasticViTConfig, ElasticViTForImageClassification
from tangle_hf.models.vit.spaces_vit import AUTOFORMER_HEAD_DIM, AUTOFORMER_T


KINDS = ("stock", "stock, weights frozen", "inputs weight", "inputs arch", "weights weight", "weights arch")
TRAINED = ("stock AdamW", "inputs search AdamW", "weights search AdamW")
SEARCH = {f"{form} search": (f"{form} weight", f"{form} arch") for form in ("inputs", "weights")}


def build(kind: str, compiled: str = "no"):
    """A function that takes one step of a kind of `KINDS` or `TRAINED`; compiled: "no", "blocks" or "whole"."""
    kind, trained = kind.removesuffix(" AdamW"), kind.endswith(" AdamW")
    torch.manual_seed(0)
    batch = {"pixel_values": torch.randn(4, 3, 224, 224), "labels": torch.arange(4)}
    if kind.startswith("stock"):
        sizes = {"hidden_size": 240, "num_hidden_layers": 14, "num_attention_heads": 4, "intermediate_size": 960}
        model = ViTForImageClassification(ViTConfig(**sizes, head_dim=AUTOFORMER_HEAD_DIM, num_labels=1000))
        for layer in model.vit.layers if compiled == "blocks" else ():
            layer.compile()
        run = torch.compile(model) if compiled == "whole" else model
        if kind != "stock":  # what an architecture step cannot do without: all of the gradients but those of weights
            model.requires_grad_(False).vit.embeddings.position_embeddings.requires_grad_(True)
        return plain_step(model, batch, run, adamw(model) if trained else None)
    form, level = kind.split()
    config = ElasticViTConfig(space=AUTOFORMER_T, head_dim=AUTOFORMER_HEAD_DIM, num_labels=1000, superposition=form)
    supernet = ElasticViTForImageClassification(config).train()
    if compiled == "blocks":
        supernet.compile_blocks()
    run = torch.compile(supernet) if compiled == "whole" else supernet
    return search_steps(supernet, batch, run=run, update=adamw(supernet) if trained else None)[level]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "question", nargs="?", default="time", choices=("time", "memory", "blocks", "compile"), help="which table"
    )
    parser.add_argument("--rounds", type=int, default=15, help="counted rounds (default 15)")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(peak_memory(lambda: build(arguments.case["kind"])))
        return
    if arguments.question != "memory":  # what is kept for later would count as in use
        keep_memory()
    if arguments.question == "time":
        print_rows("AutoFormer-T", compare_time({kind: build(kind) for kind in KINDS}, arguments.rounds, SEARCH))
    elif arguments.question in ("blocks", "compile"):
        how = {"blocks": "blocks", "compile": "whole"}[arguments.question]
        steps = {"stock": build("stock"), **{f"{kind}, compiled": build(kind, how) for kind in KINDS}}
        sums = {f"{name}, compiled": tuple(f"{kind}, compiled" for kind in parts) for name, parts in SEARCH.items()}
        print_rows(f"AutoFormer-T, {how} compiled", compare_time(steps, arguments.rounds, sums))
    else:
        for kinds in (KINDS, TRAINED):
            compare_memory(__file__, {kind: {"kind": kind} for kind in kinds})


if __name__ == "__main__":
    main()
