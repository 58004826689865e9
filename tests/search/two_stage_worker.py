"""Tiny two-stage searches that are interrupted and resumed."""

import json
from pathlib import Path

import torch
from accelerate.utils import set_seed
from worker import FAMILIES, accelerator_of

from tangle_hf import Architecture
from tangle_hf.search import SearchArguments, search_candidates, train_single_paths
from tangle_hf.search.finalists.candidates import Finalist
from tangle_hf.search.finalists.halving import halve


def run(folder: Path, interruptions: list[dict], **settings) -> None:
    """Runs a search that ends at each interruption and is then resumed; leaves `end.json`.

    Interruptions are `{"at_step": n}`, inside the saving of that step's checkpoint, and `{"at_candidate": n}`, inside the
    evaluation of this process's nth candidate, with half a line written. They hit all processes.
    """
    for number, interruption in enumerate(interruptions):
        try:
            search(folder, interruption, resume=number > 0, **settings)
        except KeyboardInterrupt:
            continue
        raise AssertionError(f"{interruption} did not happen")
    search(folder, {}, resume=bool(interruptions), **settings)


def search(
    folder,
    interruption: dict,
    batch_size: int = 4,
    dropout: float = 0.1,
    family: str = "gpt2",
    fsdp: str | None = None,
    **settings,
) -> None:
    accelerator = accelerator_of(fsdp)
    set_seed(0)
    make, data = FAMILIES[family]
    supernet = make(dropout)
    defaults = {"max_steps": 8, "logging_steps": 1, "save_steps": 2, "eval_steps": 4, "warmup_steps": 1}
    arguments = SearchArguments(output_dir=str(folder), per_device_batch_size=batch_size, **{**defaults, **settings})
    save_state, count = accelerator.save_state, 0

    def save_half(path):
        save_state(path)
        if f"{interruption.get('at_step', -1):08d}" in path:
            raise KeyboardInterrupt

    @torch.no_grad()
    def evaluate(arch):
        nonlocal count
        count += 1
        if count == interruption.get("at_candidate"):
            if accelerator.is_main_process:
                with open(Path(folder) / "candidates.jsonl", "a") as file:
                    file.write('{"number": ')
            raise KeyboardInterrupt
        return {"loss": supernet(**batch, arch=arch).loss.item()}

    accelerator.save_state = save_half
    cost = train_single_paths(supernet, data(), arguments, accelerator, lambda arch: 0.0)
    supernet.eval()
    batch = {name: values[None] for name, values in data(30)[0].items()}
    log = search_candidates(supernet, evaluate, 1, arguments, accelerator, cost)
    archs = [Architecture(record["arch"]) for record in log.best()[:5]]
    score = lambda model: model(**batch).loss.item()  # noqa: E731
    nets = [Finalist(arch, "search") for arch in archs]
    decision = halve(supernet, nets, data(), score, 1, arguments, accelerator, cost)
    if accelerator.is_main_process:
        weights = {name: p.double().flatten().tolist() for name, p in supernet.named_parameters()}
        end = {"weights": weights, "candidates": log.best(), "cost": cost.spent, "evaluated": count}
        end["finalists"] = [
            (f.arch.to_dict(), losses) for f, losses in zip(decision.ranked, decision.losses, strict=True)
        ]
        (Path(folder) / "end.json").write_text(json.dumps(end))
