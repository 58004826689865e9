"""Time and memory of one supernet step beside one training step of the stock GPT-2 of the largest architecture.

    python benchmarks/gpt2_step.py time          # the main table
    python benchmarks/gpt2_step.py --help        # every question has a table

The space is the paper's (7 layers, width 384/576/768, heads 6/8/12, ratio 2/3/4). A step is forward + backward, without
the optimizer; a search step is an architecture step and a weight step.
"""

import argparse
import json
import random
import resource

import torch
from side_by_side import compare_memory, compare_time, keep_memory, peak_memory, print_rows
from steps import adamw, plain_step, search_steps
from transformers import AttentionInterface, GPT2Config, GPT2LMHeadModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tangle_hf import ElasticGPT2Config, ElasticGPT2LMHeadModel, PerLayer, SearchSpace, extract


SIZES = ((2, 128, 2048), (12, 224, 2048), (2, 128, 50257))  # sequences, tokens of each, vocabulary
WIDTHS = {3: (384, 576, 768), 6: (384, 480, 552, 624, 696, 768)}
BOTH = ("inputs weight", "inputs arch", "weights weight", "weights arch")
TRAINED = ("stock AdamW", "inputs search AdamW", "weights search AdamW")
SEARCH = {f"{form} search": (f"{form} weight", f"{form} arch") for form in ("inputs", "weights")}


def paper_space(widths: tuple[int, ...] = WIDTHS[3], heads: tuple[int, ...] = (6, 8, 12)) -> SearchSpace:
    """The paper's language space, or one with other widths and head counts."""
    return SearchSpace(n_embd=widths, n_layer=[5, 6, 7], n_head=PerLayer(heads), mlp_ratio=PerLayer([2, 3, 4]))


def common(size: tuple[int, int, int]) -> dict:
    """Config fields that every model shares."""
    fields = {"vocab_size": size[2], "n_positions": size[1], "use_cache": False}
    return fields | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)


def three_attentions(module, query, key, value, attention_mask, **options):
    """Attention of stock GPT-2 with 6, 8 and 12 heads, averaged: what a mixture of three head counts costs at least."""
    parts = []
    for heads in (6, 8, 12):
        split = (t.transpose(1, 2).flatten(2).unflatten(2, (heads, -1)).transpose(1, 2) for t in (query, key, value))
        parts.append(sdpa_attention_forward(module, *split, attention_mask, **options)[0].flatten(2))
    return sum(parts).unflatten(2, (query.shape[1], -1)) / len(parts), None


AttentionInterface.register("three_attentions", three_attentions)


def build(kind: str, size: tuple[int, int, int], space: SearchSpace, compiled: bool = False):
    """A function that takes one step of a kind.

    Kinds: "stock", "stock fused gelu", "stock, three attentions", "<inputs | weights | sampled heads> <weight | arch |
    search>", "<gdas | reinmax> <weight | arch | search>"; "stock" and searches end with "AdamW" if it takes part.
    """
    kind, trained = kind.removesuffix(" AdamW"), kind.endswith(" AdamW")
    torch.manual_seed(0)
    tokens = torch.randint(size[2], size[:2])
    if kind.startswith("stock"):
        activation = "gelu_pytorch_tanh" if "fused" in kind else "gelu_new"
        sizes = {"n_embd": 768, "n_layer": 7, "n_head": 12, "activation_function": activation}
        model = GPT2LMHeadModel(GPT2Config(**common(size), **sizes, bos_token_id=None, eos_token_id=None))
        if "three attentions" in kind:
            model.set_attn_implementation("three_attentions")
        model.loss_type = "ForCausalLM"  # the class has none of its own, and transformers warns
        batch, update = {"input_ids": tokens, "labels": tokens}, adamw(model) if trained else None
        return plain_step(model, batch, torch.compile(model) if compiled else model, update)
    form, level = kind.rsplit(" ", 1)
    options = {"superposition": "weights" if form == "weights" else "inputs", "sampled_heads": form == "sampled heads"}
    supernet = ElasticGPT2LMHeadModel(ElasticGPT2Config(**common(size), space=space, **options))
    run = torch.compile(supernet) if compiled else supernet
    method = form if form in ("gdas", "reinmax") else "drnas"
    update = adamw(supernet) if trained else None
    return search_steps(supernet, {"input_ids": tokens, "labels": tokens}, method, run, update)[level]


def table(
    title: str, kinds: tuple[str, ...], size, rounds: int, space: SearchSpace, sums=None, compiled=False
) -> None:
    """One size, every kind beside the stock model."""
    steps = {kind: build(kind, size, space, compiled) for kind in ("stock", "stock fused gelu", *kinds)}
    print_rows(f"{title}: {size[0]}x{size[1]} tokens, vocabulary {size[2]}", compare_time(steps, rounds, sums or {}))


def by_time(rounds: int) -> None:
    """Every step, at the three sizes."""
    for size in SIZES:
        table("time", ("stock, three attentions", *BOTH), size, rounds, paper_space(), SEARCH)


def by_heads(rounds: int) -> None:
    """One head count in the space; three of which one is sampled; hard samplers."""
    inputs = {"inputs search": SEARCH["inputs search"]}
    for size in SIZES[:2]:
        table("one head count", BOTH[:2], size, rounds, paper_space(heads=(12,)), inputs)
        kinds = [f"{form} {level}" for form in ("sampled heads", "gdas", "reinmax") for level in ("weight", "arch")]
        sums = {f"{form} search": (f"{form} weight", f"{form} arch") for form in ("sampled heads", "gdas", "reinmax")}
        table("three head counts", tuple(kinds), size, rounds, paper_space(), sums)


def by_choices(rounds: int) -> None:
    """Weight steps with three and with six widths; ratios are to the stock step, growth is the ratio of two of them."""
    for size in SIZES[:2]:
        steps = {"stock": build("stock", size, paper_space())}
        for form in ("inputs", "weights"):
            for count, widths in WIDTHS.items():
                steps[f"{form} weight, {count} widths"] = build(f"{form} weight", size, paper_space(widths))
        rows = compare_time(steps, rounds, {})
        print_rows(f"choices: {size[0]}x{size[1]} tokens, vocabulary {size[2]}", rows)


def by_tokens(rounds: int) -> None:
    """From 128 to 2,688 tokens."""
    for batch, length in ((1, 128), (2, 128), (4, 224), (12, 224)):
        table("tokens", BOTH, (batch, length, 2048), rounds, paper_space(), SEARCH)


def by_vocabulary(rounds: int) -> None:
    """From 2,048 to 50,257 tokens in the vocabulary."""
    for vocabulary in (2048, 16384, 50257):
        table("vocabulary", BOTH, (2, 128, vocabulary), rounds, paper_space(), SEARCH)


def by_threads(rounds: int) -> None:
    """One thread and two."""
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for size in SIZES[:2]:
            table("threads", BOTH, size, rounds, paper_space(), SEARCH)


def by_compile(rounds: int) -> None:
    """With and without `torch.compile` (its first call, minutes, is not counted)."""
    for compiled in (False, True):
        title = "torch.compile" if compiled else "eager"
        inputs = {"inputs search": SEARCH["inputs search"]}
        table(title, BOTH[:2], SIZES[0], rounds, paper_space(), inputs, compiled)


def by_single_path(rounds: int) -> None:
    """SPOS: the single path in the supernet beside the extracted model, on seven random architectures."""
    space, rng = paper_space(), random.Random(0)
    supernet = ElasticGPT2LMHeadModel(ElasticGPT2Config(**common(SIZES[1]), space=space)).train()
    tokens = torch.randint(2048, (12, 224))
    for _ in range(7):
        arch = space.sample(rng)
        batch = {"input_ids": tokens, "labels": tokens}
        steps = {"extracted": plain_step(extract(supernet, arch).train(), batch)}
        steps["single path"] = plain_step(supernet, batch, arch=arch)
        print_rows(f"single path: {arch}", compare_time(steps, rounds, {}))


def by_memory(rounds: int) -> None:
    """Peak memory of three steps above the imports, one process per model; then with AdamW."""
    for size in SIZES:
        print(f"\nmemory: {size[0]}x{size[1]} tokens, vocabulary {size[2]}")
        for kinds in (("stock", "stock fused gelu", *BOTH), TRAINED):
            compare_memory(__file__, {kind: {"kind": kind, "size": size} for kind in kinds})


def by_faults(rounds: int) -> None:
    """Page faults of one step: memory that went back to the system and is mapped again."""
    for size in SIZES[:2]:
        print(f"\npage faults: {size[0]}x{size[1]} tokens, vocabulary {size[2]}")
        for kind in ("stock", "stock fused gelu", *BOTH):
            step = build(kind, size, paper_space())
            step()
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(rounds):
                step()
            print(
                f"{kind:<34} {(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // rounds:9,}", flush=True
            )


QUESTIONS = {
    "time": by_time,
    "heads": by_heads,
    "choices": by_choices,
    "tokens": by_tokens,
    "vocabulary": by_vocabulary,
    "threads": by_threads,
    "compile": by_compile,
    "single_path": by_single_path,
    "memory": by_memory,
    "faults": by_faults,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    described = "; ".join(f"{name}: {run.__doc__.splitlines()[0]}" for name, run in QUESTIONS.items())
    parser.add_argument("question", nargs="?", default="time", choices=QUESTIONS, help=described)
    parser.add_argument("--rounds", type=int, default=15, help="counted rounds (default 15)")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        size = tuple(arguments.case["size"])
        print(peak_memory(lambda: build(arguments.case["kind"], size, paper_space())))
    else:
        if arguments.question not in ("memory", "faults"):  # what is kept for later would count as in use
            keep_memory()
        QUESTIONS[arguments.question](arguments.rounds)


if __name__ == "__main__":
    main()
