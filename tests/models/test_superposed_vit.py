"""Laws 1 and 2 for ViT where one-hots cannot see a fault: soft mixtures of whole nets, gradients, stochastic depth."""

import random

import oracle
import pytest
import torch
from families import vit
from torch.nn import functional as F

from tangle_hf import ArchParameters, PerLayer, SearchSpace, extract, one_hot, sampler
from tangle_hf.models.vit.spaces_vit import AUTOFORMER_HEAD_DIM, AUTOFORMER_S, AUTOFORMER_T


HEADS = pytest.mark.parametrize("heads", ["split", "fixed"])
FORMS = pytest.mark.parametrize("superposition", ["inputs", "weights"])
SPACE = SearchSpace(
    hidden_size=[8, 12, 16],
    num_hidden_layers=[1, 2],
    num_attention_heads=PerLayer([2, 4]),
    mlp_ratio=PerLayer([1, 2]),
)


def soft_mixture(space, seed):
    generator = torch.Generator().manual_seed(seed)
    return {
        n: rows.detach() for n, rows in ArchParameters(space).double().sample(sampler("drnas"), 0.0, generator).items()
    }


def attend(query, key, value, heads, scale):
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value))
    return ((q @ k.transpose(-1, -2) * scale).softmax(-1) @ v).transpose(1, 2).flatten(2)


def literal_layer(layer, x, embed, heads, ratio, config):
    """A ViT layer as plain sums over choices of width, head count and ratio."""
    choices, by_weights = config.space.choices, config.superposition == "weights"
    widths, counts, ratios = choices["hidden_size"], choices["num_attention_heads"], choices["mlp_ratio"]
    attention, mlp, full = layer.attention, layer.mlp, x.shape[-1]
    size = attention.q_proj.weight.shape[0]

    def units(e, h):
        return oracle.head_rows(e, counts, full) if config.head_dim is None else torch.arange(h * config.head_dim)

    pairs = [
        (a * b, torch.arange(e), units(e, h))
        for a, e in zip(embed, widths, strict=True)
        for b, h in zip(heads, counts, strict=True)
    ]
    hidden_pairs = [
        (a * b, torch.arange(e), torch.arange(e * r))
        for a, e in zip(embed, widths, strict=True)
        for b, r in zip(ratio, ratios, strict=True)
    ]

    def into(linear, normed, terms):
        if by_weights:
            return oracle.linear(normed, linear.weight.T, linear.bias, terms)
        return F.linear(normed, linear.weight, linear.bias)

    def back(linear, given, terms):
        if by_weights:
            return oracle.linear(given, linear.weight.T, linear.bias, [(s, u, rows) for s, rows, u in terms])
        masked = torch.zeros_like(given)
        for share, _, owned in terms:
            masked[..., owned] += share * given[..., owned]
        return F.linear(masked, linear.weight, linear.bias)

    def norm(module, given):
        return oracle.layer_norm(given, module.weight, module.bias, embed, widths, module.eps)

    normed = norm(layer.layernorm_before, x)
    q, k, v = (into(linear, normed, pairs) for linear in (attention.q_proj, attention.k_proj, attention.v_proj))
    if config.head_dim is not None:
        mixed = attend(q, k, v, counts[-1], config.head_dim**-0.5)
    else:
        if not by_weights:  # the units of width e are the same at every head count
            mask = sum(
                a * torch.zeros(size, dtype=x.dtype).index_fill(0, units(e, 0), 1.0)
                for a, e in zip(embed, widths, strict=True)
            )
            q = q * mask
        mixed = sum(
            share * attend(q, k, v, h, sum(a * (e / h) ** -0.5 for a, e in zip(embed, widths, strict=True)))
            for share, h in zip(heads, counts, strict=True)
        )
    x = x + back(attention.o_proj, mixed, pairs)
    hidden = mlp.activation_fn(into(mlp.fc1, norm(layer.layernorm_after, x), hidden_pairs))
    return x + back(mlp.fc2, hidden, hidden_pairs)


@HEADS
@FORMS
def test_law_2_a_whole_net_is_the_literal_sum_over_slices(heads, superposition):
    space = SearchSpace.from_dict(SPACE.to_dict() | ({"hidden_size": [8, 16]} if heads == "fixed" else {}))
    supernet = vit(heads, superposition, space).double()
    config, stem = supernet.config, supernet.vit
    pixels = torch.randn(
        2,
        config.num_channels,
        config.image_size,
        config.image_size,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(0),
    )
    for seed in range(3):
        mixture = soft_mixture(space, seed)
        embed, widths = mixture["hidden_size"][0], space.choices["hidden_size"]
        with torch.no_grad():
            x = stem.embeddings(pixels)
            width = sum(a * (torch.arange(x.shape[-1]) < e) for a, e in zip(embed, widths, strict=True))
            x = x * width if superposition == "weights" else x
            total = 0
            for number, layer in enumerate(stem.layers):
                rows = mixture["num_attention_heads"][number], mixture["mlp_ratio"][number]
                x = literal_layer(layer, x, embed, *rows, config)
                total = total + mixture["num_hidden_layers"][0][number] * x
            last = oracle.layer_norm(
                total[:, 0], stem.layernorm.weight, stem.layernorm.bias, embed, widths, stem.layernorm.eps
            )
            expected = supernet.classifier(last * width if superposition == "weights" else last)
            found = supernet(pixels, mixture=mixture).logits
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@HEADS
@FORMS
def test_gradients_of_the_logits_reach_every_share(heads, superposition):
    space = SearchSpace.from_dict(SPACE.to_dict() | ({"hidden_size": [8, 16]} if heads == "fixed" else {}))
    supernet = vit(heads, superposition, space).double().requires_grad_(False)
    config, mixture = supernet.config, soft_mixture(space, 3)
    rows = [mixture[name].requires_grad_() for name in mixture]
    pixels = torch.randn(1, config.num_channels, config.image_size, config.image_size, dtype=torch.float64)
    weights = torch.randn(config.num_labels, dtype=torch.float64)

    def value(*shares):
        return (supernet(pixels, mixture=dict(zip(mixture, shares, strict=True))).logits * weights).mean()

    assert torch.autograd.gradcheck(value, rows)
    assert all(gradient.abs().min() > 0 for gradient in torch.autograd.grad(value(*rows), rows))


@FORMS
@pytest.mark.parametrize("autoformer", [AUTOFORMER_T, AUTOFORMER_S], ids=["T", "S"])
def test_law_1_on_50_of_the_autoformer_spaces(autoformer, superposition):
    """25 of each, at one and two layers instead of twelve to fourteen."""
    space = SearchSpace.from_dict(autoformer.to_dict() | {"num_hidden_layers": [1, 2]})
    supernet, rng = vit("fixed", superposition, space, head_dim=AUTOFORMER_HEAD_DIM), random.Random(0)
    config = supernet.config
    pixels = torch.randn(1, config.num_channels, config.image_size, config.image_size)
    for arch in (space.sample(rng) for _ in range(25)):
        with torch.no_grad():
            expected = extract(supernet, arch)(pixels).logits
            found = supernet(pixels, mixture=one_hot(space, arch)).logits
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max(), arch


@FORMS
def test_activation_checkpointing_and_bf16_give_the_same_gradients(superposition):
    supernet = vit("split", superposition, SPACE).train()
    config, logits = supernet.config, ArchParameters(SPACE)
    batch = {
        "pixel_values": torch.randn(4, config.num_channels, config.image_size, config.image_size),
        "labels": torch.arange(4) % config.num_labels,
    }

    def gradients():
        supernet.zero_grad()
        supernet(**batch, mixture=logits.sample(sampler("darts"))).loss.backward()
        return torch.cat([p.grad.flatten() for p in supernet.parameters()])

    plain = gradients()
    with torch.autocast("cpu", torch.bfloat16):
        assert F.cosine_similarity(gradients(), plain, 0) > 0.99
    supernet.activation_checkpointing_enable()
    torch.testing.assert_close(gradients(), plain)


def test_stochastic_depth_leaves_branches_out_in_training_only():
    supernet, mixture = vit("split", "inputs", SPACE), one_hot(SPACE, SPACE.largest)
    config = supernet.config
    pixels = torch.randn(1, config.num_channels, config.image_size, config.image_size).expand(64, -1, -1, -1)
    with torch.no_grad():
        plain = supernet(pixels, mixture=mixture).logits
        config.drop_path_rate = 0.5
        torch.testing.assert_close(supernet(pixels, mixture=mixture).logits, plain)
        torch.manual_seed(0)
        dropped = supernet.train()(pixels, mixture=mixture).logits
    # Only the second of two layers drops, its two branches each with probability 1/2: four outcomes.
    assert len(dropped.round(decimals=4).unique(dim=0)) == 4
