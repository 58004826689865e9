"""Draws within budgets: the distribution is the enumerated one, given that the budgets hold, however tight they are."""

import math
import random
import time
from collections import Counter

import numpy as np
import pytest
import torch

from tangle_hf import ElasticGPT2Config, ElasticMobileNetV3Config, PerLayer, SearchSpace
from tangle_hf.arch_parameters import uniform_mixture
from tangle_hf.axes import Axis, ParameterAxes
from tangle_hf.budgets.discretisation import least_costs
from tangle_hf.budgets.limits import Budget, make_budgets
from tangle_hf.budgets.sampling import ConstrainedSampler, sample_independently
from tangle_hf.cost.tables import exact, tabulate
from tangle_hf.models.conv_spaces import OFA_MOBILENETV3


SPACE = SearchSpace(n_embd=[16, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2, 4]))
CONFIG = ElasticGPT2Config(space=SPACE, vocab_size=40, n_positions=8)
DRAWS = 2000


@pytest.fixture(autouse=True, params=["adding up", "by rejection"])
def way(request, monkeypatch):
    """Every test, with the way of drawing that is for spaces of too many costs, too."""
    if request.param == "by rejection":
        monkeypatch.setattr("tangle_hf.budgets.sampling.MOST_SUMS", 0)
    return request.param


def skewed(space):
    generator = torch.Generator().manual_seed(0)
    logits = {n: torch.randn(rows.shape, generator=generator) for n, rows in uniform_mixture(space).items()}
    return {name: rows.softmax(-1) for name, rows in logits.items()}


def probability(arch, mixture, space=SPACE):
    product = 1.0
    for name, choices in space.choices.items():
        values = getattr(arch, name) if name in space.per_layer else (getattr(arch, name),)
        rows = ((row, value) for row, value in enumerate(values) if value is not None)
        product *= math.prod(mixture[name][row, choices.index(value)].item() for row, value in rows)
    return product


def expected_distribution(mixture, budgets=(), weight=lambda arch: 1.0, space=SPACE):
    """By enumeration."""
    inside = [arch for arch in space if all(exact(b.table, arch) <= b.limit for b in budgets)]
    masses = {arch: probability(arch, mixture, space) * weight(arch) for arch in inside}
    total = sum(masses.values())
    return {arch: mass / total for arch, mass in masses.items() if mass}


def check(sampler, expected, draws=DRAWS):
    rng = random.Random(0)
    check_counts([sampler.sample(rng) for _ in range(draws)], expected)


def check_counts(drawn, expected):
    """Pearson's chi-square of the draws, whose standard score must be small."""
    counts, draws = Counter(drawn), len(drawn)
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


def test_one_of_the_least_costs_is_reached():
    shares = skewed(SPACE)
    budgets = make_budgets(CONFIG, max_params="85%", max_flops="85%", sequence_length=8)
    lower = [0.9 * budget.limit for budget in budgets]

    def uses(arch):
        return any(exact(budget.table, arch) >= least for budget, least in zip(budgets, lower, strict=True))

    inside = expected_distribution(shares, budgets, uses)
    assert 1 < len(inside) < len(expected_distribution(shares, budgets))
    sampler = ConstrainedSampler(SPACE, shares, budgets, lower)
    check(sampler, inside)
    with pytest.raises(ValueError, match="raise the budget"):
        ConstrainedSampler(SPACE, shares, budgets, [2 * budget.limit for budget in budgets])


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


SPACES = {
    "shared": SearchSpace(n_embd=[16, 32], n_head=[2, 4], n_layer=2),
    "rows": SearchSpace(width=[1, 2], op=PerLayer(["a", "b", "c"], rows=3)),
    "stages": SearchSpace(width=[1, 2], depths=PerLayer([1, 2], rows=2), size=PerLayer([1, 3])),
}


def cost_of(space):
    """A cost of the first dimension, and of one that layers choose; choices are worth their number."""
    first, per_layer = next(iter(space.choices)), space.per_layer - {space.depth_name}
    entries = [(ParameterAxes((Axis((first,), None),)), lambda values: 5 * space.choices[first].index(values[first]))]
    for name in per_layer:
        for layer in range(space.rows(name)):

            def cost(values, name=name, layer=layer):
                return (layer + 1) * (1 + space.choices[name].index(values[name]))

            entries.append((ParameterAxes((Axis((name,), None),), layer), cost))
    return tabulate(space, entries)


@pytest.mark.parametrize("name", SPACES)
def test_spaces_of_every_kind(name):
    space = SPACES[name]
    shares, table = skewed(space), cost_of(space)
    costs = sorted(exact(table, arch) for arch in space)
    check(ConstrainedSampler(space, shares), expected_distribution(shares, space=space))
    budget = Budget("params", costs[len(costs) // 3], table)
    expected = expected_distribution(shares, [budget], space=space)
    assert 1 < len(expected) < space.size
    check(ConstrainedSampler(space, shares, [budget]), expected)
    rng, rows = random.Random(0), {n: r.tolist() for n, r in shares.items()}
    drawn = [sample_independently(space, rows, rng) for _ in range(DRAWS)]
    check_counts(drawn, expected_distribution(shares, space=space))


def test_where_nothing_fits_it_says_so():
    (budget,) = make_budgets(CONFIG, max_params=100)
    with pytest.raises(ValueError, match="max_params = 100; raise the budget"):
        ConstrainedSampler(SPACE, uniform_mixture(SPACE), [budget])


@pytest.mark.parametrize(("share", "second"), [("60%", None), ("60%", "70%"), ("30%", None)])
def test_a_space_of_many_costs_is_drawn_from_in_no_time(share, second, way):
    """MobileNetV3's 10^19 architectures: all draws fit, and differ; as rejection keeps few, it must keep enough."""
    config = ElasticMobileNetV3Config(space=OFA_MOBILENETV3, num_labels=1000, image_size=224)
    budgets, rng = make_budgets(config, max_flops=share, max_params=second), random.Random(0)
    start, shares = time.process_time(), uniform_mixture(config.space)
    lower = least_costs(config.space, shares, budgets, 0.95)
    assert lower.tolist() == [0.95 * budget.limit for budget in budgets]
    sampler = ConstrainedSampler(config.space, shares, budgets, lower)
    drawn = [sampler.sample(rng) for _ in range(20)]
    assert time.process_time() - start < 4 and len(set(drawn)) == 20
    for arch in drawn:
        costs = [exact(budget.table, arch) for budget in budgets]
        assert all(cost <= budget.limit for cost, budget in zip(costs, budgets, strict=True)) and any(costs >= lower)


def test_the_band_begins_at_the_limit_or_else_at_the_largest_cost_within_it():
    shares = skewed(SPACE)
    for given in ({"max_params": "85%"}, {"max_params": "70%", "max_flops": "60%"}, {"max_params": "2600"}):
        budgets = make_budgets(CONFIG, **given, sequence_length=8)
        costs = np.array([[exact(b.table, arch) for b in budgets] for arch in SPACE])
        limits = np.array([b.limit for b in budgets])
        costs = costs[(costs <= limits).all(1)]
        for band in (0.5, 0.99, 1.0):
            tops = limits if (costs >= band * limits).any() else costs.max(0)
            assert least_costs(SPACE, shares, budgets, band).tolist() == (band * tops).tolist()


def test_too_few_to_be_found_are_refused(way, monkeypatch):
    monkeypatch.setattr("tangle_hf.budgets.tilted_sampling.BATCHES", (4,))
    monkeypatch.setattr("tangle_hf.budgets.tilted_sampling.WIDEST_PRICE", 1e-9)
    budgets = make_budgets(CONFIG, max_params=exact(make_budgets(CONFIG, max_params="50%")[0].table, SPACE.smallest))
    if way == "by rejection":
        with pytest.raises(ValueError, match="hardly any architecture.*raise one of the budgets"):
            ConstrainedSampler(SPACE, uniform_mixture(SPACE), budgets)
    else:
        drawn = ConstrainedSampler(SPACE, uniform_mixture(SPACE), budgets).sample(random.Random(0))
        assert (drawn.n_embd, drawn.n_layer, drawn.mlp_ratio) == (16, 1, (1,))
