"""Spaces and architectures: validation, JSON, size, neighbours."""

import json
import random

import pytest

from tangle_hf import Architecture, PerLayer, SearchSpace


SPACE = SearchSpace(n_embd=[16, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2, 4]))


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


def test_layers_that_do_not_exist_do_not_matter():
    long = Architecture(n_embd=16, n_layer=1, n_head=[2, 4], mlp_ratio=[1, 4])
    short = Architecture(n_embd=16, n_layer=1, n_head=[2], mlp_ratio=[1])
    assert long == short and hash(long) == hash(short) and long.n_head == (2,)


def test_architectures_are_immutable():
    with pytest.raises(AttributeError, match="immutable"):
        SPACE.largest.n_embd = 3


def test_size_counts_every_architecture_once():
    everything = list(SPACE)
    assert len(everything) == len(set(everything)) == SPACE.size == 2 * (6 + 36)
    for arch in everything:
        SPACE.validate(arch)


def test_json_round_trips():
    assert SearchSpace.from_dict(json.loads(json.dumps(SPACE.to_dict()))) == SPACE
    for arch in SPACE:
        assert Architecture.from_json(arch.to_json()) == arch


def test_neighbours_are_all_architectures_one_decision_away():
    arch = SPACE.architecture(n_embd=16, n_layer=2, n_head=[2, 4], mlp_ratio=[1, 4])
    found = SPACE.neighbours(arch)
    assert len(found) == len(set(found)) == 1 + 1 + 2 + 4
    for other in found:
        SPACE.validate(other)
        assert other != arch
    grown = SPACE.neighbours(SPACE.smallest)
    assert SPACE.smallest.replace(n_layer=2, n_head=(2, 2), mlp_ratio=(1, 1)) in grown


def test_samples_are_seeded_and_cover_the_space():
    rng = random.Random(0)
    drawn = [SPACE.sample(rng) for _ in range(2000)]
    assert set(drawn) == set(SPACE)
    assert abs(sum(arch.n_layer == 1 for arch in drawn) - 1000) < 100
    assert SPACE.sample(random.Random(7)) == SPACE.sample(random.Random(7))
