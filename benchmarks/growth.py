"""How the time of a search grows with its space: of a step, and of the choice at the end.

    python benchmarks/growth.py
    python benchmarks/growth.py --only layers --rounds 3

A small GPT-2 (width 128, 6 layers, 2x32 tokens) of which one thing grows at a time: the choices of the width, which all layers
share, those of a layer's MLP, layers, anchors of a front, candidates of the choice. A step is both levels of `BilevelStep` with
the optimizers, within a limit of the parameters; the choice is `discretise` within limits of parameters and FLOPs.
Milliseconds of processor time on one thread, medians of rounds in turns, the smallest and largest in brackets. The growth is
log(time ratio) / log(size ratio), from the first size to the last: 1 is linear. `discretise.py` times the choice in large
spaces.
"""

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import torch
from accelerate import Accelerator

from tangle_hf import ElasticGPT2Config, ElasticGPT2LMHeadModel, PerLayer, SearchSpace, sampler
from tangle_hf.analysis import format_table
from tangle_hf.budgets.discretisation import discretise
from tangle_hf.budgets.limits import make_budgets
from tangle_hf.search import Limits, SearchArguments
from tangle_hf.search.gradient.arch_front import ArchFront
from tangle_hf.search.gradient.bilevel_step import BilevelStep
from tangle_hf.search.loop import weight_optimizer, weight_scheduler
from tangle_hf.search.search_cost import SearchCost


LENGTH = 32
WIDTHS = {3: (64, 96, 128), 10: range(56, 129, 8), 30: range(12, 129, 4)}
RATIOS = {3: (2, 3, 4), 10: [1.75 + n / 4 for n in range(10)], 30: [0.375 + n / 8 for n in range(30)]}


@dataclass(frozen=True)
class Case:
    """What is timed, and how large it is."""

    widths: int = 3
    ratios: int = 3
    layers: int = 6
    anchors: int = 1
    candidates: int = 5


# what grows -> (field of `Case`, its sizes, what is timed)
GROWING = {
    "choices of the width": ("widths", (3, 10, 30), ("step", "choice")),
    "choices of a layer's MLP": ("ratios", (3, 10, 30), ("step", "choice")),
    "layers": ("layers", (6, 24, 96), ("step", "choice")),
    "anchors of a front": ("anchors", (1, 5, 20), ("step",)),
    "candidates": ("candidates", (1, 10, 100), ("choice",)),
}


def supernet_of(case: Case) -> ElasticGPT2LMHeadModel:
    """The supernet of a case."""
    torch.manual_seed(0)
    space = SearchSpace(
        n_embd=list(WIDTHS[case.widths]),
        n_layer=[case.layers - 2, case.layers - 1, case.layers],
        n_head=PerLayer([2, 4]),
        mlp_ratio=PerLayer(RATIOS[case.ratios]),
    )
    return ElasticGPT2LMHeadModel(ElasticGPT2Config(space=space, vocab_size=256, n_positions=LENGTH)).train()


def step(case: Case) -> Callable[[], object]:
    """One step of both levels."""
    supernet, accelerator = supernet_of(case), Accelerator(cpu=True)
    if case.anchors == 1:
        settings = SearchArguments(max_params="60%", max_steps=1000)
    else:
        anchors = [f"{40 + 50 * n / (case.anchors - 1):.2f}%" for n in range(case.anchors)]
        settings = SearchArguments(pareto="params", pareto_anchors=anchors, max_steps=1000)
    front = ArchFront(supernet.space, sampler("drnas"), Limits.of(settings, supernet).anchors, settings)
    optimizer = weight_optimizer(supernet, settings)
    generator, cost = torch.Generator().manual_seed(0), SearchCost(supernet, 2, LENGTH)
    levels = BilevelStep(
        supernet, supernet, optimizer, weight_scheduler(optimizer, settings), front,
        torch.optim.Adam(front.parameters(), lr=0.01), generator, cost, settings, accelerator,
    )  # fmt: skip
    batch = dict.fromkeys(("input_ids", "labels"), torch.randint(256, (2, LENGTH)))

    def take() -> None:
        limit = front.draw(generator)
        levels.arch_step(0, limit, [batch], [batch])
        levels.weight_step(0, limit, [batch])

    return take


def choice(case: Case) -> Callable[[], object]:
    """The most likely nets within two budgets, shares being random."""
    supernet, generator = supernet_of(case), torch.Generator().manual_seed(0)
    space = supernet.space
    shares = {name: (2 * torch.randn(space.rows(name), len(choices), generator=generator)).softmax(-1)
              for name, choices in space.choices.items()}  # fmt: skip
    budgets = make_budgets(supernet.config, max_params="60%", max_flops="60%", sequence_length=LENGTH)
    return lambda: discretise(supernet, shares, budgets, count=case.candidates, band=0.95)


def seconds(calls: list[Callable[[], object]], rounds: int) -> list[list[float]]:
    """Processor time of every call, round by round; a first round warms up."""
    times: list[list[float]] = [[] for _ in calls]
    for number in range(rounds + 1):
        for call, own in zip(calls, times, strict=True):
            start = time.process_time()
            call()
            if number:
                own.append(time.process_time() - start)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="counted rounds (default 7)")
    parser.add_argument("--only", choices=GROWING, nargs="+", default=list(GROWING), help="what is to grow")
    given = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in given.only:
        field, sizes, timed = GROWING[name]
        for what in timed:
            build = {"step": step, "choice": choice}[what]
            times = seconds([build(replace(Case(), **{field: size})) for size in sizes], given.rounds)
            medians = [median(own) for own in times]
            row = {"what grows": f"{name}: {', '.join(map(str, sizes))}", "time of": f"a {what}"}
            for place, own, middle in zip(("first", "second", "third"), times, medians, strict=True):
                row[f"{place}, ms"] = f"{1e3 * middle:.1f} ({1e3 * min(own):.1f} to {1e3 * max(own):.1f})"
            row["growth"] = f"{math.log(medians[-1] / medians[0]) / math.log(sizes[-1] / sizes[0]):.2f}"
            rows.append(row)
            print(" | ".join(row.values()), flush=True)
    print(f"\n{format_table(rows)}")


if __name__ == "__main__":
    main()
