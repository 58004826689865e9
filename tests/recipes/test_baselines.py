"""Baselines are of the space and of equal cost, and none of the uniform ones is left out."""

import pytest

from tangle_hf import ElasticGPT2Config, ElasticViTConfig, PerLayer, SearchSpace, num_params
from tangle_hf.budgets.equal_cost import equal_cost, hand_cuts, largest_hand_cuts, random_architectures
from tangle_hf.budgets.limits import make_budgets


TEXT = SearchSpace(n_embd=[16, 24, 32], n_layer=[1, 2, 3], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2, 4]))
IMAGES = SearchSpace(
    hidden_size=[16, 24, 32], num_hidden_layers=[1, 2, 3], num_attention_heads=PerLayer([1, 2, 3]), mlp_ratio=PerLayer([1, 2])
)  # fmt: skip
CONFIGS = {
    "text": ElasticGPT2Config(space=TEXT, vocab_size=64, n_positions=16),
    "images": ElasticViTConfig(space=IMAGES, head_dim=8, image_size=8, patch_size=4, num_labels=3),
}


def budget(name, limit="52%"):
    embeddings = {"text": False, "images": True}[name]
    config = CONFIGS[name]
    largest = num_params(config.space, config.space.largest, config, embeddings=embeddings)
    kind = "max_params" if embeddings else "max_params_without_embeddings"
    limit_ = int(largest * float(limit[:-1]) / 100)

    def fits(arch):
        return 0.95 * limit_ <= num_params(config.space, arch, config, embeddings=embeddings) <= limit_

    return config, equal_cost(config.space, make_budgets(config, **{kind: limit})), fits


def equal_layers(arch):
    return all(len(set(value)) == 1 for value in arch.to_dict().values() if isinstance(value, list))


@pytest.mark.parametrize("limit", ["18%", "26%", "70%"])
@pytest.mark.parametrize("name", CONFIGS)
def test_cuts_by_hand_are_all_there(name, limit):
    config, cost, fits = budget(name, limit)
    expected = {arch for arch in config.space if equal_layers(arch) and fits(arch)}
    if name == "text":  # heads of n_embd / n_head units cost nothing: they stay as in the largest net
        expected = {arch for arch in expected if set(arch.n_head) == {4}}
    found, largest = hand_cuts(config.space, cost.budgets), largest_hand_cuts(config.space, cost.budgets)
    assert len(found) == len(set(found)) and set(found) == expected | set(largest)
    assert expected and largest


@pytest.mark.parametrize("name", CONFIGS)
def test_random_architectures_have_equal_cost(name):
    config, cost, fits = budget(name)
    found = random_architectures(config.space, cost, 12, seed=3)
    assert len(set(found)) == len(found) == 12
    for arch in found:
        config.space.validate(arch)
        assert fits(arch) and cost.of(arch)
    assert random_architectures(config.space, cost, 5, seed=3) == found[:5]
    assert random_architectures(config.space, cost, 12, seed=4) != found


def test_the_band_is_that_of_a_search():
    config, cost, fits = budget("text")
    inside = [cost.of(arch) for arch in config.space]
    assert inside == [fits(arch) for arch in config.space] and 0 < sum(inside) < len(inside)


def test_fewer_are_returned_where_there_are_no_more():
    space = SearchSpace(n_embd=[16, 32], n_layer=[2], n_head=[2], mlp_ratio=PerLayer([1, 2]))
    config = ElasticGPT2Config(space=space, vocab_size=64, n_positions=16)
    cost = equal_cost(space, make_budgets(config, max_params_without_embeddings="92%"))
    expected = {arch for arch in space if cost.of(arch)}
    assert len(expected) == 2 and set(random_architectures(space, cost, 50, seed=0)) == expected
