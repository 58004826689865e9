"""Two processes with sharded weights (FSDP2) beside one whole model: writes the largest differences."""

import copy
import json
from pathlib import Path

import torch
from accelerate import PartialState
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tangle_hf import ArchParameters, ElasticGPT2Config, ElasticGPT2LMHeadModel, PerLayer, SearchSpace, sampler
from tangle_hf.search.finalists.halving import halve


SPACE = SearchSpace(n_embd=[16, 24, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2]))


def compare(superposition: str, mesh) -> dict[str, float]:
    """Losses and gradients of both steps and of a single path, sharded and whole."""
    torch.manual_seed(0)
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    config = ElasticGPT2Config(space=SPACE, vocab_size=50, n_positions=16, superposition=superposition, **dropouts)
    sharded = ElasticGPT2LMHeadModel(config)
    whole = copy.deepcopy(sharded)
    fully_shard(sharded, mesh=mesh)
    tokens = torch.arange(24).view(2, 12)
    drawn = ArchParameters(SPACE).sample(sampler("drnas"), generator=torch.Generator().manual_seed(0))
    results = []
    for model in (sharded, whole):
        leaves = {name: rows.detach().requires_grad_() for name, rows in drawn.items()}
        loss = model(input_ids=tokens, labels=tokens, mixture=leaves).loss
        loss.backward()
        weights = [p.grad.full_tensor() if model is sharded else p.grad for p in model.parameters()]
        single = model(input_ids=tokens, labels=tokens, arch=SPACE.smallest).loss
        model.requires_grad_(False)
        frozen = {name: rows.detach().requires_grad_() for name, rows in drawn.items()}
        model(input_ids=tokens, labels=tokens, mixture=frozen).loss.backward()
        shares = [rows.grad for rows in (*leaves.values(), *frozen.values())]
        results.append({"loss": [loss, single], "weights": weights, "shares": shares})
    pairs = {key: zip(results[0][key], results[1][key], strict=True) for key in results[0]}
    return {key: max((a - b).abs().max().item() for a, b in both) for key, both in pairs.items()}


def refusal(mesh) -> str:
    """What is said where single processes are to train nets of a supernet that is sharded."""
    supernet = fully_shard(
        ElasticGPT2LMHeadModel(ElasticGPT2Config(space=SPACE, vocab_size=50, n_positions=16)), mesh=mesh
    )
    try:
        halve(supernet, [], None, None, 1, None, None, None)
    except ValueError as error:
        return str(error)
    return ""


def run(folder: Path) -> None:
    state, mesh = PartialState(cpu=True), init_device_mesh("cpu", (2,))
    found = {form: compare(form, mesh) for form in ("inputs", "weights")}
    found["refused"] = refusal(mesh)
    if state.is_main_process:
        folder.mkdir()
        (folder / "differences.json").write_text(json.dumps(found))
