"""A finished run gives its best architecture within other budgets, exported, without training."""

import json
from dataclasses import replace

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForImageClassification

from tangle_hf import (
    ArchParameters,
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
    flops,
    num_params,
    sampler,
)
from tangle_hf.budgets.discretisation import discretise
from tangle_hf.budgets.limits import make_budgets
from tangle_hf.cost import timing as latency
from tangle_hf.cost.latency_profiles import profile
from tangle_hf.cost.latency_tables import latency_ms, save_latency_table
from tangle_hf.models.loading import load_supernet
from tangle_hf.runs.resolving import resolve


def gpt2():
    space = SearchSpace(n_embd=[16, 32], n_layer=[1, 2, 3], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2]))
    return ElasticGPT2LMHeadModel(ElasticGPT2Config(space=space, vocab_size=40, n_positions=16))


def vit():
    space = SearchSpace(
        hidden_size=[16, 32],
        num_hidden_layers=[1, 2, 3],
        num_attention_heads=PerLayer([2, 4]),
        mlp_ratio=PerLayer([1, 2]),
    )
    return ElasticViTForImageClassification(ElasticViTConfig(space=space, image_size=8, patch_size=4, num_labels=5))


@pytest.fixture(params=[gpt2, vit])
def run(request, tmp_path):
    """(folder, supernet, its arch parameters) of a run that has ended."""
    supernet = request.param()
    arch_parameters = ArchParameters(supernet.space)
    with torch.no_grad():
        for rows in arch_parameters.logits.values():
            rows.copy_(torch.randn(rows.shape))
    folder = tmp_path / "run"
    supernet.save_pretrained(folder / "supernet")
    arch_parameters.save(folder / "arch_parameters.safetensors")
    settings = {"method": "drnas"} | ({"block_size": 16} if request.param is gpt2 else {})
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder, supernet, arch_parameters


@pytest.mark.parametrize("budgets", [{"max_params": "60%"}, {"max_params": "80%", "max_flops": "50%"}])
@pytest.mark.parametrize("standard_only", [False, True])
def test_the_best_architecture_of_another_budget_is_exported(run, budgets, standard_only):
    folder, supernet, arch_parameters = run
    length = 16 if supernet.main_input_name == "input_ids" else None
    done = resolve(folder, budgets, folder / "other", standard_only=standard_only)
    limits = make_budgets(supernet.config, **budgets, sequence_length=length)
    shares = arch_parameters.probabilities(sampler("drnas"))
    (best,) = discretise(supernet, shares, limits, band=0.95, standard_only=standard_only)
    assert done.candidate == best and done.limits == {b.cost: b.limit for b in limits}
    auto = AutoModelForCausalLM if length else AutoModelForImageClassification
    model = auto.from_pretrained(folder / "other")
    assert sum(p.numel() for p in model.parameters()) == best.costs["params"] <= done.limits["params"]
    assert num_params(supernet.space, best.arch, supernet.config) == best.costs["params"]
    assert "flops" not in budgets or best.costs["flops"] == flops(
        supernet.space, best.arch, supernet.config, sequence_length=length
    )
    assert json.loads((folder / "other" / "architecture.json").read_text()) == best.arch.to_dict()
    assert done.export.difference < 1e-4 * done.export.scale and (done.export.form == "stock" or not standard_only)
    assert resolve(folder, budgets, folder / "other", standard_only=standard_only) == done  # an export may be replaced


def test_budgets_are_used_up_where_they_can_be(run):
    folder, supernet, arch_parameters = run
    shares, differ = arch_parameters.probabilities(sampler("drnas")), 0
    for percent in range(40, 100, 6):
        limits = make_budgets(supernet.config, max_params=f"{percent}%")
        found = resolve(folder, {"max_params": f"{percent}%"}, folder / "other").candidate
        assert found == discretise(supernet, shares, limits, band=0.95)[0]
        differ += found != discretise(supernet, shares, limits)[0]
    assert differ, "the likeliest architectures use up all budgets by themselves"


def test_a_loss_ranks_the_candidates(run):
    folder, supernet, _ = run
    asked = []

    def later_is_better(model, arch):
        assert type(model) is type(supernet)
        asked.append(arch)
        return -len(asked)

    done = resolve(folder, {"max_params": "90%"}, folder / "other", count=3, loss=later_is_better)
    assert len(set(asked)) == 3 and done.candidate.arch == asked[-1]


def test_another_latency_is_resolved_with_the_table_of_the_run_and_measured(run, monkeypatch):
    folder, supernet, arch_parameters = run
    monkeypatch.setattr(latency, "forward_seconds", lambda net, inputs: 1e-7 * net.num_parameters())
    length = 16 if supernet.main_input_name == "input_ids" else None
    with pytest.raises(ValueError, match=r"there is no latency table .*latency_table.json"):
        resolve(folder, {"max_latency_ms": "90%"}, folder / "other")
    table = profile(supernet, batch_size=2, sequence_length=length, rounds=1, progress=False)
    save_latency_table(table, folder / "latency_table.json")
    done = resolve(folder, {"max_latency_ms": "90%", "max_params": "90%"}, folder / "other")
    limits = make_budgets(supernet.config, max_latency_ms="90%", max_params="90%", latency_table=table)
    shares = arch_parameters.probabilities(sampler("drnas"))
    assert done.candidate == discretise(supernet, shares, limits, band=0.95)[0]
    predicted = latency_ms(table, done.candidate.arch)
    assert done.candidate.costs["latency_ms"] == predicted == done.latency["predicted_ms"]
    assert predicted <= done.limits["latency_ms"] == pytest.approx(0.9 * latency_ms(table, supernet.space.largest))
    assert done.latency["measured_ms"] == pytest.approx(1e-4 * done.candidate.costs["params"])
    assert done.latency["error"] == pytest.approx(0, abs=1e-4)
    other = replace(table, conditions={**table.conditions, "device_name": "another"})
    save_latency_table(other, folder / "another.json")
    options = {"max_latency_ms": "90%", "max_params": "90%"}, folder / "other"
    with pytest.raises(ValueError, match="device_name another there"):
        resolve(folder, *options, latency_table=folder / "another.json")
    allowed = resolve(folder, *options, latency_table=folder / "another.json", allow_other_latency_table=True)
    assert allowed.candidate == done.candidate


def test_what_cannot_be_resolved_says_why_and_writes_nothing(run):
    folder, supernet, _ = run
    smallest = num_params(supernet.space, supernet.space.smallest, supernet.config)
    for budgets, message in [({"max_params": 10}, f"smallest possible, {smallest:,}"), ({"max_size": 10}, "max_size")]:
        with pytest.raises(ValueError, match=message):
            resolve(folder, budgets, folder / "other")
    for taken in (folder, folder / "supernet"):
        with pytest.raises(ValueError, match="no earlier export"):
            resolve(folder, {"max_params": "60%"}, taken)
    assert {path.name for path in folder.iterdir()} == {"config.yaml", "arch_parameters.safetensors", "supernet"}
    (folder / "arch_parameters.safetensors").unlink()
    with pytest.raises(ValueError, match="no finished run .*: arch_parameters.safetensors missing"):
        resolve(folder, {"max_params": "60%"}, folder / "other")
    (folder / "candidates.jsonl").touch()
    with pytest.raises(ValueError, match="was searched in two stages and has no logits"):
        resolve(folder, {"max_params": "60%"}, folder / "other")


def test_supernets_load_as_what_they_are(run, tmp_path):
    folder, supernet, _ = run
    loaded = load_supernet(folder / "supernet")
    assert type(loaded) is type(supernet) and loaded.space == supernet.space
    config = json.loads((folder / "supernet" / "config.json").read_text())
    for change, message in [({"space": None}, "no search space"), ({"architectures": ["Bert"]}, r"\['Bert'\]")]:
        (tmp_path / "config.json").write_text(json.dumps(config | change))
        with pytest.raises(ValueError, match=message):
            load_supernet(tmp_path)
    with pytest.raises(ValueError, match="holds no model"):
        load_supernet(tmp_path / "nowhere")
