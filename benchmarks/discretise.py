"""Time of an exact discretisation within budgets, in the spaces of the papers.

    python benchmarks/discretise.py
    python benchmarks/discretise.py --nets MobileNetV3 --shares random equal start --budgets 60% 70% --repeats 3

Shares are random, softmax(2 * N(0, 1)), all equal, or those of a start on the budget; budgets are of FLOPs, or of FLOPs and
parameters, as shares of the largest net. The median of `--repeats` calls in milliseconds of CPU time, and the peak memory
of the process.
"""

import argparse
import resource
import time
from statistics import median
from types import SimpleNamespace

import torch

from tangle_hf import (
    ArchParameters,
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticMobileNetV3Config,
    ElasticMobileNetV3ForImageClassification,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
    sampler,
)
from tangle_hf.analysis import format_table
from tangle_hf.arch_parameters import uniform_mixture
from tangle_hf.budgets.discretisation import discretise
from tangle_hf.budgets.limits import make_budgets
from tangle_hf.models.conv_spaces import OFA_MOBILENETV3
from tangle_hf.models.vit.spaces_vit import AUTOFORMER_B, AUTOFORMER_HEAD_DIM, AUTOFORMER_S, AUTOFORMER_T
from tangle_hf.search.gradient.budget_surface import Surface, start_on_surface


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


def convolutional() -> SimpleNamespace:
    """Once-for-all's space of MobileNetV3 (arXiv:1908.09791), without weights."""
    config = ElasticMobileNetV3Config(space=OFA_MOBILENETV3, num_labels=1000, image_size=224)
    forms = ElasticMobileNetV3ForImageClassification.subnet_forms
    return SimpleNamespace(space=config.space, config=config, subnet_forms=forms)


NETS = {
    "GPT-2, 5-7 layers": lambda: language([5, 6, 7]),
    "GPT-2, 10-12 layers": lambda: language([10, 11, 12]),
    "GPT-2, 10-12 layers, heads of 64": lambda: language([10, 11, 12], 64),
    "AutoFormer-T": lambda: vision(AUTOFORMER_T),
    "AutoFormer-S": lambda: vision(AUTOFORMER_S),
    "AutoFormer-B": lambda: vision(AUTOFORMER_B),
    "MobileNetV3": convolutional,
}
WAYS = {"best": {}, "best in [0.95, 1]": {"band": 0.95}, "5 best in [0.95, 1]": {"count": 5, "band": 0.95}}


def shares_of(space: SearchSpace, kind: str, budgets) -> dict[str, torch.Tensor]:
    """Shares of a kind, see the top of this file."""
    if kind == "equal":
        return uniform_mixture(space)
    if kind == "start":
        method = sampler("drnas")
        logits = start_on_surface(Surface(method, budgets), ArchParameters(space).logits)
        return {name: method.mean(rows) for name, rows in logits.items()}
    generator = torch.Generator().manual_seed(0)
    return {n: (2 * torch.randn(space.rows(n), len(c), generator=generator)).softmax(-1)
            for n, c in space.choices.items()}  # fmt: skip


def main(nets: list[str], kinds: list[str], limits: list[str], repeats: int) -> None:
    rows = []
    for name in nets:
        net = NETS[name]()
        length = 1024 if name.startswith("GPT-2") else None
        flops, params = limits
        for given in ({"max_flops": flops}, {"max_flops": flops, "max_params": params}):
            budgets = make_budgets(net.config, **given, sequence_length=length)
            for kind in kinds:
                shares = shares_of(net.space, kind, budgets)
                row = {"space": name, "budgets": " ".join(given.values()), "shares": kind}
                for way, options in WAYS.items():
                    times = []
                    for _ in range(repeats):
                        start = time.process_time()
                        discretise(net, shares, budgets, **options)
                        times.append(1e3 * (time.process_time() - start))
                    row[way] = f"{median(times):.0f}"
                row["MiB so far"] = str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
                rows.append(row)
    print(format_table(rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", choices=NETS, default=list(NETS))
    parser.add_argument(
        "--shares", nargs="+", choices=["random", "equal", "start"], default=["random", "equal", "start"]
    )
    parser.add_argument("--budgets", nargs=2, default=["60%", "70%"], help="of FLOPs and of parameters")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    main(given.nets, given.shares, given.budgets, given.repeats)
