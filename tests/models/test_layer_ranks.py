"""Layers as a ranked set: which of them a shallower net keeps, under one-hot and soft mixtures, in costs and in exports."""

import random

import oracle
import pytest
import torch
from families import FAMILIES
from test_laws import check_one_hot
from test_laws_soft import fixed_block, soft_mixture
from transformers import AutoConfig

from tangle_hf import PerLayer, SearchSpace, extract, flops, num_params, one_hot
from tangle_hf.subnets.exports import export


RANKS = [1, 3, 0, 2]
TRANSFORMERS = [family for family in FAMILIES if family.has_attention]
EVERY = pytest.mark.parametrize("family", TRANSFORMERS, ids=lambda family: family.name)


def ranked(family, ranks, superposition="inputs", equal=False):
    """A net of four layers, of which depths 2, 3 and 4 keep those of the lowest ranks."""
    torch.manual_seed(0)
    small = family.supernet("fixed", superposition)
    dimensions = {
        name: choices if name not in small.space.of_layers or equal else PerLayer(choices)
        for name, choices in small.space.choices.items()
    }
    space = SearchSpace(**{**dimensions, small.space.depth_name: [2, 3, 4]})
    model = family.supernet("fixed", superposition, space).double()
    model.set_layer_ranks(ranks)
    return model


@EVERY
@pytest.mark.parametrize("superposition", ["inputs", "weights"])
def test_law_1_a_ranked_one_hot_is_the_extracted_model(family, superposition):
    if superposition not in family.forms:
        return
    model, rng = ranked(family, RANKS, superposition), random.Random(0)
    inputs = {name: v.double() if v.is_floating_point() else v for name, v in family.inputs().items()}
    architectures = [model.space.sample(rng) for _ in range(20)]
    check_one_hot(model, inputs, architectures, family.exact)
    with torch.no_grad():
        found = model(**inputs, mixture=one_hot(model.space, model.space.largest)).logits
        torch.testing.assert_close(found, model(**inputs).logits, rtol=family.exact, atol=family.exact)
    for arch in architectures:
        subnet = extract(model, arch)
        assert num_params(model.space, arch, model.config) == sum(p.numel() for p in subnet.parameters())


@EVERY
def test_a_shallower_net_has_the_layers_of_the_lowest_ranks_in_their_order(family, tmp_path):
    model = ranked(family, RANKS)
    space, last = model.space, model.space.of_layers[-1]
    values = {name: choices[-1] for name, choices in space.choices.items()} | {space.depth_name: 3}
    small, large = space.choices[last][0], space.choices[last][-1]
    arch = space.architecture(**values | {last: [small, large, small]})  # by rank; rank 1 is position 0
    assert model.kept_layers(arch) == [0, 2, 3]
    layers, full = (net.get_submodule(model.layer_list) for net in (extract(model, arch), model))
    sizes = [sum(parameter.numel() for parameter in layer.parameters()) for layer in layers]
    assert sizes[0] > sizes[1] == sizes[2] and len(layers) == 3
    for layer, position in zip(layers, [0, 2, 3], strict=True):
        kept = dict(layer.named_parameters())
        whole = {n: p for n, p in full[position].named_parameters() if p.shape == kept[n].shape}
        assert len(whole) > 4 and all(torch.equal(kept[name], p) for name, p in whole.items())
    for form in ("compact", "padded"):
        done = export(model, arch, tmp_path / form, form=form)
        assert done.difference < 10 * family.exact * done.scale


@EVERY
def test_equal_layers_are_a_stock_export_and_ranks_travel_with_the_supernet(family, tmp_path):
    model = ranked(family, RANKS)
    arch = model.space.architecture(**{**model.space.largest.to_dict(), model.space.depth_name: 2,
                                       **{n: model.space.choices[n][-1] for n in model.space.of_layers}})  # fmt: skip
    done = export(model, arch, tmp_path / "net")
    assert done.form == "stock" and model.kept_layers(arch) == [0, 2]
    assert not hasattr(AutoConfig.from_pretrained(tmp_path / "net"), "layer_ranks")
    model.save_pretrained(tmp_path / "supernet")
    again = type(model).from_pretrained(tmp_path / "supernet", dtype=torch.float64)
    assert again.config.layer_ranks == RANKS and again.kept_layers(arch) == [0, 2]


@EVERY
def test_ranks_in_order_of_position_are_the_prefix(family):
    model, prefix = ranked(family, [0, 1, 2, 3]), ranked(family, None)
    assert model.config.layer_ranks is None
    mixture = soft_mixture(model.space)
    inputs = {name: v.double() if v.is_floating_point() else v for name, v in family.inputs().items()}
    with torch.no_grad():
        assert torch.equal(model(**inputs, mixture=mixture).logits, prefix(**inputs, mixture=mixture).logits)
    lengths = {"sequence_length": family.tokens}
    for arch in (model.space.smallest, model.space.largest):
        model.set_layer_ranks(RANKS)  # layers have equal sizes, so that a net costs the same
        assert flops(model.space, arch, model.config, **lengths) == flops(prefix.space, arch, prefix.config, **lengths)


def test_law_2_ranked_layers_are_mixed_one_by_one():
    """The whole net as a plain loop: `x + g_k (block_k(x) - x)`, g_k the shares of the depths that have layer k."""
    model, tokens = ranked(FAMILIES[0], RANKS), FAMILIES[0].inputs()["input_ids"]
    stem, space = model.transformer, model.space
    mixture = soft_mixture(space)
    widths, embed = space.choices["n_embd"], mixture["n_embd"][0]
    with torch.no_grad():
        x = stem.wte.weight[tokens] + stem.wpe.weight[: tokens.shape[1]]
        for block, rank in zip(stem.h, RANKS, strict=True):
            rows = embed, mixture["n_head"][rank], mixture["mlp_ratio"][rank]
            out = fixed_block(block, x, *rows, space, model.config.head_dim, False)
            gate = sum(s for d, s in zip(space.choices["n_layer"], mixture["n_layer"][0], strict=True) if d > rank)
            x = x + gate * (out - x)
        norm = stem.ln_f
        expected = oracle.layer_norm(x, norm.weight, norm.bias, embed, widths, norm.eps) @ stem.wte.weight.T
        torch.testing.assert_close(model(tokens, mixture=mixture).logits, expected, rtol=1e-10, atol=1e-10)


def test_shares_of_depths_get_gradients_through_the_gates():
    model, tokens = ranked(FAMILIES[0], RANKS).requires_grad_(False), FAMILIES[0].inputs()["input_ids"]
    mixture = soft_mixture(model.space)
    depths = mixture["n_layer"].requires_grad_()
    weights = torch.randn(*tokens.shape, 50, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda rows: (model(tokens, mixture={**mixture, "n_layer": rows}).logits * weights).mean(), depths
    )


@pytest.mark.parametrize("ranks", [[0, 1, 2], [1, 2, 3, 4], [0, 0, 1, 2]])
def test_ranks_that_are_no_order_of_the_layers_are_refused(ranks):
    with pytest.raises(ValueError, match="must have every number from 0 to 3 once"):
        ranked(FAMILIES[0], ranks)
    with pytest.raises(ValueError, match="layers of ElasticConvMacroForImageClassification cannot be ranked"):
        FAMILIES[2].supernet().set_layer_ranks([0, 1])
    with pytest.raises(ValueError, match="scales a layer by its position"):
        scaled = ranked(FAMILIES[0], None)
        scaled.config.scale_attn_by_inverse_layer_idx = True
        scaled.set_layer_ranks(RANKS)
