"""Laws 1, 2 and 8 where one-hots cannot see a fault: soft mixtures of whole nets, their gradients, config variants."""

import random

import oracle
import pytest
import torch
from families import FAMILIES, gpt2
from torch.nn import functional as F

from tangle_hf import (
    ArchParameters,
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    PerLayer,
    SearchSpace,
    expected_flops,
    expected_num_params,
    extract,
    num_params,
    one_hot,
    sampler,
)


HEADS = pytest.mark.parametrize("heads", ["split", "fixed"])
FORMS = pytest.mark.parametrize("superposition", ["inputs", "weights"])
TOKENS = torch.arange(12).view(2, 6) * 7 % 50
SMALL = {
    "split": SearchSpace(n_embd=[8, 12, 16], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2])),
    "fixed": SearchSpace(n_embd=[8, 16], n_layer=[1, 2], n_head=PerLayer([1, 2, 4]), mlp_ratio=PerLayer([1, 2])),
}


def soft_mixture(space, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        n: rows.detach() for n, rows in ArchParameters(space).double().sample(sampler("drnas"), 0.0, generator).items()
    }


def attend(query, key, value, heads):
    split = [t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (query, key, value)]
    scores = split[0] @ split[1].transpose(-1, -2) * split[0].shape[-1] ** -0.5
    scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), float("-inf"))
    return (scores.softmax(-1) @ split[2]).transpose(1, 2).flatten(2)


def fixed_block(block, x, embed, heads, ratio, space, head_dim, by_weights):
    """A GPT-2 block with heads of a fixed width, the literal sums over choices of width, head count and ratio."""
    widths, counts, ratios = (space.choices[n] for n in ("n_embd", "n_head", "mlp_ratio"))
    full, attn, mlp = x.shape[-1], block.attn, block.mlp
    normed = oracle.layer_norm(x, block.ln_1.weight, block.ln_1.bias, embed, widths, block.ln_1.eps)
    pairs = [
        (a * b, torch.arange(e), torch.arange(h * head_dim))
        for a, e in zip(embed, widths, strict=True)
        for b, h in zip(heads, counts, strict=True)
    ]
    if by_weights:
        fused = [(s, rows, torch.cat([units, units + full, units + 2 * full])) for s, rows, units in pairs]
        qkv = oracle.linear(normed, attn.c_attn.weight, attn.c_attn.bias, fused)
        mixed = attend(*qkv.split(full, -1), counts[-1])
        x = x + oracle.linear(mixed, attn.c_proj.weight, attn.c_proj.bias, [(s, u, r) for s, r, u in pairs])
    else:
        out = attend(*attn.c_attn(normed).split(full, -1), counts[-1])
        mixed = sum(b * oracle.pad_last(out[..., : h * head_dim], full) for b, h in zip(heads, counts, strict=True))
        x = x + attn.c_proj(mixed)
    normed = oracle.layer_norm(x, block.ln_2.weight, block.ln_2.bias, embed, widths, block.ln_2.eps)
    terms = [
        (a * b, torch.arange(e), torch.arange(e * r))
        for a, e in zip(embed, widths, strict=True)
        for b, r in zip(ratio, ratios, strict=True)
    ]
    if by_weights:
        hidden = mlp.act(oracle.linear(normed, mlp.c_fc.weight, mlp.c_fc.bias, terms))
        return x + oracle.linear(hidden, mlp.c_proj.weight, mlp.c_proj.bias, [(s, c, r) for s, r, c in terms])
    hidden = mlp.act(mlp.c_fc(normed))
    return x + mlp.c_proj(sum(s * oracle.pad_last(hidden[..., : len(c)], hidden.shape[-1]) for s, _, c in terms))


def literal_logits(supernet, tokens, mixture):
    """The whole net: embeddings, blocks, depths, final norm and head as plain sums over padded slices."""
    stem, space, config = supernet.transformer, supernet.space, supernet.config
    widths, by_weights, embed = space.choices["n_embd"], config.superposition == "weights", mixture["n_embd"][0]
    table, positions = stem.wte.weight, stem.wpe.weight
    if by_weights:
        table, positions = (
            sum(a * oracle.pad_last(t[:, :e], t.shape[1]) for a, e in zip(embed, widths, strict=True))
            for t in (table, positions)
        )
    x = table[tokens] + positions[: tokens.shape[1]]
    total, shares = 0, dict(zip(space.choices["n_layer"], mixture["n_layer"][0], strict=True))
    for layer, block in enumerate(stem.h):
        rows = embed, mixture["n_head"][layer], mixture["mlp_ratio"][layer]
        if config.head_dim is not None:
            x = fixed_block(block, x, *rows, space, config.head_dim, by_weights)
        else:
            literal = oracle.block_weights_form if by_weights else oracle.block_inputs_form
            x = literal(block, x, *rows, widths, space.choices["n_head"], space.choices["mlp_ratio"])
        total = total + shares.get(layer + 1, 0) * x
    return oracle.layer_norm(total, stem.ln_f.weight, stem.ln_f.bias, embed, widths, stem.ln_f.eps) @ table.T


@HEADS
@FORMS
def test_law_2_a_whole_net_is_the_literal_sum_over_slices(heads, superposition):
    supernet = gpt2(heads, superposition, SMALL[heads]).double()
    for seed in range(3):
        mixture = soft_mixture(supernet.space, seed)
        with torch.no_grad():
            found, expected = supernet(TOKENS, mixture=mixture).logits, literal_logits(supernet, TOKENS, mixture)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@HEADS
@FORMS
def test_gradients_of_the_logits_reach_every_share(heads, superposition):
    """Finite differences see a gradient that is dropped on the way, e.g. that of the softmax scale."""
    supernet = gpt2(heads, superposition, SMALL[heads]).double().requires_grad_(False)
    mixture = soft_mixture(supernet.space)
    rows = [mixture[name].requires_grad_() for name in mixture]
    weights = torch.randn(*TOKENS.shape, 50, dtype=torch.float64)

    def value(*shares):  # not the loss: transformers takes it in float32, too coarse for differences
        return (supernet(TOKENS, mixture=dict(zip(mixture, shares, strict=True))).logits * weights).mean()

    assert torch.autograd.gradcheck(value, rows)
    assert all(gradient.abs().min() > 0 for gradient in torch.autograd.grad(value(*rows), rows))


@FORMS
@pytest.mark.parametrize(
    "options",
    [
        {"tie_word_embeddings": False},
        {"scale_attn_weights": False},
        {"scale_attn_by_inverse_layer_idx": True},
        {"activation_function": "relu"},
        {"head_dim": 4},
        {"layer_norm_epsilon": 0.1},
    ],
    ids=lambda options: next(iter(options)),
)
def test_law_1_with_other_settings_and_one_choice_for_all_layers(options, superposition):
    space = SearchSpace(n_embd=[8, 16], n_layer=[1, 2], n_head=[2, 4], mlp_ratio=[1, 2])
    config = ElasticGPT2Config(space=space, vocab_size=50, n_positions=8, superposition=superposition, **options)
    supernet = ElasticGPT2LMHeadModel(config).eval().double()
    for parameter in supernet.parameters():
        torch.nn.init.normal_(parameter, 0.5 if parameter.ndim == 1 else 0.0, 0.3)
    for arch in space:
        subnet = extract(supernet, arch)
        assert num_params(space, arch, config) == sum(p.numel() for p in subnet.parameters())
        with torch.no_grad():
            expected = subnet(TOKENS).logits
            for how in ({"mixture": one_hot(space, arch)}, {"arch": arch}):
                torch.testing.assert_close(supernet(TOKENS, **how).logits, expected, rtol=1e-10, atol=1e-10)


@FORMS
def test_law_1_on_25_more_of_the_papers_language_space(superposition):
    space = SearchSpace(
        n_embd=[384, 576, 768], n_layer=[1, 2], n_head=PerLayer([6, 8, 12]), mlp_ratio=PerLayer([2, 3, 4])
    )
    supernet, tokens = gpt2("split", superposition, space, vocab_size=64), torch.arange(8)[None] * 7
    rng = random.Random(1)
    for arch in (space.sample(rng) for _ in range(25)):
        with torch.no_grad():
            expected = extract(supernet, arch)(tokens).logits
            found = supernet(tokens, mixture=one_hot(space, arch)).logits
        assert (found - expected).abs().max() < 1e-5 * expected.abs().max(), arch


@pytest.mark.parametrize(
    ("family", "heads"), [(f, h) for f in FAMILIES for h in f.heads], ids=lambda case: getattr(case, "name", case)
)
def test_law_8_expected_cost_is_differentiable(family, heads):
    supernet = family.supernet(heads)
    mixture = soft_mixture(supernet.space)
    rows = [mixture[name].requires_grad_() for name in mixture]

    def costs(*shares):
        given = dict(zip(mixture, shares, strict=True))
        return (
            expected_num_params(supernet.space, given, supernet.config),
            expected_flops(supernet.space, given, supernet.config, sequence_length=8),
        )

    assert torch.autograd.gradcheck(costs, rows)
    for arch in (supernet.space.smallest, supernet.space.largest):
        at_one_hot = expected_num_params(supernet.space, one_hot(supernet.space, arch), supernet.config)
        assert at_one_hot.item() == num_params(supernet.space, arch, supernet.config)


def test_attend_is_the_attention_of_torch():
    query, key, value = torch.randn(3, 2, 6, 8, dtype=torch.float64)
    split = [t.unflatten(-1, (2, 4)).transpose(1, 2) for t in (query, key, value)]
    expected = F.scaled_dot_product_attention(*split, is_causal=True).transpose(1, 2).flatten(2)
    torch.testing.assert_close(attend(query, key, value, 2), expected)
