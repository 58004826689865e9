"""Time and memory of one supernet step beside one training step of the stock model of the largest architecture.

    python benchmarks/gpt2_step.py                      # time: every row of the table
    python benchmarks/gpt2_step.py --memory             # peak memory, one process per model

The space is the paper's (7 layers, width 384/576/768, heads 6/8/12, ratio 2/3/4). Models are stepped alternately in one
process, so that a change of the machine's speed meets all of them alike; a step is forward + backward, without the
optimizer. Ratios are medians of the ratios to the stock step of the same round.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tangle_hf import ArchParameters, ElasticGPT2Config, ElasticGPT2LMHeadModel, PerLayer, SearchSpace, sampler


SIZES = [(12, 224, 2048), (2, 128, 2048), (2, 128, 50257)]
STEPS = ["stock", "stock fused gelu", "inputs weight", "inputs arch", "weights weight", "weights arch"]


def paper_space(widths: tuple[int, ...] = (384, 576, 768), heads: tuple[int, ...] = (6, 8, 12)) -> SearchSpace:
    """The paper's language space, or one with other widths and head counts."""
    return SearchSpace(n_embd=widths, n_layer=[5, 6, 7], n_head=PerLayer(heads), mlp_ratio=PerLayer([2, 3, 4]))


def build(kind: str, vocab_size: int, length: int, space: SearchSpace):
    """A function that takes one step of a kind: "stock", or "<superposition> <weight|arch|search>"."""
    torch.manual_seed(0)
    common = {"vocab_size": vocab_size, "n_positions": length, "use_cache": False}
    common |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    if kind.startswith("stock"):
        activation = "gelu_pytorch_tanh" if "fused" in kind else "gelu_new"
        sizes = {"n_embd": 768, "n_layer": 7, "n_head": 12, "activation_function": activation}
        stock = GPT2LMHeadModel(GPT2Config(**common, **sizes, bos_token_id=None, eos_token_id=None))
        stock.loss_type = "ForCausalLM"

        def step(tokens):
            stock(input_ids=tokens, labels=tokens).loss.backward()
            stock.zero_grad(set_to_none=True)

        return step
    form, level = kind.split()
    supernet = ElasticGPT2LMHeadModel(ElasticGPT2Config(**common, space=space, superposition=form))
    arch_parameters, drnas = ArchParameters(space), sampler("drnas")

    def weight_step(tokens):
        mixture = {name: rows.detach() for name, rows in arch_parameters.sample(drnas).items()}
        supernet(input_ids=tokens, labels=tokens, mixture=mixture).loss.backward()
        supernet.zero_grad(set_to_none=True)

    def arch_step(tokens):
        supernet.requires_grad_(False)
        supernet(input_ids=tokens, labels=tokens, mixture=arch_parameters.sample(drnas)).loss.backward()
        arch_parameters.zero_grad()
        supernet.requires_grad_(True)

    return {"weight": weight_step, "arch": arch_step}[level]


def compare_time(sizes, kinds, rounds: int, space: SearchSpace) -> list[dict]:
    """Median time of every kind of step, and of its ratio to the stock step of the same round."""
    rows = []
    for batch, length, vocab_size in sizes:
        steps = {kind: build(kind, vocab_size, length, space) for kind in kinds}
        tokens = torch.randint(vocab_size, (batch, length))
        times = {kind: [] for kind in kinds}
        for number in range(rounds + 1):
            for kind, step in steps.items():
                start = time.perf_counter()
                step(tokens)
                if number:  # the first round warms up
                    times[kind].append(time.perf_counter() - start)
        for kind in kinds:
            ratios = [a / b for a, b in zip(times[kind], times["stock"], strict=True)]
            median, low, high = statistics.median(ratios), min(ratios), max(ratios)
            row = {"tokens": f"{batch}x{length}", "vocab": vocab_size, "step": kind}
            rows.append(row | {"seconds": statistics.median(times[kind]), "x": median, "min": low, "max": high})
            print(
                "{tokens:>7} {vocab:>6} {step:<18} {seconds:7.3f} s {x:6.2f}x ({min:.2f} to {max:.2f})".format(
                    **rows[-1]
                )
            )
    return rows


def compare_memory(sizes, kinds, space: SearchSpace) -> None:
    """Peak resident memory above the imports, each kind in its own process; ratios to the stock model."""
    for batch, length, vocab_size in sizes:
        peaks = {}
        for kind in kinds:
            case = json.dumps([kind, batch, length, vocab_size, space.to_dict()])
            done = subprocess.run(
                [sys.executable, __file__, "--case", case], capture_output=True, text=True, check=True
            )
            peaks[kind] = int(done.stdout)
            ratio = peaks[kind] / peaks["stock"]
            print(f"{batch}x{length:>4} {vocab_size:>6} {kind:<18} {peaks[kind] / 1024:8.0f} MiB {ratio:6.2f}x")


def one_case(case: str) -> None:
    """Prints the peak memory of three steps above the imports, in KiB."""
    kind, batch, length, vocab_size, space = json.loads(case)
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = build(kind, vocab_size, length, SearchSpace.from_dict(space))
    tokens = torch.randint(vocab_size, (batch, length))
    for _ in range(3):
        step(tokens)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imported)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--memory", action="store_true", help="measure peak memory instead of time")
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds per size (default 7)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    parser.add_argument("--n_embd", type=int, nargs="+", default=[384, 576, 768], help="widths of the space")
    parser.add_argument("--n_head", type=int, nargs="+", default=[6, 8, 12], help="head counts of the space")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[0, 1, 2], help=f"which of {SIZES} (batch, tokens, vocab)"
    )
    parser.add_argument("--steps", nargs="+", default=STEPS, help=f"which of {STEPS}; stock is always run")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        return one_case(arguments.case)
    torch.set_num_threads(arguments.threads)
    kinds = ["stock", *(kind for kind in arguments.steps if kind != "stock")]
    space = paper_space(tuple(arguments.n_embd), tuple(arguments.n_head))
    sizes = [SIZES[index] for index in arguments.sizes]
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.rounds} rounds, {space}")
    if arguments.memory:
        compare_memory(sizes, [kind for kind in kinds if not kind.endswith("arch")], space)
    else:
        compare_time(sizes, kinds, arguments.rounds, space)


if __name__ == "__main__":
    main()
