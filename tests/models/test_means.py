"""What is dropped leaves its mean: biases take it over where the loss falls, and compute what they should."""

import pytest
import torch
from families import FAMILIES
from test_ranking import batches_of

from tangle_hf import PerLayer, SearchSpace, extract
from tangle_hf.compress.batches import calibration_loss
from tangle_hf.compress.means import absorb_means, mean_outputs
from tangle_hf.compress.order import order_units
from tangle_hf.compress.scores import calibrate, projections


WITH_BIASES = [family for family in FAMILIES if family.name in ("gpt2", "vit")]
EVERY = pytest.mark.parametrize("family", WITH_BIASES, ids=lambda family: family.name)


def cut(family, ranks=None):
    """An ordered supernet of three layers, its scores, and a net of it with two layers and fewer units."""
    torch.manual_seed(3)
    small = family.supernet("fixed")
    sizes = {n: PerLayer(c) if n in small.space.of_layers else c[-1:] for n, c in small.space.choices.items()}
    model = family.supernet("fixed", space=SearchSpace(**{**sizes, small.space.depth_name: [2, 3]})).double()
    model.set_layer_ranks(ranks)
    batches = batches_of(family)
    scores = order_units(model, calibrate(model, batches, progress=False))
    return model, model.space.smallest, scores, batches


@EVERY
def test_law_1_a_bias_that_absorbed_a_mean_is_the_supernet_whose_dropped_units_give_theirs(family):
    model, arch, scores, batches = cut(family, [2, 0, 1])
    model.space.choices[model.space.depth_name] = (3,)  # all layers, but the units of the small net
    values = {**arch.to_dict(), model.space.depth_name: 3}
    whole = model.space.architecture(**{n: v[0] if isinstance(v, list) else v for n, v in values.items()})
    subnet = extract(model, whole)
    found = projections(model)
    for name, mean in mean_outputs(model, whole, scores, found).items():
        subnet.get_parameter(name).data += mean
    for projection in found:
        block = projection.inputs.block(*(whole.values(n)[0] for n in projection.inputs.dimensions))
        kept = torch.zeros([size for size, _ in block], dtype=torch.float64)
        kept[tuple(part for _, part in block)] = 1
        kept, mean = kept.flatten(), scores.mean[projection.name]
        assert 0 < kept.sum() < len(kept)
        projection.module.register_forward_pre_hook(
            lambda _, inputs, kept=kept, mean=mean: (inputs[0] * kept + (1 - kept) * mean,)
        )
    inputs = {name: values for name, values in batches[0].items() if name != "labels"}
    with torch.no_grad():
        expected = model(**inputs).logits
        assert (subnet(**inputs).logits - expected).abs().max() < 1e-10 * expected.abs().max()


@EVERY
def test_a_mean_is_absorbed_only_where_the_loss_falls(family):
    model, arch, scores, batches = cut(family, [2, 0, 1])
    subnet, plain = extract(model, arch), extract(model, arch)
    found = absorb_means(subnet, model, arch, scores, batches, progress=False)
    assert found.before == calibration_loss(plain, batches) and found.after == calibration_loss(subnet, batches)
    changed = [n for n, p in subnet.named_parameters() if not torch.equal(p, plain.get_parameter(n))]
    assert sorted(changed) == sorted(found.names) and 0 < len(changed) < 4 and found.after < found.before
    best, every = calibration_loss(plain, batches), mean_outputs(model, arch, scores, projections(model))
    assert len(every) == 4
    for name, mean in every.items():  # one after the other
        before = plain.get_parameter(name).detach().clone()
        plain.get_parameter(name).data += mean
        loss = calibration_loss(plain, batches)
        assert (name in found.names) == (loss < best)
        if loss < best:
            best = loss
        else:
            plain.get_parameter(name).data = before


def test_nothing_is_absorbed_without_biases_and_other_scores_are_refused():
    llama = next(family for family in FAMILIES if family.name == "llama")
    torch.manual_seed(0)
    model, batches = llama.supernet("fixed").double(), batches_of(llama)
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            module.bias = None
    model.config.mlp_bias = model.config.attention_bias = False
    model._read_axes()
    scores = calibrate(model, batches, progress=False)
    subnet = extract(model, model.space.smallest)
    assert absorb_means(subnet, model, model.space.smallest, scores, batches, progress=False).names == []
    with pytest.raises(ValueError, match="labels in each"):
        absorb_means(subnet, model, model.space.smallest, scores, [], progress=False)
    order_units(model, scores)
    with pytest.raises(ValueError, match="not of these weights"):
        absorb_means(subnet, model, model.space.smallest, scores, batches, progress=False)
