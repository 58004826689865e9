"""Time and memory of one supernet step beside one training step of the stock Llama of the largest architecture.

    python benchmarks/llama_step.py time
    python benchmarks/llama_step.py memory
    python benchmarks/llama_step.py single_path     # the path of one architecture beside its own net
    python benchmarks/llama_step.py choices         # three and six choices of every dimension that has them

SmolLM2-135M's sizes (width 576, 9 heads in 3 groups, 1,536 hidden units, vocabulary 49,152) with 6 layers at 2x256 tokens and
4 layers at 8x256. A step is forward + backward, without the optimizer; a search step is an architecture step and a weight
step. Where time is measured the allocator keeps its memory, as on a GPU: otherwise a stock step loses time to page faults.
"""

import argparse
import json
import random

import torch
from side_by_side import compare_memory, compare_time, keep_memory, peak_memory, print_rows
from steps import adamw, plain_step, search_steps
from transformers import LlamaConfig, LlamaForCausalLM

from tangle_hf import ElasticLlamaConfig, ElasticLlamaForCausalLM, PerLayer, SearchSpace, extract


CASES = ((6, 2, 256), (4, 8, 256))  # layers, sequences, tokens of each
WIDTHS = {3: (384, 480, 576), 6: (384, 432, 480, 512, 544, 576)}
HIDDEN = {3: (768, 1152, 1536), 6: (768, 896, 1024, 1152, 1344, 1536)}
KINDS = ("stock", "weight", "arch")
TRAINED = ("stock AdamW", "search AdamW")
SEARCH = {"search": ("weight", "arch")}


def space_of(layers: int, choices: int = 3) -> SearchSpace:
    """Widths, depths, hidden units, groups and heads of a group under SmolLM2-135M's."""
    return SearchSpace(
        hidden_size=WIDTHS[choices],
        num_hidden_layers=[layers - 2, layers - 1, layers],
        intermediate_size=PerLayer(HIDDEN[choices]),
        num_key_value_heads=PerLayer([1, 2, 3]),
        num_key_value_groups=PerLayer([1, 2, 3]),
    )


def build(kind: str, case: tuple[int, int, int], choices: int = 3):
    """A function that takes one step of a kind of `KINDS` or `TRAINED`."""
    kind, trained = kind.removesuffix(" AdamW"), kind.endswith(" AdamW")
    torch.manual_seed(0)
    layers, *shape = case
    batch = dict.fromkeys(("input_ids", "labels"), torch.randint(49152, shape))
    fields = {"vocab_size": 49152, "max_position_embeddings": 2048, "tie_word_embeddings": True, "use_cache": False}
    if kind == "stock":
        sizes = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
        model = LlamaForCausalLM(LlamaConfig(**sizes, **fields, num_hidden_layers=layers, head_dim=64))
        return plain_step(model, batch, update=adamw(model) if trained else None)
    space = space_of(layers, choices)
    supernet = ElasticLlamaForCausalLM(ElasticLlamaConfig(space=space, head_dim=64, **fields)).train()
    return search_steps(supernet, batch, update=adamw(supernet) if trained else None)[kind]


def title(case: tuple[int, int, int]) -> str:
    """What a case is, in words."""
    return "{} layers, {}x{} tokens".format(*case)


def by_time(rounds: int) -> None:
    """Weight, architecture and search step beside the stock one."""
    for case in CASES:
        print_rows(title(case), compare_time({kind: build(kind, case) for kind in KINDS}, rounds, SEARCH))


def by_memory(rounds: int) -> None:
    """Peak memory of three steps above the imports, one process per model; then with AdamW."""
    for case in CASES:
        print(f"\n{title(case)}")
        for kinds in (KINDS, TRAINED):
            compare_memory(__file__, {kind: {"kind": kind, "case": case} for kind in kinds})


def by_single_path(rounds: int) -> None:
    """The path of one architecture in the supernet beside the extracted net, on five random architectures."""
    case, rng = CASES[0], random.Random(0)
    space = space_of(case[0])
    fields = {"vocab_size": 49152, "tie_word_embeddings": True, "use_cache": False, "head_dim": 64}
    supernet = ElasticLlamaForCausalLM(ElasticLlamaConfig(space=space, **fields)).train()
    batch = dict.fromkeys(("input_ids", "labels"), torch.randint(49152, case[1:]))
    for _ in range(5):
        arch = space.sample(rng)
        steps = {"extracted": plain_step(extract(supernet, arch).train(), batch)}
        steps["single path"] = plain_step(supernet, batch, arch=arch)
        print_rows(f"single path: {arch}", compare_time(steps, rounds, {}))


def by_choices(rounds: int) -> None:
    """Weight steps with six widths and MLPs beside three."""
    for case in CASES:
        steps = {f"{count} choices": build("weight", case, count) for count in WIDTHS}
        print_rows(title(case), compare_time(steps, rounds, {}))


QUESTIONS = {"time": by_time, "memory": by_memory, "single_path": by_single_path, "choices": by_choices}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", nargs="?", default="time", choices=QUESTIONS, help="which table")
    parser.add_argument("--rounds", type=int, default=15, help="counted rounds (default 15)")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(peak_memory(lambda: build(arguments.case["kind"], tuple(arguments.case["case"]))))
    else:
        if arguments.question != "memory":  # what is kept for later would count as in use
            keep_memory()
        QUESTIONS[arguments.question](arguments.rounds)


if __name__ == "__main__":
    main()
