"""Spaces and architectures: validation, JSON, size, neighbours."""

import json
import math
import random

import pytest

from tangle_hf import Architecture, PerLayer, SearchSpace, one_hot
from tangle_hf.arch_parameters import argmax


SPACE = SearchSpace(n_embd=[16, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2, 4]))
STAGES = SearchSpace(depths=PerLayer([1, 2], rows=2), kernel_size=PerLayer([3, 5]), width=[8, 16])
EDGES = SearchSpace(normal=PerLayer(["skip", "pool", "conv"], rows=3), reduce=PerLayer(["skip", "conv"], rows=2))
SPACES = pytest.mark.parametrize("space", [SPACE, STAGES, EDGES], ids=["layers", "stages", "edges"])


@pytest.mark.parametrize(
    ("dimensions", "message"),
    [
        ({}, "at least one dimension"),
        ({"n_embd": []}, "n_embd has no choices"),
        ({"n_embd": [32, 16]}, r"strictly ascending, got \(32, 16\)"),
        ({"n_embd": [16, 16]}, "strictly ascending"),
        ({"n_embd": [-1, 16]}, "positive"),
        ({"n_embd": [16], "n_head": PerLayer([2])}, "n_layer"),
        ({"n_layer": [1.5]}, "whole numbers"),
        ({"mlp_ratio": [1, math.inf]}, "positive numbers"),
        ({"operation": ["skip", "skip"]}, "differ"),
        ({"operation": ["skip", 3]}, "all of them names"),
        ({"operation": PerLayer(["skip"], rows=0)}, "rows=0 of operation"),
        ({"depths": PerLayer([1, 2]), "kernel_size": PerLayer([3])}, "rows=stages"),
        ({"depths": PerLayer([1, 2], rows=2)}, "no dimension is PerLayer"),
        ({"n_layer": [1, 2], "n_head": PerLayer([2], rows=2)}, r"n_head.*leave rows out"),
    ],
)
def test_bad_choices_are_refused(dimensions, message):
    with pytest.raises(ValueError, match=message):
        SearchSpace(**dimensions)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_embd": 20, "n_layer": 1, "n_head": 2, "mlp_ratio": 1}, r"n_embd=20 is not a choice.*\(16, 32\)"),
        ({"n_embd": 16, "n_layer": 1, "n_head": 2}, "lacks.*mlp_ratio"),
        ({"n_embd": 16, "n_layer": 1, "n_head": 2, "mlp_ratio": 1, "width": 3}, "width"),
        ({"n_embd": 16, "n_layer": 2, "n_head": [2], "mlp_ratio": 1}, "n_head has 1 values for 2 layers"),
        ({"n_embd": [16], "n_layer": 1, "n_head": 2, "mlp_ratio": 1}, "one value"),
    ],
)
def test_bad_architectures_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        SPACE.architecture(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n_embd": None}, "n_embd=None must be a number, a name or a list"),
        ({"n_embd": 16, "n_layer": "2", "n_head": [2, 2]}, "n_layer='2' must be a whole number"),
        ({"n_layer": 1.5}, "n_layer=1.5 must be a whole number"),
        ({"normal": [["skip"]]}, "must be a number, a name or a list"),
        ({"normal": {"skip": 1}}, "must be a number, a name or a list"),
        ({"depths": [], "kernel_size": [3, 3]}, "not empty"),
    ],
)
def test_values_of_a_wrong_type_are_refused(values, message):
    """As somebody who writes an architecture.json by hand may get them wrong."""
    with pytest.raises(ValueError, match=message):
        Architecture(values)


@pytest.mark.parametrize(
    ("space", "values", "message"),
    [
        (STAGES, {"depths": [1, 2], "kernel_size": [3, 5, 3], "width": 8}, "3 values for stages"),
        (STAGES, {"depths": [1, 2], "kernel_size": [3, 5, 3, None], "width": 8}, "kernel_size=None is not a choice"),
        (STAGES, {"depths": [1, 2], "kernel_size": [3] * 6, "width": 8}, "6 values, this space needs 4"),
        (STAGES, {"depths": [1, 3], "kernel_size": [3] * 6, "width": 8}, "depths=3 is not a choice"),
        (EDGES, {"normal": ["skip"] * 2, "reduce": "conv"}, "normal has 2 values, this space needs 3"),
        (EDGES, {"normal": "skip", "reduce": ["conv", "pool"]}, "reduce=pool is not a choice"),
    ],
)
def test_bad_architectures_of_stages_and_edges_are_refused(space, values, message):
    with pytest.raises(ValueError, match=message):
        space.architecture(**values)


def test_whole_numbers_may_be_written_with_a_point():
    values = {"n_embd": 16.0, "n_layer": 1.0, "n_head": 2.0, "mlp_ratio": [2.0]}
    for arch in (SPACE.architecture(**values), Architecture(values | {"n_head": [2.0]})):
        assert arch == SPACE.architecture(n_embd=16, n_layer=1, n_head=2, mlp_ratio=2)
        assert str(arch) == "n_embd=16 n_layer=1 n_head=2 mlp_ratio=2"
    with pytest.raises(ValueError, match=r"n_embd=16.5 is not a choice"):
        SPACE.architecture(**values | {"n_embd": 16.5})


def test_layers_that_no_stage_has_do_not_matter():
    first, second = (STAGES.architecture(depths=[1, 2], kernel_size=[3, dead, 5, 3], width=8) for dead in (3, 5))
    assert first == second and hash(first) == hash(second) and first.kernel_size == (3, None, 5, 3)
    assert [first.has_layer(layer) for layer in (None, 0, 1, 2, 3)] == [True, True, False, True, True]
    assert str(first) == "depths=1,2 kernel_size=3,-,5,3 width=8"


def test_layers_that_do_not_exist_do_not_matter():
    long = Architecture(n_embd=16, n_layer=1, n_head=[2, 4], mlp_ratio=[1, 4])
    short = Architecture(n_embd=16, n_layer=1, n_head=[2], mlp_ratio=[1])
    assert long == short and hash(long) == hash(short) and long.n_head == (2,)


def test_architectures_are_immutable():
    with pytest.raises(AttributeError, match="immutable"):
        SPACE.largest.n_embd = 3


@SPACES
def test_size_counts_every_architecture_once(space):
    everything = list(space)
    sizes = {SPACE: 2 * (6 + 36), STAGES: 2 * (2 + 4) ** 2, EDGES: 3**3 * 2**2}
    assert len(everything) == len(set(everything)) == space.size == sizes[space]
    for arch in everything:
        space.validate(arch)


@SPACES
def test_json_round_trips(space):
    assert SearchSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    for arch in space:
        assert Architecture.from_json(arch.to_json()) == arch


def test_the_json_of_transformers_is_plain():
    assert SPACE.to_dict() == {
        "n_embd": [16, 32], "n_layer": [1, 2], "n_head": {"per_layer": [2, 4]}, "mlp_ratio": {"per_layer": [1, 2, 4]}
    }  # fmt: skip


@SPACES
def test_one_hots_are_their_architectures(space):
    for arch in space:
        assert argmax(space, one_hot(space, arch)) == arch


def test_neighbours_are_all_architectures_one_decision_away():
    arch = SPACE.architecture(n_embd=16, n_layer=2, n_head=[2, 4], mlp_ratio=[1, 4])
    assert len(SPACE.neighbours(arch)) == 1 + 1 + 2 + 4
    grown = SPACE.neighbours(SPACE.smallest)
    assert SPACE.smallest.replace(n_layer=2, n_head=(2, 2), mlp_ratio=(1, 1)) in grown
    arch = STAGES.architecture(depths=[1, 2], kernel_size=[5, None, 3, 3], width=8)
    assert STAGES.architecture(depths=[2, 2], kernel_size=[5, 5, 3, 3], width=8) in STAGES.neighbours(arch)
    assert len(STAGES.neighbours(arch)) == 2 + 3 + 1 and len(EDGES.neighbours(EDGES.largest)) == 3 * 2 + 2
    for space in (SPACE, STAGES, EDGES):
        for arch in space:
            found = space.neighbours(arch)
            assert len(found) == len(set(found)) and arch not in found
            for other in found:
                space.validate(other)


@SPACES
def test_samples_are_seeded_and_cover_the_space(space):
    rng = random.Random(0)
    drawn = [space.sample(rng) for _ in range(2000)]
    assert set(drawn) == set(space)
    assert space.sample(random.Random(7)) == space.sample(random.Random(7))
    if space.depth_name:
        assert abs(sum(str(arch.depth) in ("1", "(1, 1)") for arch in drawn) - 2000 / 2**space.stages) < 100


HAND = SearchSpace(n_embd=[4, 8], n_layer=[1, 2], n_head=PerLayer([1, 2]), mlp_ratio=[2, 4])


def test_dimensions_of_the_whole_net_and_of_layers():
    assert HAND.whole_net == ("n_embd", "mlp_ratio") and HAND.of_layers == ("n_head",)
    stages = SearchSpace(depths=PerLayer([1, 2], rows=2), kernel_size=PerLayer([3, 5]))
    assert stages.whole_net == () and stages.of_layers == ("kernel_size",)


def test_rows_give_an_architecture_and_an_architecture_its_values():
    rows = {"n_embd": [8], "n_layer": [1], "n_head": [2, 1], "mlp_ratio": [4]}
    arch = HAND.from_rows(rows)
    assert arch == Architecture(n_embd=8, n_layer=1, n_head=[2], mlp_ratio=4)
    assert arch.values("n_head") == (2,) and arch.values("n_embd") == (8,)


def test_nets_with_equal_layers():
    found = list(HAND.equal_layers(mlp_ratio=[4]))
    assert len(found) == len(set(found)) == 8
    assert set(found) == {arch for arch in HAND if arch.mlp_ratio == 4 and len(set(arch.n_head)) == 1}


def test_ids_are_those_of_values():
    arch = HAND.largest
    assert arch.id == Architecture.from_json(arch.to_json()).id == Architecture(arch.to_dict() | {"n_embd": 8.0}).id
    assert len({arch.id for arch in HAND}) == HAND.size
    assert arch.id == "39e200e3f0", "names files of unfinished comparisons, which must be found again"
