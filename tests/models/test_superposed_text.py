"""Language models under a mixture: padding masks, bad mixtures, precision and checkpointing."""

from functools import partial
from unittest.mock import patch

import pytest
import torch
from families import gpt2, llama
from torch.nn import functional as F

from tangle_hf import ArchParameters, ElasticGPT2Config, PerLayer, SearchSpace, extract, one_hot, sampler
from tangle_hf.models.superposed import _head_parts


PATTERNS = {
    "right": {"attention_mask": torch.tensor([[1] * 7 + [0] * 3, [1] * 10])},
    "left": {"attention_mask": torch.tensor([[0] * 3 + [1] * 7, [1] * 10])},
    "left, positions": {
        "attention_mask": torch.tensor([[0] * 3 + [1] * 7]),
        "position_ids": torch.tensor([[1] * 3 + [*range(7)]]),
    },
    "packed": {"position_ids": torch.tensor([[*range(4), *range(6)]])},
    "positions": {"position_ids": torch.arange(3, 13)[None]},
}


@pytest.mark.parametrize("make", [gpt2, llama, partial(llama, kind="Qwen3")], ids=["gpt2", "llama", "qwen3"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_padding_and_positions_are_those_of_the_extracted_model(pattern, attention, make):
    """Everywhere, at padding, too: its last position has the loss of the first token."""
    supernet = make()
    supernet.set_attn_implementation(attention)
    arch, tokens = supernet.space.smallest, torch.arange(20).view(2, 10) % 50
    tokens = tokens[: max(len(tensor) for tensor in PATTERNS[pattern].values())]
    inputs = {"input_ids": tokens, "labels": tokens, **PATTERNS[pattern]}
    subnet = extract(supernet, arch)
    subnet.set_attn_implementation(attention)
    mixture = one_hot(supernet.space, arch)
    expected, found = subnet(**inputs, use_cache=False), supernet(**inputs, mixture=mixture)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.loss, expected.loss)
    found.loss.backward()
    assert all(tensor.grad.isfinite().all() for tensor in supernet.parameters() if tensor.grad is not None)


@pytest.mark.parametrize(
    "make",
    [gpt2, partial(gpt2, superposition="weights"), partial(llama, kind="Qwen3")],
    ids=["inputs", "weights", "qwen3"],
)
def test_activation_checkpointing_and_bf16_give_the_same_gradients(make):
    supernet = make().train()
    for module in supernet.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    tokens = torch.arange(12)[None]
    logits = ArchParameters(supernet.space)

    def gradients():
        supernet.zero_grad()
        supernet(input_ids=tokens, labels=tokens, mixture=logits.sample(sampler("darts"))).loss.backward()
        return torch.cat([p.grad.flatten() for p in supernet.parameters()])

    plain = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.nn.functional.cosine_similarity(gradients(), plain, 0) > 0.99
    supernet.activation_checkpointing_enable()
    torch.testing.assert_close(gradients(), plain)


def test_a_mixture_of_another_space_is_refused():
    supernet = gpt2()
    mixture = one_hot(supernet.space, supernet.space.largest)
    with pytest.raises(ValueError, match="this space needs"):
        supernet(input_ids=torch.arange(4)[None], mixture={**mixture, "n_embd": mixture["n_embd"][:, :1]})
    with pytest.raises(ValueError, match="inputs_embeds"):
        supernet(inputs_embeds=torch.zeros(1, 4, 32), mixture=mixture)
    with pytest.raises(ValueError, match="not both"):
        supernet(input_ids=torch.arange(4)[None], mixture=mixture, arch=supernet.space.largest)


@pytest.mark.parametrize(
    ("space", "options", "message"),
    [
        ({"n_embd": [32, 50], "n_head": [4]}, {}, "n_embd=50 is not divisible by n_head=4"),
        ({"n_embd": [32], "n_head": [2], "mlp_ratio": [1.3]}, {}, "mlp_ratio=1.3 of n_embd=32"),
        ({"n_embd": [32], "n_head": [2]}, {"head_dim": 8}, "must be the largest n_embd"),
        ({"n_embd": [32], "n_head": [2], "width": [3]}, {}, "width"),
        ({"n_embd": [32], "n_head": [2]}, {"superposition": "outputs"}, "outputs"),
    ],
)
def test_a_space_that_cannot_be_is_refused(space, options, message):
    with pytest.raises(ValueError, match=message):
        ElasticGPT2Config(space=SearchSpace(n_layer=[1, 2], **space), **options)


def test_sampled_heads_are_right_on_average_and_cost_one_attention():
    """Value and gradient of `sum_h p_h f_h` by one drawn h, weighted by p_h / stop(p_h)."""
    rows = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64).expand(4000, -1).clone().requires_grad_()
    torch.manual_seed(0)
    counts, weights = _head_parts((2, 4, 8), rows, sampled=True)
    values = {2: 1.0, 4: -2.0, 8: 5.0}
    drawn = torch.cat([weight * values[count] for (count,), weight in zip(counts, weights, strict=True)])
    spread = drawn.std().item() / len(rows) ** 0.5
    assert abs(drawn.mean().item() - (0.2 * 1 - 0.5 * 2 + 0.3 * 5)) < 4 * spread
    (gradient,) = torch.autograd.grad(drawn.sum(), rows)
    torch.testing.assert_close(gradient.mean(0), rows.new_tensor([1.0, -2.0, 5.0]), rtol=0.1, atol=0)

    space = SearchSpace(n_embd=[16, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2]))
    supernet, logits, tokens = gpt2(space=space).train(), ArchParameters(space), torch.arange(8)[None]
    supernet.config.sampled_heads = True
    mixture = logits.sample(sampler("darts"))
    with patch("torch.nn.functional.scaled_dot_product_attention", wraps=F.scaled_dot_product_attention) as attention:
        supernet(input_ids=tokens, labels=tokens, mixture=mixture).loss.backward()
    assert attention.call_count == 2  # one for each layer
    assert logits.logits["n_head"].grad.abs().amax(-1).min() > 0
    with torch.no_grad():  # no draw outside training
        supernet.eval()
        found = supernet(input_ids=tokens, mixture=mixture).logits
        supernet.config.sampled_heads = False
        torch.testing.assert_close(found, supernet(input_ids=tokens, mixture=mixture).logits)


@pytest.mark.parametrize("name", ["gdas", "reinmax"])
def test_sampled_heads_leave_every_choice_its_gradient_under_hard_samples(name):
    space = SearchSpace(n_embd=[32], n_layer=[2], n_head=PerLayer([2, 4, 8]), mlp_ratio=[1])
    supernet, tokens = gpt2(space=space).train(), torch.arange(8)[None]
    for module in supernet.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    gradients = []
    for supernet.config.sampled_heads in (False, True):
        logits = ArchParameters(space)
        mixture = logits.sample(sampler(name), 0.5, torch.Generator().manual_seed(1))
        supernet(input_ids=tokens, labels=tokens, mixture=mixture).loss.backward()
        gradients.append(logits.logits["n_head"].grad)
    assert gradients[0].abs().min() > 0
    torch.testing.assert_close(gradients[1], gradients[0])
    with patch("torch.nn.functional.scaled_dot_product_attention", wraps=F.scaled_dot_product_attention) as attention:
        supernet(input_ids=tokens, mixture={n: rows.detach() for n, rows in mixture.items()})
    assert (
        attention.call_count == 2
    )  # a weight step needs no gradient of the shares, and goes on with one for each layer
