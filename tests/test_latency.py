"""Timing nets and making a table of it: with an invented clock, what is measured is known."""

import itertools
import random
from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2LMHeadModel

from tangle_hf import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
    TangleGPT2ForCausalLM,
    num_params,
)
from tangle_hf.axes import Axis, ParameterAxes
from tangle_hf.cost import timing
from tangle_hf.cost.latency_profiles import layer_groups, profile, usual_form
from tangle_hf.cost.latency_tables import LatencyTable, Part, latency_cost, latency_ms
from tangle_hf.cost.timing import build_nets, conditions, forward_seconds, measure
from tangle_hf.models.example_inputs import example_inputs


def gpt2(n_embd=(16, 24, 32), n_layer=(2, 3), n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 1.5, 2])):  # noqa: B008
    space = SearchSpace(n_embd=n_embd, n_layer=n_layer, n_head=n_head, mlp_ratio=mlp_ratio)
    return ElasticGPT2LMHeadModel(ElasticGPT2Config(space=space, vocab_size=40, n_positions=8)).eval()


def vit():
    space = SearchSpace(
        hidden_size=[16, 32],
        num_hidden_layers=[1, 3],
        num_attention_heads=PerLayer([1, 2]),
        mlp_ratio=PerLayer([1, 2]),
    )
    config = ElasticViTConfig(space=space, image_size=8, patch_size=4, num_labels=5, head_dim=12)
    return ElasticViTForImageClassification(config).eval()


SUPERNETS = {
    "gpt2": gpt2,
    "gpt2, one depth": lambda: gpt2(n_layer=3),
    "gpt2, shared heads": lambda: gpt2(n_head=[2, 4]),
    "gpt2, nothing per layer": lambda: gpt2(n_head=[2, 4], mlp_ratio=[1, 2]),
    "vit": vit,
}


def sizes(net):
    """(width, [(heads, hidden units) of every layer]) of a stock or compact net, as its modules have them."""
    if hasattr(net, "transformer"):
        blocks = net.transformer.h
        return net.config.n_embd, [(b.attn.num_heads, b.mlp.c_fc.weight.shape[1]) for b in blocks]
    blocks = net.vit.layers
    return net.config.hidden_size, [(b.attention.q_proj.weight.shape[0], b.mlp.fc1.weight.shape[0]) for b in blocks]


def seconds(net):
    """Invented: not linear in any size, but a sum over layers and over attention and MLP."""
    width, layers = sizes(net)
    return 1e-3 * (0.7 + width**0.5 + sum(width * h**0.3 / 20 + (width * n) ** 0.4 / 9 for h, n in layers))


@pytest.mark.parametrize("name", SUPERNETS)
def test_a_latency_that_adds_up_is_predicted_exactly(name, monkeypatch):
    supernet = SUPERNETS[name]()
    monkeypatch.setattr(timing, "forward_seconds", lambda net, inputs: seconds(net))
    length = 8 if supernet.main_input_name == "input_ids" else None
    table = profile(supernet, sequence_length=length, rounds=2, progress=False)
    rng, space = random.Random(0), supernet.space
    for arch in [space.largest, space.smallest, *(space.sample(rng) for _ in range(30))]:
        (net,) = build_nets(supernet, [arch])
        assert latency_ms(table, arch) == pytest.approx(1000 * seconds(net), rel=1e-4)
    assert len(table.nets) <= space.size and all(abs(net["error"]) < 1e-4 for net in table.nets)
    assert all((part.ms >= 0).all() for part in table.parts)
    assert table.conditions == conditions(supernet, sequence_length=length)


@pytest.mark.parametrize("seed", range(5))
def test_no_part_is_negative_however_noisy_the_times(seed, monkeypatch):
    rng = random.Random(seed)
    monkeypatch.setattr(timing, "forward_seconds", lambda net, inputs: rng.uniform(1e-4, 1e-2))
    supernet = gpt2()
    table = profile(supernet, sequence_length=8, rounds=1, progress=False)
    values = [term.values for term in latency_cost(table, supernet.space).terms]
    assert all((ns >= 0).all() for ns in values) and any((ns > 0).any() for ns in values)


def test_dimensions_that_a_parameter_or_a_product_has_in_common_are_measured_together():
    assert layer_groups(gpt2().config, 8) == [("mlp_ratio",), ("n_head",)]
    space = SearchSpace(n_layer=[2], a=PerLayer([1, 2]), b=PerLayer([1, 2]), c=PerLayer([1, 2]))

    def entry(*names):
        return ParameterAxes(tuple(Axis((name,), lambda size: ((4, slice(size)),)) for name in names), 0)

    config = SimpleNamespace(
        space=space, axes={"w": entry("a"), "v": entry("c", "b")}, matrix_products=lambda length: []
    )
    assert layer_groups(config) == [("a",), ("b", "c")]
    config.matrix_products = lambda length: [(entry("b", "a"), None)]
    assert layer_groups(config) == [("a", "b", "c")]


class Clock:
    """Nets are numbers here: what each takes, times the speed of the round, with an outlier now and then."""

    def __init__(self, speeds, outliers=()):
        self.speeds, self.outliers, self.order, self.calls = speeds, set(outliers), [], itertools.count()

    def __call__(self, net, inputs):
        call = next(self.calls)
        self.order.append(net)
        return net * self.speeds[call // 4] * (50 if call in self.outliers else 1)


def test_the_speed_of_a_round_and_outliers_do_not_count(monkeypatch, caplog):
    clock = Clock([1.0, 3.0, 1.1, 0.9, 7.0], outliers=[2, 9])
    monkeypatch.setattr(timing, "forward_seconds", clock)
    nets = [0.001, 0.002, 0.004, 0.009]
    times = measure(nets, {}, rounds=5, progress=False)
    assert [ms / times[0] for ms in times] == pytest.approx([1, 2, 4, 9])
    assert times[0] == pytest.approx(1.1, rel=0.05)  # the round of median speed
    rounds = [clock.order[start : start + 4] for start in range(0, 20, 4)]
    assert all(sorted(order) == nets for order in rounds) and len({tuple(order) for order in rounds}) > 1
    assert "busy" not in caplog.text


def test_a_busy_machine_is_warned_of(monkeypatch, caplog):
    rng = random.Random(0)
    monkeypatch.setattr(timing, "forward_seconds", lambda net, inputs: rng.uniform(1, 2))
    measure([1, 2, 3, 4, 5], {}, rounds=9, progress=False)
    assert "the machine is busy" in caplog.text


def test_forward_passes_are_timed_after_a_first_one(monkeypatch):
    ticks = iter([0, 1, 1, 4, 4, 6, 6, 10])  # seconds: 1, 3, 2, 4
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(timing, "LONG", 1000)
    calls = []
    assert forward_seconds(lambda **inputs: calls.append(inputs), {"x": torch.zeros(1)}) == 2
    assert len(calls) == 4
    ticks = iter([0, 1, 1, 4])
    monkeypatch.setattr(timing, "LONG", 1)
    assert forward_seconds(lambda **inputs: None, {"x": torch.zeros(1)}) == 3, "long passes are timed once"


def test_nets_are_the_exported_ones_share_memory_and_leave_the_random_state_alone():
    supernet = gpt2()
    rng, space = random.Random(1), supernet.space
    archs = [space.largest, *(space.sample(rng) for _ in range(5))]
    before = torch.get_rng_state()
    nets = build_nets(supernet, archs)
    measure(nets, example_inputs(supernet, sequence_length=8), rounds=1, progress=False)
    assert torch.equal(torch.get_rng_state(), before)
    for net, arch in zip(nets, archs, strict=True):
        assert sum(p.numel() for p in net.parameters()) == num_params(space, arch, supernet.config)
        assert not net.training and net.config._attn_implementation == supernet.config._attn_implementation
        logits = net(**example_inputs(supernet, batch_size=3, sequence_length=8)).logits
        assert logits.shape == (3, 8, 40) and logits.isfinite().all()
    assert len({p.untyped_storage().data_ptr() for net in nets for p in net.parameters()}) == 1
    assert type(nets[0]) is GPT2LMHeadModel and TangleGPT2ForCausalLM in {type(net) for net in nets}
    assert usual_form(supernet) == "compact" and usual_form(gpt2(n_head=[2, 4], mlp_ratio=[1, 2])) == "stock"
    (largest,) = build_nets(supernet, [space.largest], "compact")
    assert type(largest) is TangleGPT2ForCausalLM


def test_real_clocks_see_that_more_work_takes_longer():
    space = SearchSpace(n_embd=[16, 128], n_layer=[1, 6])
    supernet = ElasticGPT2LMHeadModel(
        ElasticGPT2Config(space=space, vocab_size=40, n_positions=64, n_head=4, n_embd=128)
    )
    table = profile(supernet, batch_size=4, sequence_length=64, rounds=3, progress=False)
    space = supernet.space
    assert latency_ms(table, space.largest) > 2 * latency_ms(table, space.smallest) > 0


@pytest.mark.parametrize(
    "space",
    [
        SearchSpace(depths=PerLayer([1, 2], rows=3), kernel=PerLayer([3, 5])),
        SearchSpace(operation=PerLayer(["skip", "convolution"], rows=6)),
    ],
)
def test_layers_that_are_not_alike_are_refused(space):
    with pytest.raises(ValueError, match="one stack of like layers"):
        profile(SimpleNamespace(space=space), progress=False)
    table = LatencyTable({}, space, (Part((), False, torch.tensor(1.0)),))
    with pytest.raises(ValueError, match="one stack of like layers"):
        latency_cost(table, space)


def test_inputs_that_a_net_cannot_take_are_refused():
    with pytest.raises(ValueError, match="sequence_length=9 must be between 1 and the 8 positions"):
        profile(gpt2(), sequence_length=9, progress=False)
    with pytest.raises(ValueError, match="need a sequence_length"):
        profile(gpt2(), progress=False)
    with pytest.raises(ValueError, match="batch_size=0 must be at least 1"):
        profile(gpt2(), batch_size=0, sequence_length=8, progress=False)
    with pytest.raises(ValueError, match="rounds=0 must be at least 1"):
        profile(gpt2(), sequence_length=8, rounds=0, progress=False)
