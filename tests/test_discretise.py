"""The constrained discretisation is the true optimum: against enumeration, and against samples of random spaces."""

import functools
import math
import random
import time
from itertools import product
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tangle_hf import (
    ArchParameters,
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticMobileNetV3Config,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
    flops,
    num_params,
    sampler,
)
from tangle_hf.arch_parameters import argmax, uniform_mixture
from tangle_hf.axes import Axis, ParameterAxes
from tangle_hf.budgets.discretisation import discretise, likeliest_of_each_shape
from tangle_hf.budgets.equal_cost import fits
from tangle_hf.budgets.limits import Budget, make_budgets
from tangle_hf.budgets.sampling import ConstrainedSampler
from tangle_hf.cost.tables import CostTable, Term, exact, expected, tabulate
from tangle_hf.models.conv_spaces import OFA_MOBILENETV3
from tangle_hf.search.gradient.budget_surface import Surface, start_on_surface


LENGTH = 8
COSTS = {
    "params": lambda net, arch: num_params(net.space, arch, net.config),
    "params_without_embeddings": lambda net, arch: num_params(net.space, arch, net.config, embeddings=False),
    "flops": lambda net, arch: flops(net.space, arch, net.config, sequence_length=LENGTH),
}


def a_net(family: str, widths, depths, heads, ratios, head_dim=None):
    """What `discretise` asks of a supernet, without weights."""
    if family == "gpt2":
        space = SearchSpace(n_embd=widths, n_layer=depths, n_head=heads, mlp_ratio=ratios)
        config = ElasticGPT2Config(space=space, vocab_size=30, n_positions=LENGTH, head_dim=head_dim)
        model = ElasticGPT2LMHeadModel
    else:
        space = SearchSpace(hidden_size=widths, num_hidden_layers=depths, num_attention_heads=heads, mlp_ratio=ratios)
        config = ElasticViTConfig(space=space, image_size=8, patch_size=4, num_labels=5, head_dim=head_dim)
        model = ElasticViTForImageClassification
    return SimpleNamespace(space=space, config=config, subnet_forms=model.subnet_forms)


NETS = {
    "gpt2": a_net("gpt2", [16, 24, 32], [1, 2, 3], PerLayer([2, 4]), PerLayer([1, 1.5, 2])),
    "gpt2 fixed heads": a_net("gpt2", [16, 32], [2, 3], PerLayer([1, 2]), PerLayer([1, 2]), head_dim=16),
    "gpt2 shared heads": a_net("gpt2", [16, 32], [1, 3], [2, 4], PerLayer([0.5, 1, 2])),
    "vit": a_net("vit", [16, 24], [2, 3], PerLayer([1, 2, 3]), PerLayer([1, 2]), head_dim=10),
    "vit one depth": a_net("vit", [16, 32], [2], PerLayer([2, 4]), PerLayer([1, 2])),
}
SELECTIONS = [("params",), ("flops",), ("params", "flops"), ("params_without_embeddings", "flops"), ()]


def random_rows(space, seed):
    generator = torch.Generator().manual_seed(seed)
    logits = {n: 2 * torch.randn(space.rows(n), len(c), generator=generator) for n, c in space.choices.items()}
    return {name: rows.double().softmax(-1) for name, rows in logits.items()}


def equal_rows(space, seed):
    """Nothing decides: all choices of a row, or of all rows but those of one dimension, have the same share."""
    rows = {name: torch.full((space.rows(name), len(c)), 1 / len(c)).double() for name, c in space.choices.items()}
    name = list(space.choices)[seed % len(space.choices)]
    return rows | ({name: random_rows(space, seed)[name]} if seed % 2 else {})


def log_probability(space, rows, arch):
    total = 0.0
    for name, choices in space.choices.items():
        values = getattr(arch, name) if name in space.per_layer else [getattr(arch, name)]
        for row, shares in enumerate(rows[name].tolist()):
            value = values[row] if row < len(values) else None
            total += math.log(max(shares) if value is None else shares[choices.index(value)])
    return total


def probability(space, rows, arch):
    per_row = ((rows[n][r, space.choices[n].index(v)].item()) for n in space.choices for r, v in
               enumerate(getattr(arch, n) if n in space.per_layer else [getattr(arch, n)]) if v is not None)  # fmt: skip
    return math.prod(per_row)


def limits_of(net, names, share):
    given = {f"max_{name}": share for name in names}
    return make_budgets(net.config, **given, sequence_length=LENGTH)


@functools.cache
def everything(name):
    """(arch, its costs, whether it is stock) of a net's whole space."""
    net = NETS[name]
    costs = [{cost: count(net, arch) for cost, count in COSTS.items()} for arch in net.space]
    standard = [net.subnet_forms(net.config, arch)["stock"] is None for arch in net.space]
    return list(zip(net.space, costs, standard, strict=True))


def enumerated(name, rows, budgets, standard_only=False, band=None):
    """(log-probability, arch) of everything within the budgets, the best first; in the band, below a lower top if need be."""
    within, net = [], NETS[name]
    for arch, every_cost, standard in everything(name):
        costs = [every_cost[budget.cost] for budget in budgets]
        if (standard or not standard_only) and all(c <= b.limit for c, b in zip(costs, budgets, strict=True)):
            within.append((costs, (log_probability(net.space, rows, arch), arch)))
    found = within
    if band is not None and budgets and within:
        reached = [max(costs) for costs in zip(*(costs for costs, _ in within), strict=True)]
        for tops in ([budget.limit for budget in budgets], reached):
            found = [e for e in within if any(cost >= band * top for cost, top in zip(e[0], tops, strict=True))]
            if found:
                break
    return sorted((entry for _, entry in found), key=lambda entry: -entry[0])


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("selection", SELECTIONS, ids="+".join)
@pytest.mark.parametrize("standard_only", [False, True])
@pytest.mark.parametrize("band", [None, 0.95])
def test_the_best_candidates_are_those_of_enumeration(name, selection, standard_only, band):
    net = NETS[name]
    for seed, share in enumerate(["40%", "55%", "75%", "100%"]):
        rows, budgets = random_rows(net.space, seed), limits_of(net, selection, share)
        wanted = enumerated(name, rows, budgets, standard_only, band)
        if not wanted:
            with pytest.raises(ValueError, match="smallest"):
                discretise(net, rows, budgets, standard_only=standard_only, band=band)
            continue
        for count in (1, 7):
            found = discretise(net, rows, budgets, count=count, standard_only=standard_only, band=band)
            assert [c.arch for c in found] == [arch for _, arch in wanted[:count]]
            for candidate, (score, arch) in zip(found, wanted, strict=False):
                assert candidate.log_probability == pytest.approx(score, abs=1e-9)
                assert candidate.costs == {budget.cost: COSTS[budget.cost](net, arch) for budget in budgets}


def test_enumeration_would_notice():
    """The budgets of the test above bind, and the band and the stock form matter."""
    net = NETS["gpt2"]
    rows, budgets = random_rows(net.space, 7), limits_of(net, ("params",), "55%")
    best = [enumerated("gpt2", rows, b, s, band)[0][1] for b, s, band in
            [((), False, None), (budgets, False, None), (budgets, False, 0.95), (budgets, True, None)]]  # fmt: skip
    assert len(set(best)) == 4


@pytest.mark.parametrize("method", ["darts", "drnas"])
def test_without_budgets_it_is_the_argmax(method):
    net = NETS["vit"]
    arch_parameters = ArchParameters(net.space, seed=3)
    (found,) = discretise(net, arch_parameters.probabilities(sampler(method)))
    assert found.arch == arch_parameters.argmax() and found.costs == {}


def random_cost(space, seed):
    """A cost that no family has: small numbers with many ties, and dimensions of a layer that multiply each other."""
    rng = random.Random(seed)
    shared = [name for name in space.choices if name not in space.per_layer and name != space.depth_name]
    entries = []
    for layer in [None, *range(space.stages * space.max_depth)]:
        own = [name for name in sorted(space.per_layer - {space.depth_name}) if (layer or 0) < space.rows(name)]
        for _ in range(2):
            pool = shared if layer is None else [*shared, *own]
            names = tuple(rng.sample(pool, rng.randint(0, len(pool))))
            values = {}
            axes = ParameterAxes((Axis(names, None),), layer)
            entries.append((axes, lambda v, values=values: values.setdefault(tuple(v.items()), rng.randint(0, 3))))
    return tabulate(space, entries)


SPACES = {
    "layers": NETS["gpt2"].space,
    "fixed heads": NETS["gpt2 fixed heads"].space,
    "stages": SearchSpace(width=[1, 2], depths=PerLayer([1, 3], rows=2), kernel=PerLayer([3, 5]), ratio=[2, 4]),
    "stages of one depth": SearchSpace(depths=PerLayer([2], rows=2), kernel=PerLayer([3, 5]), ratio=PerLayer([2, 4])),
    "edges": SearchSpace(
        normal=PerLayer(["skip", "pool", "conv"], rows=4), reduce=PerLayer(["skip", "conv"], rows=2), width=[8, 16]
    ),
}


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("widths", [(1, 2, 3), (1 << 12,) * 3])  # with and without bounds and parts
@pytest.mark.parametrize("rows", [random_rows, equal_rows])
def test_any_cost_that_adds_up_over_layers(name, seed, widths, rows, monkeypatch):
    monkeypatch.setattr("tangle_hf.budgets.best_within.WIDTHS", widths)
    space, every = SPACES[name], a_space_with_costs(name, seed)
    tables, costs = every
    net, rows = SimpleNamespace(space=space), rows(space, seed)
    scores = {arch: log_probability(space, rows, arch) for arch in costs}
    for number in (1, 2):
        for quantile, band in product((0.05, 0.4), (None, 0.95)):
            limits = [sorted(v)[int(quantile * len(v))] for v in list(zip(*costs.values(), strict=True))[:number]]
            budgets = [
                Budget(f"cost{n}", limit, table) for n, (limit, table) in enumerate(zip(limits, tables, strict=False))
            ]
            kept = [
                arch for arch, cost in costs.items() if all(c <= limit for c, limit in zip(cost, limits, strict=False))
            ]
            if not kept:
                with pytest.raises(ValueError, match="smallest"):
                    discretise(net, rows, budgets, band=band)
                continue
            if band is not None:
                reached = [max(costs[arch][n] for arch in kept) for n in range(number)]
                for tops in (limits, reached):
                    inside = [
                        arch
                        for arch in kept
                        if any(c >= band * top for c, top in zip(costs[arch], tops, strict=False))
                    ]
                    if inside:
                        break
                kept = inside
            best = sorted((scores[arch] for arch in kept), reverse=True)
            for count in (1, 5):
                found = discretise(net, rows, budgets, count=count, band=band)
                assert [c.log_probability for c in found] == pytest.approx(best[:count], abs=1e-8)
                assert len({c.arch for c in found}) == len(found) and {c.arch for c in found} <= set(kept)
                assert all(tuple(c.costs.values()) == costs[c.arch][:number] for c in found)
                assert all(scores[c.arch] == pytest.approx(c.log_probability) for c in found)


@functools.cache
def a_space_with_costs(name, seed):
    """Two random costs of a space, and what every architecture costs."""
    tables = [random_cost(SPACES[name], seed), random_cost(SPACES[name], seed + 100)]
    return tables, {arch: tuple(exact(table, arch) for table in tables) for arch in SPACES[name]}


@pytest.mark.parametrize("name", SPACES)
def test_expected_costs_are_the_mean_and_no_budget_the_argmax(name):
    space, rows = SPACES[name], random_rows(SPACES[name], 0)
    tables, costs = a_space_with_costs(name, 0)
    for table, values in zip(tables, zip(*costs.values(), strict=True), strict=True):
        mean = sum(probability(space, rows, arch) * cost for arch, cost in zip(costs, values, strict=True))
        assert expected(table, rows).item() == pytest.approx(mean, rel=1e-9)
    assert discretise(SimpleNamespace(space=space), rows)[0].arch == argmax(space, rows)


@pytest.mark.parametrize("limits", [{"max_flops": "60%"}, {"max_flops": "60%", "max_params": "70%"},
                                    {"max_flops": "80%", "max_params": "80%"}], ids=str)  # fmt: skip
@pytest.mark.parametrize("kind", ["random", "equal", "nearly equal", "start"])
def test_a_space_of_many_costs_takes_no_time(limits, kind):
    """MobileNetV3: 10^19 architectures, whose costs are nearly all different, under shares of every stage of a search."""
    config = ElasticMobileNetV3Config(space=OFA_MOBILENETV3, num_labels=1000, image_size=224)
    space, rng, budgets = config.space, random.Random(0), make_budgets(config, **limits)
    rows = equal_rows(space, 0) if kind == "equal" else random_rows(space, 0)
    if kind == "nearly equal":
        rows = {name: (1e-6 * shares).softmax(-1) for name, shares in rows.items()}
    if kind == "start":
        method = sampler("drnas")
        logits = start_on_surface(Surface(method, budgets), ArchParameters(space).logits)
        rows = {name: method.mean(values) for name, values in logits.items()}
    start = time.process_time()
    found = discretise(SimpleNamespace(space=space), rows, budgets, count=5, band=0.95)
    assert time.process_time() - start < 3 and len(found) == 5
    sample = ConstrainedSampler(space, uniform_mixture(space), budgets, [0.95 * b.limit for b in budgets]).sample
    inside = [
        arch for arch in space.neighbours(found[0].arch) if fits(arch, budgets, [0.95 * b.limit for b in budgets])
    ]
    for other in [*inside, *(sample(rng) for _ in range(20))]:
        assert log_probability(space, rows, other) <= found[0].log_probability + 1e-8


def test_shares_of_zero_are_the_last_resort():
    net = NETS["gpt2"]
    rows = {name: torch.nn.functional.one_hot(torch.full((len(r),), r.shape[1] - 1), r.shape[1]).double()
            for name, r in random_rows(net.space, 0).items()}  # fmt: skip
    (found,) = discretise(net, rows, limits_of(net, ("params",), "90%"))
    assert math.isfinite(found.log_probability)
    assert sum(a != b for a, b in zip(found.arch.mlp_ratio, net.space.largest.mlp_ratio, strict=False)) <= 1


@pytest.mark.parametrize(
    ("limits", "standard_only", "message"),
    [
        ({"max_params": 100}, False, r"max_params = 100 is below the smallest possible, 2,336"),
        ({"max_params": 2335}, True, r"stock form.*smallest possible, 2,336"),
        ({"max_params": 100, "max_flops": "100%"}, False, r"max_params = 100 is below"),
    ],
)
def test_infeasible_budgets_name_the_smallest_cost(limits, standard_only, message):
    net = NETS["gpt2"]
    assert COSTS["params"](net, net.space.smallest) == 2336
    budgets = make_budgets(net.config, **limits, sequence_length=LENGTH)
    with pytest.raises(ValueError, match=message):
        discretise(net, random_rows(net.space, 0), budgets, standard_only=standard_only)


def test_budgets_that_exclude_each_other_say_so():
    """Costs that fall with the width, so that each budget alone can be met."""
    net = NETS["gpt2"]
    (params,) = limits_of(net, ("params",), 2400)
    terms = tuple(Term(t.dimensions, t.layers, t.values.max() - t.values) for t in params.table.terms)
    falling = CostTable(net.space, terms)
    other = Budget("flops", min(exact(falling, arch) for arch in net.space), falling)
    with pytest.raises(ValueError, match="all budgets at once"):
        discretise(net, random_rows(net.space, 0), [params, other])


def test_options_out_of_range_are_named():
    net = NETS["gpt2"]
    for options in ({"count": 0}, {"band": 1.5}):
        with pytest.raises(ValueError, match=next(iter(options))):
            discretise(net, random_rows(net.space, 0), **options)


@st.composite
def problems(draw):
    """A random space of a random family, rows, and budgets that can be met."""
    family = draw(st.sampled_from(["gpt2", "vit"]))
    unit = draw(st.sampled_from([4, 8, 12]))

    def numbers(pool, most):
        return sorted(draw(st.sets(st.sampled_from(pool), min_size=1, max_size=most)))

    widths = [unit * factor for factor in numbers([2, 3, 4, 5, 7, 8], 3)]
    heads = numbers([1, 2, 4], 3)
    head_dim = draw(st.sampled_from([None, 6])) if family == "vit" else None
    heads = PerLayer(heads) if draw(st.booleans()) else heads
    ratios = numbers([0.5, 1, 1.5, 2, 3, 4], 4)
    ratios = PerLayer(ratios) if draw(st.booleans()) else ratios
    net = a_net(family, widths, numbers([1, 2, 3, 4, 6, 9], 3), heads, ratios, head_dim)
    names = draw(st.sampled_from(SELECTIONS[:-1]))
    tight = draw(st.floats(0, 1))
    limits = {}
    for name in names:
        least, most = (COSTS[name](net, arch) for arch in (net.space.smallest, net.space.largest))
        limits[f"max_{name}"] = math.ceil(least + tight * (most - least))
    budgets = make_budgets(net.config, **limits, sequence_length=LENGTH)
    return net, random_rows(net.space, draw(st.integers(0, 10**6))), budgets, draw(st.integers(0, 10**6))


@given(problems(), st.booleans())
@settings(max_examples=80, deadline=None, derandomize=True, database=None)
def test_no_sampled_architecture_within_the_budgets_is_better(problem, standard_only):
    net, rows, budgets, seed = problem
    try:
        found = discretise(net, rows, budgets, count=3, standard_only=standard_only)
    except ValueError:
        assert standard_only  # GPT-2's heads may fill no width; the smallest net keeps to every budget
        return
    for candidate in found:
        net.space.validate(candidate.arch)
        assert candidate.log_probability == pytest.approx(log_probability(net.space, rows, candidate.arch), abs=1e-9)
        assert not standard_only or net.subnet_forms(net.config, candidate.arch)["stock"] is None
        for budget in budgets:
            assert candidate.costs[budget.cost] == COSTS[budget.cost](net, candidate.arch) <= budget.limit
    best = found[0]
    rng = random.Random(seed)
    for arch in [*net.space.neighbours(best.arch), *(net.space.sample(rng) for _ in range(60))]:
        standard = net.subnet_forms(net.config, arch)["stock"] is None
        if (standard or not standard_only) and all(COSTS[b.cost](net, arch) <= b.limit for b in budgets):
            assert log_probability(net.space, rows, arch) <= best.log_probability + 1e-9


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", NETS)
def test_the_likeliest_net_of_every_shape_is_the_best_of_those_that_use_what_the_shape_can(name, seed):
    net, rows = NETS[name], random_rows(NETS[name].space, seed)
    (budget,) = limits_of(net, ["params"], "90%")
    whole = [dimension for dimension in net.space.choices if dimension not in net.space.per_layer]
    shapes = {}
    for arch, costs, _ in everything(name):
        if costs["params"] <= budget.limit:
            shapes.setdefault(tuple(getattr(arch, dimension) for dimension in whole), []).append(
                (costs["params"], arch)
            )
    expected = []
    for archs in shapes.values():
        largest = max(cost for cost, _ in archs)
        if largest >= 0.6 * budget.limit:
            expected.append(
                max(log_probability(net.space, rows, arch) for cost, arch in archs if cost >= 0.95 * largest)
            )
    found = likeliest_of_each_shape(net.space, rows, [budget], 0.95, 0.6)
    assert [log_probability(net.space, rows, candidate.arch) for candidate in found] == pytest.approx(
        sorted(expected, reverse=True)
    ) and expected
