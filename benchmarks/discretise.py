"""Time of an exact discretisation within budgets, in the spaces of the papers.

    python benchmarks/discretise.py

Random shares, softmax(2 * N(0, 1)), and budgets of 60% of the largest net; the median of `--repeats` calls.
"""

import argparse
import time
from statistics import median
from types import SimpleNamespace

import torch

from tangle_hf import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
)
from tangle_hf.analysis import format_table
from tangle_hf.budgets.discretisation import discretise
from tangle_hf.budgets.limits import make_budgets
from tangle_hf.models.vit.spaces_vit import AUTOFORMER_B, AUTOFORMER_HEAD_DIM, AUTOFORMER_S, AUTOFORMER_T


def language(depths: list[int], head_dim: int | None = None) -> SimpleNamespace:
    """The space of TangleNAS around GPT-2 (arXiv:2312.10440), without weights."""
    space = SearchSpace(
        n_embd=[384, 576, 768], n_layer=depths, n_head=PerLayer([6, 8, 12]), mlp_ratio=PerLayer([2, 3, 4])
    )
    config = ElasticGPT2Config(space=space, vocab_size=50304, head_dim=head_dim)
    return SimpleNamespace(space=space, config=config, subnet_forms=ElasticGPT2LMHeadModel.subnet_forms)


def vision(space: SearchSpace) -> SimpleNamespace:
    """A space of AutoFormer (arXiv:2107.00651), without weights."""
    config = ElasticViTConfig(space=space, head_dim=AUTOFORMER_HEAD_DIM, num_labels=1000)
    return SimpleNamespace(space=space, config=config, subnet_forms=ElasticViTForImageClassification.subnet_forms)


def main(repeats: int) -> None:
    nets = {
        "GPT-2, 5-7 layers": language([5, 6, 7]),
        "GPT-2, 10-12 layers": language([10, 11, 12]),
        "GPT-2, 10-12 layers, heads of 64": language([10, 11, 12], 64),
        "AutoFormer-T": vision(AUTOFORMER_T),
        "AutoFormer-S": vision(AUTOFORMER_S),
        "AutoFormer-B": vision(AUTOFORMER_B),
    }
    ways = {
        "best": {},
        "10 best in [0.95, 1]": {"count": 10, "band": 0.95},
        "best stock form": {"standard_only": True},
    }
    rows = []
    for name, net in nets.items():
        length = 1024 if name.startswith("GPT-2") else None
        budgets = make_budgets(net.config, max_params="60%", max_flops="60%", sequence_length=length)
        generator = torch.Generator().manual_seed(0)
        shares = {
            n: (2 * torch.randn(net.space.rows(n), len(c), generator=generator)).softmax(-1)
            for n, c in net.space.choices.items()
        }
        row = {"space": name, "architectures": f"{net.space.size:.1e}"}
        for chosen, label in ((budgets[:1], "params"), (budgets, "params and FLOPs")):
            for way, options in ways.items():
                times = []
                for _ in range(repeats):
                    start = time.perf_counter()
                    discretise(net, shares, chosen, **options)
                    times.append(1e3 * (time.perf_counter() - start))
                row[f"{label}: {way}"] = round(median(times), 1)
        rows.append(row)
    for row in rows:
        print(
            format_table([{"ms": key, row["space"]: str(value)} for key, value in list(row.items())[1:]]), end="\n\n"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    main(parser.parse_args().repeats)
