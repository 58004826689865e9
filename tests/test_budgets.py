"""Budgets: amounts as they are written, counts without embeddings, and tables that equal the exact costs."""

import random

import pytest

from tangle_hf import ElasticGPT2Config, ElasticViTConfig, PerLayer, SearchSpace, flops, num_params
from tangle_hf.budgets.limits import make_budgets, parse_amount
from tangle_hf.cost.tables import exact, tabulate


SPACE = SearchSpace(n_embd=[16, 32], n_layer=[1, 2, 3], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2]))
CONFIG = ElasticGPT2Config(space=SPACE, vocab_size=50, n_positions=8)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("20M", 20_000_000),
        ("1.5G", 1_500_000_000),
        ("1.1 b", 1_100_000_000),
        ("0.3k", 300),
        ("2T", 2 * 10**12),
        ("300_000", 300_000),
        (12345, 12345),
        ("50%", 500),
        ("33.3 %", 333),
        ("100%", 1001),
    ],
)
def test_amounts(text, limit):
    assert parse_amount(text, 1001) == limit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("twenty", "'twenty' is not a budget.*20M.*50%"),
        ("-5M", "not a budget"),
        ("5X", "not a budget"),
        ("", "not a budget"),
        ("150%", "at most 100%"),
        ("0", "at least 1"),
        ("0.0001%", "at least 1"),
    ],
)
def test_what_is_no_amount_says_what_is(text, message):
    with pytest.raises(ValueError, match=message):
        parse_amount(text, 1001)


def test_budgets_name_their_cost_and_refuse_text_without_a_length():
    params, bare, work = make_budgets(
        CONFIG, max_params="50%", max_params_without_embeddings="30k", max_flops="1M", sequence_length=8
    )
    assert (params.cost, bare.cost, work.cost) == ("params", "params_without_embeddings", "flops")
    assert params.limit == num_params(SPACE, SPACE.largest, CONFIG) // 2 and bare.limit == 30_000
    with pytest.raises(ValueError, match="max_flops: 'much' is not a budget"):
        make_budgets(CONFIG, max_flops="much", sequence_length=8)
    with pytest.raises(ValueError, match="sequence_length"):
        make_budgets(CONFIG, max_flops="1M")
    vit = ElasticViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=8,
                           patch_size=4)  # fmt: skip
    assert make_budgets(vit, max_flops="100%")[0].limit == flops(vit.space, vit.space.largest, vit)


def test_tables_hold_the_exact_costs():
    rng = random.Random(0)
    budgets = make_budgets(CONFIG, max_params=1, max_params_without_embeddings=1, max_flops=1, sequence_length=8)
    for arch in [SPACE.largest, *(SPACE.sample(rng) for _ in range(30))]:
        assert [exact(budget.table, arch) for budget in budgets] == [
            num_params(SPACE, arch, CONFIG),
            num_params(SPACE, arch, CONFIG, embeddings=False),
            flops(SPACE, arch, CONFIG, sequence_length=8),
        ]


def test_a_cost_that_does_not_add_up_over_layers_is_refused():
    from tangle_hf.axes import Axis, ParameterAxes

    for name in ("n_layer", "n_head"):
        entry = ParameterAxes((Axis((name,), lambda value: ((4, slice(value)),)),))
        with pytest.raises(ValueError, match="outside the layers"):
            tabulate(SPACE, [(entry, lambda values: 1)])
