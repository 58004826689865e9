"""What searches cost on a GPU: one command of at most eight minutes that needs no network.

    python benchmarks/gpu.py                                   # everything, on the GPU; leaves gpu.json and prints tables
    python benchmarks/gpu.py --parts llama --minutes 3
    python benchmarks/gpu.py --device cpu --tiny               # the same code on tiny nets

First a search of 50 steps that ends in an export. Then, for GPT-2 124M (8x1024 tokens), ViT-B (64 images of 224 pixels) and
SmolLM2-135M (4x2048 tokens), steps of a search beside a training step of the stock net of the largest architecture, alternately
in one process: in bf16 (autocast) and fp32, as they are and with blocks compiled, with GDAS, and the single path of one
architecture beside its own net. A step is forward + backward, without the optimizer; a search step is an architecture step and
a weight step.

Each part is a process of its own, which is ended when its time is up: what it has measured until then counts. What does not fit
into memory, cannot be compiled or had no time left is a row that says so.
"""

import argparse
import gc
import json
import os
import random
import runpy
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from llama_step import space_of
from steps import Step, plain_step, search_steps
from transformers import PreTrainedModel

from tangle_hf import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticLlamaConfig,
    ElasticLlamaForCausalLM,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
    extract,
)
from tangle_hf.analysis import format_table
from tangle_hf.errors import readable_errors
from tangle_hf.runs.about import versions


RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "search_gpt.py"
TABLES = (("bf16", False), ("fp32", False), ("bf16", True), ("fp32", True))  # precision, blocks compiled
ROUNDS = 15
SUMS = {"search": ("weight", "arch"), "gdas search": ("gdas weight", "gdas arch")}
SEARCH_SHARE = 0.2  # of the minutes, at most, for the search
ADAMW = 8  # bytes of its two moments, in fp32, for each parameter
# What failed is said in the row of a step, and the others go on. The compiler's errors are RuntimeErrors, too.
FAILURES = (RuntimeError, ValueError)


def gpt2(tiny: bool) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """A supernet under GPT-2 124M, and a batch."""
    widths, layers = ([24, 48], [1, 2]) if tiny else ([384, 576, 768], [10, 11, 12])
    rows, length, vocabulary = (2, 16, 100) if tiny else (8, 1024, 50257)
    space = SearchSpace(n_embd=widths, n_layer=layers, n_head=PerLayer([6, 8, 12]), mlp_ratio=PerLayer([2, 3, 4]))
    fields = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0) | {"use_cache": False}
    config = ElasticGPT2Config(space=space, vocab_size=vocabulary, n_positions=length, **fields)
    return ElasticGPT2LMHeadModel(config), _tokens(vocabulary, rows, length)


def vit(tiny: bool) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """A supernet under ViT-B, and a batch."""
    widths, layers = ([24, 48], [1, 2]) if tiny else ([384, 576, 768], [10, 11, 12])
    images, size, classes = (2, 32, 10) if tiny else (64, 224, 1000)
    space = SearchSpace(hidden_size=widths, num_hidden_layers=layers,
                        num_attention_heads=PerLayer([6, 8, 12]), mlp_ratio=PerLayer([2, 3, 4]))  # fmt: skip
    supernet = ElasticViTForImageClassification(ElasticViTConfig(space=space, image_size=size, num_labels=classes))
    return supernet, {"pixel_values": torch.randn(images, 3, size, size), "labels": torch.arange(images) % classes}


def llama(tiny: bool) -> tuple[PreTrainedModel, dict[str, torch.Tensor]]:
    """A supernet under SmolLM2-135M, and a batch."""
    rows, length, vocabulary = (2, 16, 100) if tiny else (4, 2048, 49152)
    space = space_of(30)
    if tiny:
        own = {"hidden_size": [24, 48], "num_hidden_layers": [1, 2], "intermediate_size": PerLayer([32, 64])}
        space = SearchSpace(**own, num_key_value_heads=PerLayer([1, 2]), num_key_value_groups=PerLayer([1, 2]))
    fields = {"max_position_embeddings": length, "tie_word_embeddings": True, "use_cache": False}
    config = ElasticLlamaConfig(space=space, vocab_size=vocabulary, head_dim=8 if tiny else 64, **fields)
    return ElasticLlamaForCausalLM(config), _tokens(vocabulary, rows, length)


def _tokens(vocabulary: int, rows: int, length: int) -> dict[str, torch.Tensor]:
    return dict.fromkeys(("input_ids", "labels"), torch.randint(vocabulary, (rows, length)))


FAMILIES = {"gpt2": gpt2, "vit": vit, "llama": llama}
PARTS = ("search", *FAMILIES)


def measure_steps(part: str, device: torch.device, tiny: bool, deadline: float) -> Iterator[dict[str, Any]]:
    """The rows of a family: four tables, each with an even share of the time that is left.

    Args:
        part: Name of the family.
        device: Where.
        tiny: Whether nets are tiny.
        deadline: When to be done, by `time.monotonic()`.
    """
    torch.manual_seed(0)
    supernet, batch = FAMILIES[part](tiny)
    supernet.to(device).train()
    batch = {name: values.to(device) for name, values in batch.items()}
    arch = supernet.space.sample(random.Random(0))
    nets = {"stock": extract(supernet, supernet.space.largest).train(), "extracted": extract(supernet, arch).train()}
    examples = len(batch["labels"])
    unit, count = ("images", examples) if part == "vit" else ("tokens", batch["labels"].numel())
    for number, (precision, compiled) in enumerate(TABLES):
        until = time.monotonic() + (deadline - time.monotonic()) / (len(TABLES) - number)
        common = {"part": part, "precision": precision, "blocks": "compiled" if compiled else "as they are"}
        if compiled:
            compile_blocks(supernet, nets["stock"], "eager" if tiny else "inductor")
        steps, owners = {}, {}
        run = autocast(precision, device)
        steps["stock"], owners["stock"] = plain_step(nets["stock"], batch, run(nets["stock"])), nets["stock"]
        for method, prefix in (("drnas", ""), ("gdas", "gdas "))[: 1 if compiled else 2]:
            levels = search_steps(supernet, batch, method, run(supernet))
            for level in ("weight", "arch"):
                steps[prefix + level], owners[prefix + level] = levels[level], supernet
        if not compiled:
            steps["extracted"] = plain_step(nets["extracted"], batch, run(nets["extracted"]))
            steps["single path"] = plain_step(supernet, batch, run(supernet), arch=arch)
            owners |= {"extracted": nets["extracted"], "single path": supernet}
        for row in time_steps(steps, owners, device, until):
            if "seconds" in row:
                row |= {f"{unit}/s": count / row["seconds"]}
            yield common | row


def compile_blocks(supernet: PreTrainedModel, stock: PreTrainedModel, backend: str) -> None:
    """Has the blocks of both nets compiled, each block as a program, in the steps that follow."""
    supernet.compile_blocks(backend)
    for block in stock.get_submodule(supernet.layer_list):
        block.compile(backend=backend)


def autocast(precision: str, device: torch.device) -> Callable[[PreTrainedModel], Callable]:
    """Model -> its forward pass, in bfloat16 where that is asked for; the backward pass follows it by itself."""
    return lambda model: torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")(model.__call__)


def time_steps(
    steps: Mapping[str, Step], owners: Mapping[str, PreTrainedModel], device: torch.device, until: float
) -> Iterator[dict[str, Any]]:
    """A row for each step, and for the sums of steps of which all parts could be measured.

    Args:
        steps: Name -> step, the first of which is the measure of the others; "single path" is measured by "extracted".
        owners: Name -> the net whose step it is.
        device: Where they run.
        until: When to be done, by `time.monotonic()`; a round that has begun is finished.
    """
    peaks, times = {}, {}
    for name, step in steps.items():
        if time.monotonic() > until:
            yield {"step": name, "problem": "no time left"}
            continue
        try:
            seconds_of(step, device)  # compiles, and lets the allocator grow
            seconds_of(step, device)
            if device.type == "cuda":
                peaks[name] = peak_of(step, owners[name], device)
            times[name] = []
        except FAILURES as error:
            owners[name].requires_grad_(True).zero_grad(set_to_none=True)
            empty_cache(device)
            yield {"step": name, "problem": first_line(error)}
    while times and time.monotonic() < until and len(next(iter(times.values()))) < ROUNDS:
        for name, found in times.items():
            found.append(seconds_of(steps[name], device))
    if not times or not next(iter(times.values())):
        yield from ({"step": name, "problem": "no time left"} for name in times)
        return
    for name, parts in SUMS.items():
        if all(part in times for part in parts):
            times[name] = [sum(values) for values in zip(*(times[part] for part in parts), strict=True)]
            owners = {**owners, name: owners[parts[0]]}
            if peaks:
                peaks[name] = max(peaks[part] for part in parts)
    for name, found in times.items():
        row = {"step": name, "seconds": statistics.median(found), "rounds": len(found)}
        base = "extracted" if name == "single path" else next(iter(steps))
        if base in times:
            ratios = [a / b for a, b in zip(found, times[base], strict=True)]
            row |= {"to": base, "x": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
        if name in peaks:
            row["GiB"] = peaks[name] / 2**30
            if base in times:
                row["memory x"] = with_adamw(peaks[name], owners[name]) / with_adamw(peaks[base], owners[base])
        yield row


def with_adamw(peak: float, model: PreTrainedModel) -> float:
    """Bytes of a step and of the optimizer's moments of all its weights, as a training of it keeps them."""
    return peak + ADAMW * model.num_parameters()


def seconds_of(step: Step, device: torch.device) -> float:
    """Seconds of a step, from an idle device to an idle one."""
    synchronise(device)
    start = time.perf_counter()
    step()
    synchronise(device)
    return time.perf_counter() - start


def peak_of(step: Step, owner: PreTrainedModel, device: torch.device) -> int:
    """Most bytes that a step takes on a GPU, its net included and other nets not."""
    torch.cuda.reset_peak_memory_stats(device)
    others = torch.cuda.memory_allocated(device) - sum(p.nbytes for p in {*owner.parameters(), *owner.buffers()})
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - others


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def empty_cache(device: torch.device) -> None:
    """Gives back what a failed step has left."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def first_line(error: Exception) -> str:
    """What went wrong, in a line."""
    if isinstance(error, torch.OutOfMemoryError):
        return "out of memory"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:160]


def measure_search(device: torch.device, tiny: bool) -> Iterator[dict[str, Any]]:
    """One row: a search of 50 steps on embedded text by the recipe, from its start to the exported net."""
    sizes = "--n_embd 384 576 768 --n_layer 10 11 12 --n_head 6 8 12 --mlp_ratio 2 3 4 --mixed_precision bf16"
    if tiny:
        sizes = (
            "--n_embd 8 16 --n_layer 1 2 --vocab_size 300 --block_size 16 --per_device_batch_size 2 --eval_batches 1"
        )
    steps = 4 if tiny else 50
    with tempfile.TemporaryDirectory() as folder:
        run, start, given = Path(folder) / "run", time.perf_counter(), sys.argv
        sys.argv = [str(RECIPE), *sizes.split(), "--max_steps", str(steps), "--output_dir", str(run)]
        if device.type == "cpu":
            os.environ["ACCELERATE_USE_CPU"] = "true"
        try:
            runpy.run_path(str(RECIPE), run_name="__main__")
        finally:
            sys.argv = given
        results = json.loads((run / "results.json").read_text())
        yield {
            "part": "search",
            "steps": steps,
            "seconds of the search": results["search"]["seconds"],
            "seconds in all": time.perf_counter() - start,
            "parameters": results["table"][0]["parameters"],
            "form": results["form"],
            "largest difference of logits": results["logit_difference"],
            "of": results["logit_scale"],
        }


def measure(part: str, device: torch.device, tiny: bool, deadline: float) -> Iterator[dict[str, Any]]:
    """The rows of a part, as they are measured."""
    return measure_search(device, tiny) if part == "search" else measure_steps(part, device, tiny, deadline)


def rows_of_process(command: Sequence[str], seconds: float) -> Iterator[dict[str, Any]]:
    """The rows that a process prints as lines of JSON until it ends, or is ended after so many seconds."""
    ended = threading.Event()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:

        def end() -> None:
            ended.set()
            process.kill()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            for line in process.stdout:
                if line.startswith('{"part"'):
                    yield json.loads(line)
            if process.wait() or ended.is_set():
                why = (
                    f"ended after {seconds:.0f} s" if ended.is_set() else f"failed with exit code {process.returncode}"
                )
                yield {"part": command[-1], "step": "the rest", "problem": why}
        finally:
            timer.cancel()
            process.kill()


def tables_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows as text: steps, then the search."""
    steps = [row for row in rows if "step" in row]
    texts = []
    if steps:
        rates = dict.fromkeys(key for row in steps for key in row if key.endswith("/s"))
        table = []
        for row in steps:
            line = {name: row.get(name, "-") for name in ("part", "precision", "blocks", "step")}
            line["ms"] = 1000 * row["seconds"] if "seconds" in row else "-"
            line["x"] = "-" if "x" not in row else "{x:.2f} ({min:.2f} to {max:.2f})".format(**row)
            line |= {name: round(row[name]) if name in row else "-" for name in rates}
            line |= {"GiB": row.get("GiB", "-"), "memory with AdamW, x": row.get("memory x", "-")}
            table.append(line | {"problem": row.get("problem", "")})
        texts.append(format_table(table))
    found = [row for row in rows if row["part"] == "search" and "step" not in row]
    return "\n\n".join([*texts, *([format_table(found)] if found else [])])


def main(argv: Sequence[str] | None = None) -> None:
    """All parts, one process after another, and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    parser.add_argument("--minutes", type=float, default=7.5, help="at most, in all (default 7.5)")
    parser.add_argument("--device", default="cuda", help="cuda or cpu (default cuda)")
    parser.add_argument("--tiny", action="store_true", help="tiny nets, in this process")
    parser.add_argument("--output", type=Path, default=Path("gpu.json"), help="file to write (default gpu.json)")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("torch sees no GPU; --device cpu --tiny tries the code without one")
    end = time.monotonic() + 60 * arguments.minutes
    if arguments.part:
        for row in measure(arguments.part, device, arguments.tiny, end):
            print(json.dumps(row), flush=True)
        return
    rows, left = [], list(arguments.parts)
    while left:
        part, seconds = left.pop(0), end - time.monotonic()
        seconds = (
            min(seconds, SEARCH_SHARE * 60 * arguments.minutes) if part == "search" else seconds / (len(left) + 1)
        )
        print(f"{part}: at most {seconds:.0f} s", flush=True)
        if arguments.tiny:
            found = measure(part, device, True, time.monotonic() + seconds)
        else:
            own = max(0.0, seconds - 20) / 60  # imports and the last round are not in it
            options = ["--device", arguments.device, "--minutes", str(own), "--part", part]
            found = rows_of_process([sys.executable, __file__, *options], seconds)
        for row in found:
            rows.append(row)
            arguments.output.write_text(json.dumps(facts(device) | {"rows": rows}, indent=1) + "\n")
    print(f"{tables_of(rows)}\nwritten: {arguments.output}")


def facts(device: torch.device) -> dict[str, Any]:
    """Where it was measured, and with what."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {"device": name, "tf32": torch.backends.cuda.matmul.allow_tf32, "cuda": torch.version.cuda, **versions()}


if __name__ == "__main__":
    with readable_errors():
        main()
