"""Predicted against measured latency of random architectures.

    python benchmarks/latency.py gpt2
    python benchmarks/latency.py vit --seeds 0 1 2
    python benchmarks/latency.py gpt2 --apart            # the table first, as a search has it; then the nets

The nets of the latency table and the random ones are timed in turns, so that the error is that of the prediction; with
`--apart` it includes what the machine's speed changes between the two. Each seed measures everything anew.
"""

import argparse
import random
from statistics import median

from tangle_hf import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
)
from tangle_hf.analysis import format_table
from tangle_hf.cost.latency_profiles import compare, layer_groups, nets_to_measure, profile, table_of, usual_form
from tangle_hf.cost.timing import ROUNDS, build_nets, conditions, measure
from tangle_hf.models.example_inputs import example_inputs
from tangle_hf.models.vit.spaces_vit import AUTOFORMER_HEAD_DIM, AUTOFORMER_T


SMALL_TEXT = SearchSpace(
    n_embd=[64, 96, 128], n_layer=[2, 3, 4], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2, 4])
)
PAPER_TEXT = SearchSpace(
    n_embd=[384, 576, 768], n_layer=[5, 6, 7], n_head=PerLayer([6, 8, 12]), mlp_ratio=PerLayer([2, 3, 4])
)
SMALL_IMAGES = SearchSpace(
    hidden_size=[48, 64, 96],
    num_hidden_layers=[2, 3, 4],
    num_attention_heads=PerLayer([2, 4]),
    mlp_ratio=PerLayer([1, 2, 4]),
)


def text(space: SearchSpace, length: int) -> tuple[ElasticGPT2LMHeadModel, int]:
    """A language supernet and the length of its sequences."""
    return ElasticGPT2LMHeadModel(ElasticGPT2Config(space=space, vocab_size=2048, n_positions=length)), length


def images(space: SearchSpace, **options) -> tuple[ElasticViTForImageClassification, None]:
    """A vision supernet."""
    return ElasticViTForImageClassification(ElasticViTConfig(space=space, **options)), None


NETS = {
    "gpt2": lambda: text(SMALL_TEXT, 128),
    "gpt2-paper": lambda: text(PAPER_TEXT, 224),
    "vit": lambda: images(SMALL_IMAGES, image_size=28, patch_size=4, num_channels=1),
    "autoformer-tiny": lambda: images(AUTOFORMER_T, head_dim=AUTOFORMER_HEAD_DIM, num_labels=1000),
}


def errors(
    supernet, length: int | None, seed: int, count: int, batch_size: int, rounds: int, apart: bool
) -> list[float]:
    """Prints a row per architecture; returns the relative errors."""
    rng, example = random.Random(seed), {"batch_size": batch_size, "sequence_length": length}
    archs = [supernet.space.sample(rng) for _ in range(count)]
    drawn, inputs = build_nets(supernet, archs), example_inputs(supernet, **example)
    if apart:
        table, times = profile(supernet, **example, rounds=rounds), measure(drawn, inputs, rounds=rounds)
    else:
        known = nets_to_measure(supernet.space, layer_groups(supernet.config, length))
        nets = [*build_nets(supernet, known, usual_form(supernet)), *drawn]
        times = measure(nets, inputs, rounds=rounds)
        table, times = table_of(supernet, known, times[:-count], **example), times[-count:]
    found = [compare(table, arch, ms) for arch, ms in zip(archs, times, strict=True)]
    rows = [
        {"architecture": str(arch), "predicted ms": e["predicted_ms"], "measured ms": e["measured_ms"],
         "error": f"{e['error']:+.1%}"}
        for arch, e in sorted(zip(archs, found, strict=True), key=lambda pair: pair[1]["measured_ms"])
    ]  # fmt: skip
    print(f"\nseed {seed}\n{format_table(rows)}")
    return [e["error"] for e in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("net", choices=NETS)
    parser.add_argument("--architectures", type=int, default=20, help="how many to draw (default 20)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of every net (default {ROUNDS})")
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--apart", action="store_true", help="measure the table before the drawn nets, not in turns")
    arguments = parser.parse_args()
    supernet, length = NETS[arguments.net]()
    here = conditions(supernet, batch_size=arguments.batch_size, sequence_length=length)
    print(", ".join(f"{name}: {value}" for name, value in here.items()))
    found = {}
    for seed in arguments.seeds:
        found[seed] = errors(
            supernet, length, seed, arguments.architectures, arguments.batch_size, arguments.rounds, arguments.apart
        )
    rows = [
        {"seed": str(seed), "median error": f"{median(map(abs, each)):.1%}", "worst": f"{max(map(abs, each)):.1%}",
         "mean, signed": f"{sum(each) / len(each):+.1%}"}
        for seed, each in found.items()
    ]  # fmt: skip
    print(f"\n{arguments.net}: relative errors of {arguments.architectures} architectures\n{format_table(rows)}")


if __name__ == "__main__":
    main()
