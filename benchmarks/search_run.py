"""A whole search of GPT-2 beside the bare loop of its steps: what data, logging, evaluation, saving and the report cost.

    python benchmarks/search_run.py
    python benchmarks/search_run.py --rounds 1 --max_steps 1000

In turns, each in a process of its own: what `make search` runs, in steps of `--max_steps`, and as many steps of the same
supernet over one batch of the same shape, with the same optimizers and clipping, and nothing else. Seconds are of the
processor, of all that a process does: of the search also its imports, which a row of their own tells apart.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml
from steps import search_steps
from torch.nn.utils import clip_grad_norm_
from transformers import set_seed

from tangle_hf import ElasticGPT2LMHeadModel


RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "search_gpt.py"


def cpu_seconds(command: list[str]) -> float:
    """What a command takes of the processor, with all of its own processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed\n{done.stderr[-2000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def bare_loop(run: Path) -> float:
    """Seconds of the processor for the steps of a run, without what they are taken on and what is seen of them."""
    settings = yaml.safe_load((run / "config.yaml").read_text())
    set_seed(settings["seed"])
    supernet = ElasticGPT2LMHeadModel.from_pretrained(run / "supernet").train()
    betas = settings["adam_beta1"], settings["adam_beta2"]
    optimizer = torch.optim.AdamW(supernet.parameters(), settings["learning_rate"], betas)

    def update() -> None:
        clip_grad_norm_(supernet.parameters(), settings["max_grad_norm"])
        optimizer.step()

    shape = settings["per_device_batch_size"], settings["block_size"]
    tokens = torch.randint(supernet.config.vocab_size, shape)
    levels = search_steps(supernet, {"input_ids": tokens, "labels": tokens}, settings["method"], update=update)
    warmup = int(settings["max_steps"] * settings["arch_warmup_ratio"])
    start = time.process_time()
    for step in range(settings["max_steps"]):
        levels["weight" if step < warmup else "search"]()
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="how often each is run (default 2)")
    parser.add_argument("--max_steps", type=int, help="steps of the search (default: those of the recipe)")
    parser.add_argument("--loop_of", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.loop_of:
        print(json.dumps(bare_loop(arguments.loop_of)))
        return
    rows: dict[str, list[float]] = {"bare loop": [], "whole search": [], "of it imports": [], "of it the loop": []}
    for _ in range(arguments.rounds):
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            steps = [] if arguments.max_steps is None else ["--max_steps", str(arguments.max_steps)]
            search = [sys.executable, str(RECIPE), "--arch_learning_rate", "0.0625", "--output_dir", str(run), *steps]
            rows["whole search"].append(cpu_seconds(search))
            rows["of it imports"].append(cpu_seconds([sys.executable, str(RECIPE), "--help"]))
            rows["of it the loop"].append(json.loads((run / "results.json").read_text())["search"]["cpu_seconds"])
            bare = [sys.executable, __file__, "--loop_of", str(run)]
            rows["bare loop"].append(
                json.loads(subprocess.run(bare, capture_output=True, text=True, check=True).stdout)
            )
    print(f"{arguments.rounds} rounds, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}, torch {torch.__version__}")
    for name, seconds in rows.items():
        ratios = [a / b for a, b in zip(seconds, rows["bare loop"], strict=True)]
        spread = f"{statistics.median(ratios):6.2f}x ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"{name:<16} {statistics.median(seconds):8.1f} s {spread}")


if __name__ == "__main__":
    main()
