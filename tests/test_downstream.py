"""What others do with an exported model: adapters, half precision."""

import re
from pathlib import Path

import pytest
import torch
from models.families import FAMILIES, randomised
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForImageClassification

from tangle_hf import extract


DOCS = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
VALUES = {
    "gpt2": {"n_embd": 24, "n_layer": 2, "n_head": [2, 4], "mlp_ratio": [1, 2]},
    "vit": {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": [2, 4], "mlp_ratio": [1, 2]},
}
VALUES["llama"] = VALUES["qwen3"] = {
    "hidden_size": 18,
    "num_hidden_layers": 2,
    "intermediate_size": [8, 20],
    "num_key_value_heads": [2, 1],
    "num_key_value_groups": 2,
}
# How docs/export.md calls a family, and how many layers for adapters it names.
DOCUMENTED = {"gpt2": ("GPT-2", 4), "vit": ("ViT", 6), "llama": ("Llama", 7), "qwen3": ("Llama", 7)}
AUTO = dict.fromkeys(("gpt2", "llama", "qwen3"), AutoModelForCausalLM) | {"vit": AutoModelForImageClassification}


# The families whose layers docs/export.md names for adapters.
TRANSFORMERS = [family for family in FAMILIES if family.has_attention]


@pytest.fixture(params=TRANSFORMERS, ids=lambda family: family.name)
def compact(request, tmp_path):
    """(family, folder of a compact subnet whose layers differ)."""
    supernet = request.param.supernet()
    extract(supernet, supernet.space.architecture(**VALUES[request.param.name])).save_pretrained(tmp_path / "subnet")
    return request.param, tmp_path / "subnet"


def logits(model, family):
    with torch.no_grad():
        return model.eval()(**family.inputs()).logits


def documented_targets(family) -> list[str]:
    """The layers of a family that the table of docs/export.md names."""
    row = re.search(rf"^\| {DOCUMENTED[family.name][0]}, [^|]*\|([^|]*)\|", DOCS, flags=re.MULTILINE)
    return re.findall(r"`(\w+)`", row[1])


def test_adapters_on_the_documented_layers(compact, tmp_path):
    family, folder = compact
    targets = documented_targets(family)
    transposed = {"fan_in_fan_out": True} if family.name == "gpt2" else {}
    model = get_peft_model(
        AUTO[family.name].from_pretrained(folder), LoraConfig(r=2, lora_alpha=4, target_modules=targets, **transposed)
    )
    adapted = {name for name, module in model.base_model.model.named_modules() if hasattr(module, "lora_A")}
    layers = 2 * DOCUMENTED[family.name][1]
    assert len(adapted) == layers and {name.split(".")[-1] for name in adapted} == set(targets)
    everything = get_peft_model(
        AUTO[family.name].from_pretrained(folder), LoraConfig(target_modules="all-linear", **transposed)
    )
    linear = {name for name, module in everything.base_model.model.named_modules() if hasattr(module, "lora_A")}
    assert linear - {"classifier"} == adapted  # all-linear takes a classifier as a layer like the others
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    before = logits(model, family)
    for _ in range(3):
        optimizer.zero_grad()
        model.train()(**family.inputs(), labels=family.labels()).loss.backward()
        optimizer.step()
    trained = logits(model, family)
    assert (trained - before).abs().max() > 1e-3
    model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    again = PeftModel.from_pretrained(AUTO[family.name].from_pretrained(folder), tmp_path / "adapter")
    torch.testing.assert_close(logits(again, family), trained, rtol=1e-5, atol=1e-5)
    merged = again.merge_and_unload()
    torch.testing.assert_close(logits(merged, family), trained, rtol=1e-4, atol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    reloaded = AUTO[family.name].from_pretrained(tmp_path / "merged")
    assert type(reloaded) is type(AUTO[family.name].from_pretrained(folder))
    torch.testing.assert_close(logits(reloaded, family), logits(merged, family))


# Convolutional nets have no class in transformers.
HALF = [
    (family, form) for family in FAMILIES for form in ("stock", "compact") if form == "compact" or family.has_attention
]


@pytest.mark.parametrize(("family", "form"), HALF, ids=lambda value: getattr(value, "name", value))
def test_half_precision(family, form, tmp_path):
    supernet = randomised(family.supernet())
    arch = supernet.space.largest
    if form == "compact" and family.has_attention:
        arch = supernet.space.architecture(**VALUES[family.name])
    extract(supernet, arch, form).save_pretrained(tmp_path)
    half = supernet.auto_model.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}
    inputs = {n: x.bfloat16() if x.is_floating_point() else x for n, x in family.inputs().items()}
    with torch.no_grad():
        found = half.eval()(**inputs).logits.float()
    expected = logits(supernet.auto_model.from_pretrained(tmp_path), family)
    assert 0 < (found - expected).abs().max() < 0.1 * expected.abs().max()
