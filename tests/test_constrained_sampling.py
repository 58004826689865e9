"""Draws within budgets: the distribution is the enumerated one, given that the budgets hold, however tight they are."""

import math
import random
from collections import Counter

import pytest
import torch

from tangle_hf import ElasticGPT2Config, PerLayer, SearchSpace
from tangle_hf.arch import uniform_mixture
from tangle_hf.budgets import make_budgets
from tangle_hf.constrained_sampling import ConstrainedSampler
from tangle_hf.cost_table import exact


SPACE = SearchSpace(n_embd=[16, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2, 4]))
CONFIG = ElasticGPT2Config(space=SPACE, vocab_size=40, n_positions=8)
DRAWS = 4000


def skewed(space):
    generator = torch.Generator().manual_seed(0)
    return {n: torch.rand(rows.shape, generator=generator).add(0.2) for n, rows in uniform_mixture(space).items()}


def probability(arch, mixture, space=SPACE):
    product = 1.0
    for name, choices in space.choices.items():
        values = getattr(arch, name) if name in space.per_layer else (getattr(arch, name),)
        product *= math.prod(mixture[name][row, choices.index(v)].item() for row, v in enumerate(values))
    return product


def expected_distribution(mixture, budgets=(), weight=lambda arch: 1.0, space=SPACE):
    """By enumeration."""
    inside = [arch for arch in space if all(exact(b.table, arch) <= b.limit for b in budgets)]
    masses = {arch: probability(arch, mixture, space) * weight(arch) for arch in inside}
    total = sum(masses.values())
    return {arch: mass / total for arch, mass in masses.items() if mass}


def check(sampler, expected, draws=DRAWS):
    """Pearson's chi-square of the draws, whose standard score must be small."""
    rng = random.Random(0)
    counts = Counter(sampler.sample(rng) for _ in range(draws))
    assert counts.keys() <= expected.keys(), "an architecture outside the limits was drawn"
    chi2 = sum((counts[arch] - draws * p) ** 2 / (draws * p) for arch, p in expected.items())
    freedom = len(expected) - 1
    assert freedom == 0 or (chi2 - freedom) / math.sqrt(2 * freedom) < 4, (chi2, freedom)


@pytest.mark.parametrize("mixture", [uniform_mixture, skewed])
@pytest.mark.parametrize(
    "limits",
    [{}, {"max_params": "60%"}, {"max_flops": "70%", "max_params_without_embeddings": "50%"}, {"max_params": "2600"}],
)
def test_draws_have_the_distribution_of_the_shares_given_the_budgets(mixture, limits):
    budgets, shares = make_budgets(CONFIG, **limits, sequence_length=8), mixture(SPACE)
    expected = expected_distribution(shares, budgets)
    assert not limits or len(expected) < SPACE.size
    check(ConstrainedSampler(SPACE, shares, budgets), expected)


def test_a_band_leaves_out_what_does_not_use_the_budget_and_gives_way_where_it_is_empty():
    shares = skewed(SPACE)
    (budget,) = make_budgets(CONFIG, max_params="85%")
    sizes = {arch: exact(budget.table, arch) for arch in SPACE}
    inside = expected_distribution(shares, [budget], lambda arch: sizes[arch] >= 0.9 * budget.limit)
    assert 1 < len(inside) < len(expected_distribution(shares, [budget]))
    check(ConstrainedSampler(SPACE, shares, [budget], band=0.9), inside)
    smallest, second = sorted(set(sizes.values()))[:2]
    (tight,) = make_budgets(CONFIG, max_params=second - 1)
    assert second - 1 > smallest / 0.9999
    check(ConstrainedSampler(SPACE, shares, [tight], band=0.9999), expected_distribution(shares, [tight]))


def test_strata_of_the_size_are_drawn_evenly():
    shares, count = uniform_mixture(SPACE), 5
    (all_sizes,) = make_budgets(CONFIG, max_params_without_embeddings="100%")
    sizes = {arch: exact(all_sizes.table, arch) for arch in SPACE}
    low, high = min(sizes.values()), max(sizes.values())
    stratum = {arch: min((size - low) * count // (high - low), count - 1) for arch, size in sizes.items()}
    plain = expected_distribution(shares)
    share = [sum(p for arch, p in plain.items() if stratum[arch] == n) for n in range(count)]
    assert max(share) > 3 * min(s for s in share if s), "uniform draws are even in size already"
    expected = expected_distribution(shares, weight=lambda arch: 1 / share[stratum[arch]])
    check(ConstrainedSampler(SPACE, shares, strata=(all_sizes.table, count)), expected)


def test_choices_without_a_share_are_never_drawn():
    shares = skewed(SPACE)
    shares["mlp_ratio"][0] = torch.tensor([0.0, 1.0, 0.0])
    shares["n_embd"] = torch.tensor([[0.0, 1.0]])
    expected = expected_distribution(shares)
    assert len(expected) == 2 + 2 * 2 * 3
    check(ConstrainedSampler(SPACE, shares), expected)


def test_a_space_without_depth_and_without_layers_of_its_own():
    space = SearchSpace(n_embd=[16, 32], n_head=[2, 4], n_layer=2)
    shares = skewed(space)
    check(ConstrainedSampler(space, shares), expected_distribution(shares, space=space))


def test_where_nothing_fits_it_says_so():
    (budget,) = make_budgets(CONFIG, max_params=100)
    with pytest.raises(ValueError, match="max_params = 100; raise the budget"):
        ConstrainedSampler(SPACE, uniform_mixture(SPACE), [budget])
