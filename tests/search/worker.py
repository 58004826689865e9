"""A tiny search, for the tests that kill its process or run two of them."""

import json
import os
import signal
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed

from tangle_hf import ElasticGPT2Config, ElasticGPT2LMHeadModel, PerLayer, SearchSpace
from tangle_hf.search import SearchArguments, search


SPACE = SearchSpace(n_embd=[16, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2]))


class Blocks(torch.utils.data.Dataset):
    """Learnable blocks: every token is a function of the one before."""

    def __init__(self, count: int = 50):
        start = torch.randint(40, (count, 1), generator=torch.Generator().manual_seed(5))
        self.tokens = (start * 3 ** torch.arange(8)) % 40

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


def run(folder: Path, kill_at: int | None = None, batch_size: int = 4, **settings) -> None:
    """Runs a search; with `kill_at` the process kills itself inside the saving of that step's checkpoint."""
    accelerator = Accelerator(cpu=True)
    set_seed(0)
    dropout = settings.pop("dropout", 0.1)
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    supernet = ElasticGPT2LMHeadModel(ElasticGPT2Config(space=SPACE, vocab_size=40, n_positions=8, **dropouts))
    defaults = {"max_steps": 8, "logging_steps": 1, "save_steps": 2, "eval_steps": 4, "warmup_steps": 1}
    arguments = SearchArguments(output_dir=str(folder), per_device_batch_size=batch_size, **{**defaults, **settings})
    if kill_at is not None:
        save_state = accelerator.save_state

        def save_half(path):
            save_state(path)
            if f"{kill_at:08d}" in path:
                os.kill(os.getpid(), signal.SIGKILL)

        accelerator.save_state = save_half
    arch_parameters = search(supernet, Blocks(), Blocks(30), arguments, accelerator)
    if accelerator.is_main_process:
        logits = {name: rows.tolist() for name, rows in arch_parameters.state_dict().items()}
        weights = {name: p.double().flatten().tolist() for name, p in supernet.named_parameters()}
        (folder / "end.json").write_text(json.dumps({"logits": logits, "weights": weights}))
