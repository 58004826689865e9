"""Second-order architecture steps against autograd through the weight step, and the divergence of the Dirichlet."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.nn import functional as F
from worker import SPACE, Blocks

from tangle_hf import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticLlamaConfig,
    ElasticLlamaForCausalLM,
    PerLayer,
    SearchSpace,
)
from tangle_hf.samplers import DrNAS
from tangle_hf.search import SearchArguments, search
from tangle_hf.search.gradient.unrolled import frozen, unrolled_backward


class Net(nn.Module):
    """Two operations mixed by shares, in plain torch, so that it can be differentiated twice."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x, y, mixture):
        self.calls += 1
        a, b = mixture["op"][0]
        return SimpleNamespace(loss=F.mse_loss(torch.tanh(a * self.first(x)) + b * self.second(x).sin(), y))


def batches(seed):
    generator = torch.Generator().manual_seed(seed)
    return [{n: torch.randn(8, 4, generator=generator, dtype=torch.float64) for n in ("x", "y")} for _ in range(2)]


def test_the_second_order_gradient_is_the_derivative_through_the_weight_step():
    torch.manual_seed(0)
    net, rate, shares = Net().double(), 0.3, torch.tensor([[0.3, 0.7]], dtype=torch.float64)
    train, arch = batches(1), batches(2)
    names, weights = zip(*net.named_parameters(), strict=True)

    def loss(micro, weights, shares):
        parts = (torch.func.functional_call(net, dict(zip(names, weights, strict=True)),
                 kwargs={**batch, "mixture": {"op": shares}}).loss for batch in micro)  # fmt: skip
        return sum(parts) / len(micro)

    leaf = shares.clone().requires_grad_()
    steps = torch.autograd.grad(loss(train, weights, leaf), weights, create_graph=True)
    moved = [w - rate * g for w, g in zip(weights, steps, strict=True)]
    expected = torch.autograd.grad(loss(arch, moved, leaf), leaf)[0]
    first_order = torch.autograd.grad(loss(arch, weights, shares.requires_grad_()), shares)[0]

    state, found = (
        {n: t.clone() for n, t in net.state_dict().items()},
        {"op": shares.detach().clone().requires_grad_()},
    )
    total = unrolled_backward(net, net, found, arch, train, rate, Accelerator(cpu=True))
    assert total.item() == pytest.approx(loss(arch, moved, leaf).item())
    torch.testing.assert_close(found["op"].grad, expected, rtol=1e-4, atol=1e-6)
    assert (expected - first_order).abs().max() > 0.01, (
        "the second order does not matter here, so the test could not fail"
    )
    net.calls.copy_(state["calls"])  # functional_call above counts, too
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())


class Dropping(Net):
    """The same with dropout. Its weight step is differentiated through one mask, whatever is drawn for the architecture's."""

    def forward(self, x, y, mixture):
        return super().forward(F.dropout(x, 0.5), y, mixture)


def test_a_finite_difference_has_one_dropout_mask():
    net, shares, rate = Dropping().double(), torch.tensor([[0.3, 0.7]], dtype=torch.float64), 0.3
    train, arch = batches(1), batches(2)
    found = {"op": shares.clone().requires_grad_()}
    torch.manual_seed(5)
    unrolled_backward(net, net, found, arch, train, rate, Accelerator(cpu=True))

    torch.manual_seed(5)
    weights, leaf = dict(net.named_parameters()), shares.clone().requires_grad_()

    def loss(micro, weights):
        calls = (torch.func.functional_call(net, weights, kwargs={**b, "mixture": {"op": leaf}}).loss for b in micro)
        return sum(calls) / len(micro)

    steps = torch.autograd.grad(loss(train, weights), list(weights.values()), create_graph=True)
    moved = {name: w - rate * g for (name, w), g in zip(weights.items(), steps, strict=True)}
    (expected,) = torch.autograd.grad(loss(arch, moved), leaf)
    torch.testing.assert_close(found["op"].grad, expected, rtol=1e-4, atol=1e-6)


def test_frozen_leaves_alone_what_was_frozen_before():
    net = Net()
    net.first.weight.requires_grad_(False)
    before = [weight.requires_grad for weight in net.parameters()]
    with frozen(net):
        assert not any(weight.requires_grad for weight in net.parameters())
    assert [weight.requires_grad for weight in net.parameters()] == before


def test_the_divergence_is_zero_at_the_flat_dirichlet_and_pulls_towards_it():
    logits = torch.zeros(3, 4, requires_grad=True)
    assert DrNAS().divergence(logits).item() == pytest.approx(0, abs=1e-5)
    far = torch.tensor([[2.0, -1.0, 0.5]], requires_grad=True)
    # KL(Dir(c) || Dir(1)) = log Gamma(sum c) - sum log Gamma(c) - log Gamma(K) + sum (c - 1)(psi(c) - psi(sum c))
    c = F.elu(far.detach()) + 1 + 1e-4
    exact = c.sum().lgamma() - c.lgamma().sum() - torch.tensor(3.0).lgamma()
    exact += ((c - 1) * (c.digamma() - c.sum().digamma())).sum()
    value = DrNAS().divergence(far)
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    value.backward()
    assert DrNAS().divergence(far.detach() - 0.1 * far.grad) < value
    with pytest.raises(ValueError, match="arch_kl_scale=0.1 is for the Dirichlet"):
        SearchArguments(arch_kl_scale=0.1, method="gdas")


GROUPS = {"num_key_value_heads": PerLayer([1, 2]), "num_key_value_groups": PerLayer([1, 2])}
LLAMAS = SearchSpace(hidden_size=[16, 32], num_hidden_layers=[1, 2], intermediate_size=PerLayer([8, 20]), **GROUPS)
SUPERNETS = {
    "gpt2": lambda: ElasticGPT2LMHeadModel(ElasticGPT2Config(space=SPACE, vocab_size=40, n_positions=8)),
    "llama": lambda: ElasticLlamaForCausalLM(
        ElasticLlamaConfig(space=LLAMAS, vocab_size=40, max_position_embeddings=8)
    ),
}


@pytest.mark.parametrize("family", SUPERNETS)
def test_a_resumed_search_with_unrolled_steps_is_the_same_to_the_last_digit(family, tmp_path):
    def run(folder, resume=False):
        set_seed(0)
        supernet = SUPERNETS[family]()
        options = {"max_steps": 6, "save_steps": 3, "logging_steps": 1, "per_device_batch_size": 4}
        settings = {"method": "darts", "unrolled": True, "arch_warmup_ratio": 0.0, "resume": resume, **options}
        arguments = SearchArguments(output_dir=str(folder), **settings)
        trained = search(supernet, Blocks(), Blocks(30), arguments, Accelerator(cpu=True))
        return [*trained.state_dict().values(), *supernet.parameters()], (folder / "metrics.jsonl").read_text()

    whole, lines = run(tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "step-00000006")
    again, same = run(tmp_path / "broken", resume=True)
    assert same == lines and all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
