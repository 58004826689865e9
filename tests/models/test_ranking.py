"""Ranks of layers by calibration: what is removed first, what the losses are, and what is refused."""

import itertools

import pytest
import torch
from families import FAMILIES

from tangle_hf import SearchSpace
from tangle_hf.compress.ranks import rank_by_influence, rank_by_removal


TRANSFORMERS = [family for family in FAMILIES if family.has_attention]
EVERY = pytest.mark.parametrize("family", TRANSFORMERS, ids=lambda family: family.name)


def deep(family, layers=4):
    """A net of some layers without choices inside them."""
    torch.manual_seed(2)
    small = family.supernet("fixed")
    sizes = {name: choices[-1:] for name, choices in small.space.choices.items()}
    space = SearchSpace(**{**sizes, small.space.depth_name: list(range(1, layers + 1))})
    return family.supernet("fixed", space=space).double()


def batches_of(family):
    inputs = {name: v.double() if v.is_floating_point() else v for name, v in family.inputs().items()}
    return [{name: v[k : k + 1] for name, v in {**inputs, "labels": family.labels()}.items()} for k in range(2)]


@torch.no_grad()
def loss_of_subset(model, batches, kept):
    """What the exported net of these layers scores, by ranks that keep just them."""
    rest = [position for position in range(model.space.max_depth) if position not in kept]
    ranks = {position: rank for rank, position in enumerate([*kept, *rest])}
    model.set_layer_ranks([ranks[position] for position in range(len(ranks))])
    arch = model.space.largest.replace(**{model.space.depth_name: len(kept)})
    found = sum(model(**batch, arch=arch).loss.item() for batch in batches) / len(batches)
    model.set_layer_ranks(None)
    return found


@EVERY
def test_layers_are_removed_one_by_one_and_judged_again_each_time(family):
    model, batches = deep(family), batches_of(family)
    found = rank_by_removal(model, batches, progress=False)
    kept, losses = list(range(4)), []
    for removed in range(3):
        losses.append(loss_of_subset(model, batches, kept))
        choices = {p: loss_of_subset(model, batches, [k for k in kept if k != p]) for p in kept}
        kept.remove(min(choices, key=choices.get))
        assert [position for position in range(4) if found.ranks[position] < 3 - removed] == kept
    assert found.losses == pytest.approx([*losses, loss_of_subset(model, batches, kept)], rel=1e-4)
    assert not any("forward" in vars(layer) for layer in model.get_submodule(model.layer_list))


def test_influence_is_how_much_a_layer_turns_the_stream():
    model, batches = deep(FAMILIES[0]), batches_of(FAMILIES[0])
    with torch.no_grad():
        streams = [model(**batch, output_hidden_states=True).hidden_states for batch in batches]
        full = [torch.cat(states) for states in zip(*streams, strict=True)]
        turns = [1 - torch.cosine_similarity(a, b, dim=-1).mean() for a, b in itertools.pairwise(full[:-1])]
    found = rank_by_influence(model, batches, progress=False)
    order = sorted(range(3), key=lambda position: -turns[position])  # the last state is behind the final norm
    assert [position for position in sorted(range(4), key=found.__getitem__) if position != 3] == order


def test_what_cannot_be_ranked_is_said():
    model, batches = deep(FAMILIES[0], 2), batches_of(FAMILIES[0])
    for bad in ([], [{"input_ids": batches[0]["input_ids"]}]):
        with pytest.raises(ValueError, match="give at least one batch, and labels in each"):
            rank_by_removal(model, bad, progress=False)
    with pytest.raises(ValueError, match="fewest=3 must be from 1 to 2"):
        rank_by_removal(model, batches, fewest=3, progress=False)
    with pytest.raises(ValueError, match="ElasticConvMacroForImageClassification is no transformer"):
        rank_by_removal(FAMILIES[2].supernet(), batches, progress=False)
    with pytest.raises(ValueError, match="nothing to rank layers on"):
        rank_by_influence(model, [], progress=False)
    whole = rank_by_removal(model, batches, fewest=2, progress=False)
    assert whole.ranks == [0, 1] and whole.losses == [pytest.approx(loss_of_subset(model, batches, [0, 1]), rel=1e-5)]
