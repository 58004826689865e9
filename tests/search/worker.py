"""A tiny search, for the tests that kill its process or run two of them."""

import json
import os
import signal
from pathlib import Path

import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType, set_seed

from tangle_hf import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticLlamaConfig,
    ElasticLlamaForCausalLM,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
)
from tangle_hf.search import SearchArguments, search


SPACE = SearchSpace(n_embd=[16, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2]))


IMAGES = SearchSpace(
    hidden_size=[16, 32], num_hidden_layers=[1, 2], num_attention_heads=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2])
)
LLAMA = SearchSpace(
    hidden_size=[16, 32],
    num_hidden_layers=[1, 2],
    intermediate_size=PerLayer([16, 32]),
    num_key_value_heads=PerLayer([1, 2]),
    num_key_value_groups=[1, 2],
)


def gpt2(dropout: float) -> ElasticGPT2LMHeadModel:
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), dropout)
    return ElasticGPT2LMHeadModel(ElasticGPT2Config(space=SPACE, vocab_size=40, n_positions=8, **dropouts))


def vit(dropout: float) -> ElasticViTForImageClassification:
    dropouts = dict.fromkeys(("hidden_dropout_prob", "attention_probs_dropout_prob"), dropout)
    sizes = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 4}
    return ElasticViTForImageClassification(ElasticViTConfig(space=IMAGES, **sizes, **dropouts))


def llama(dropout: float) -> ElasticLlamaForCausalLM:
    sizes = {"vocab_size": 40, "max_position_embeddings": 8, "head_dim": 8}
    return ElasticLlamaForCausalLM(ElasticLlamaConfig(space=LLAMA, **sizes, attention_dropout=dropout))


class Blocks(torch.utils.data.Dataset):
    """Learnable blocks: every token is a function of the one before."""

    def __init__(self, count: int = 50):
        start = torch.randint(40, (count, 1), generator=torch.Generator().manual_seed(5))
        self.tokens = (start * 3 ** torch.arange(8)) % 40

    def __len__(self) -> int:
        return len(self.tokens)

    def __getitem__(self, index: int) -> dict:
        return {"input_ids": self.tokens[index], "labels": self.tokens[index]}


class Pictures(torch.utils.data.Dataset):
    """Images of one bright quarter, which is their class."""

    def __init__(self, count: int = 50):
        self.pixels = torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(5))
        self.labels = torch.arange(count) % 4
        for pixels, label in zip(self.pixels, self.labels.tolist(), strict=True):
            row, column = 4 * (label // 2), 4 * (label % 2)
            pixels[:, row : row + 4, column : column + 4] += 2

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict:
        return {"pixel_values": self.pixels[index], "labels": self.labels[index]}


FAMILIES = {"gpt2": (gpt2, Blocks), "vit": (vit, Pictures), "llama": (llama, Blocks)}


def accelerator_of(fsdp: str | None) -> Accelerator:
    """Processes on a CPU, with the weights sharded (FSDP2) where a kind of state dict is given.

    accelerate shards on GPUs only. Told that the processes are of a kind that may shard it does all the same, and the device
    stays the CPU.
    """
    if fsdp is None:
        return Accelerator(cpu=True)
    AcceleratorState._reset_state()
    PartialState(cpu=True).distributed_type = DistributedType.MULTI_GPU
    how = {"auto_wrap_policy": "no_wrap", "state_dict_type": fsdp, "cpu_ram_efficient_loading": False}
    return Accelerator(cpu=True, fsdp_plugin=FullyShardedDataParallelPlugin(fsdp_version=2, **how))


def run(
    folder: Path,
    kill_at: int | None = None,
    stop_at: int | None = None,
    batch_size: int = 4,
    family: str = "gpt2",
    fsdp: str | None = None,
    **settings,
) -> None:
    """Runs a search; leaves `end.json`, unless it ends inside the saving of a step's checkpoint.

    With `kill_at` the process kills itself there. With `stop_at` all processes leave the search and go on with other runs.
    """
    accelerator = accelerator_of(fsdp)
    set_seed(0)
    make, data = FAMILIES[family]
    supernet = make(settings.pop("dropout", 0.1))
    defaults = {"max_steps": 8, "logging_steps": 1, "save_steps": 2, "eval_steps": 4, "warmup_steps": 1}
    arguments = SearchArguments(output_dir=str(folder), per_device_batch_size=batch_size, **{**defaults, **settings})
    save_state = accelerator.save_state

    def save_half(path):
        save_state(path)
        if f"{kill_at or 0:08d}" in path:
            os.kill(os.getpid(), signal.SIGKILL)
        if f"{stop_at or 0:08d}" in path:
            raise KeyboardInterrupt

    accelerator.save_state = save_half
    try:
        arch_parameters = search(supernet, data(), data(30), arguments, accelerator)
    except KeyboardInterrupt:
        return
    if accelerator.is_main_process:
        logits = {name: rows.tolist() for name, rows in arch_parameters.state_dict().items()}
        weights = {name: p.double().flatten().tolist() for name, p in supernet.named_parameters()}
        (folder / "end.json").write_text(json.dumps({"logits": logits, "weights": weights}))
