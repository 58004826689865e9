"""What a compression tries: sensitivities, their exact optimum within a budget, cuts by hand, a search on frozen weights."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from test_two_stage import settings, supernet
from worker import Blocks

from tangle_hf import PerLayer, SearchSpace
from tangle_hf.compress.candidates import GRADIENT, OPTIMUM, UNIFORM, candidates, evenness, units_of_layers
from tangle_hf.compress.frozen_search import search_frozen
from tangle_hf.compress.plan import (
    Plan,
    absorbing_cost,
    first_round,
    fitting,
    plan_choice,
    rounds,
    sensitivity_cost,
    wasted,
)
from tangle_hf.compress.sensitivities import predicted_rise, preferences, sensitivities
from tangle_hf.cost.tables import exact
from tangle_hf.search import Limits
from tangle_hf.search.distillation import Teacher
from tangle_hf.search.finalists.candidates import HAND_CUT
from tangle_hf.search.search_cost import SearchCost


SPACE = SearchSpace(n_embd=[16], n_layer=[1, 2], n_head=PerLayer([1, 2]), mlp_ratio=PerLayer([0.5, 1, 1.5, 2, 2.5, 3]))


@pytest.fixture(scope="module")
def net():
    return supernet(SPACE, head_dim=8)


def weighted(arch):
    """A loss that adds up over choices, convex in the ratio, and dearer in the first layer."""
    ratios = sum((3 - ratio) ** 2 * (2 - layer) for layer, ratio in enumerate(arch.mlp_ratio) if ratio is not None)
    heads = sum(0.3 * (2 - heads) for heads in arch.n_head if heads is not None)
    return 5 + ratios + heads + 4 * (2 - arch.n_layer)


def test_a_sensitivity_is_the_rise_of_the_loss_by_one_choice_alone():
    tried = []
    rises = sensitivities(SPACE, lambda arch: tried.append(arch) or weighted(arch), progress=False)
    assert rises["n_head"].tolist() == [[pytest.approx(0.3), 0], [pytest.approx(0.3), 0]]
    assert rises["n_layer"].tolist() == [[pytest.approx(4), 0]] and not rises["n_embd"].any()
    # Every other ratio is run, and the first; in between is the mean of the neighbours.
    run = {arch.mlp_ratio[1] for arch in tried if arch.n_layer == 2}
    assert run == {0.5, 1, 2, 3}
    assert rises["mlp_ratio"][1].tolist() == pytest.approx([6.25, 4, (4 + 1) / 2, 1, 0.5, 0])
    assert rises["mlp_ratio"][0].tolist() == pytest.approx([12.5, 8, 5, 2, 1, 0])


@pytest.mark.parametrize("share", ["60%", "75%", "90%"])
def test_the_optimum_of_sensitivities_is_that_of_all_nets_within_the_budget(net, share):
    chosen = settings(max_params_without_embeddings=share, finalists=2)
    limits = Limits.of(chosen, net)
    (budget,) = limits.budgets
    rises = {
        name: torch.rand(SPACE.rows(name), len(choices), generator=torch.Generator().manual_seed(len(name)))
        .double()
        .cumsum(-1)
        .flip(-1)
        for name, choices in SPACE.choices.items()
    }
    rises = {name: rows - rows[:, -1:] for name, rows in rises.items()}
    found = candidates(net, rises, None, chosen, limits, most_cuts=1)
    optimum = next(f.arch for f in found if f.origin == OPTIMUM or f.origin == UNIFORM)
    inside = [arch for arch in SPACE if 0.95 * budget.limit <= exact(budget.table, arch) <= budget.limit]
    inside = [arch for arch in inside if arch.depth == found[0].arch.depth]
    best = min(inside, key=lambda arch: predicted_rise(SPACE, rises, arch))
    archs = [f.arch for f in found]
    assert best in archs, (best, optimum)
    assert all(exact(budget.table, arch) <= budget.limit for arch in archs)


def test_the_shares_of_preferences_order_choices_as_their_rises_do():
    rises = sensitivities(SPACE, weighted, progress=False)
    shares = preferences(SPACE, rises, 2)
    assert shares["n_layer"][0].log().tolist() == pytest.approx([-600, 0])
    del rises["n_layer"]
    assert all(torch.isfinite(rows.log()).all() for rows in shares.values()), "a choice could never be taken"
    for name, rows in rises.items():
        slope = (shares[name].log() - shares[name].log()[:, -1:]) / -rows.clamp_min(1e-9)
        assert slope[rows > 0].std() < 1e-6 * slope[rows > 0].mean() if (rows > 0).sum() > 1 else True


def test_the_uniform_cut_and_the_most_promising_cuts_by_hand_are_tried(net):
    chosen = settings(max_params_without_embeddings="60%", finalists=2)
    limits, rises = Limits.of(chosen, net), sensitivities(SPACE, weighted, progress=False)
    shares = {name: torch.full((SPACE.rows(name), len(c)), 1 / len(c)) for name, c in SPACE.choices.items()}
    found = candidates(net, rises, shares, chosen, limits, most_cuts=3)
    origins = [finalist.origin for finalist in found]
    assert origins.count(UNIFORM) == 1 and origins.count(HAND_CUT) <= 2
    assert {finalist.arch.n_layer for finalist in found} == {2}, "a shallower net would win a short comparison"
    assert origins.count(OPTIMUM) == 1 and origins.count(GRADIENT) == 1
    assert len({finalist.arch for finalist in found}) == len(found)
    uniform = next(f.arch for f in found if f.origin == UNIFORM)
    cuts = [f.arch for f in found if f.origin == HAND_CUT]
    units = units_of_layers(net.config)
    assert (
        all(evenness(SPACE, units, uniform) >= evenness(SPACE, units, arch) for arch in cuts) and uniform.n_layer == 2
    )


def test_a_search_on_the_frozen_checkpoint_moves_shares_and_no_weight(net):
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    chosen = settings(max_params_without_embeddings="60%", start_from="x", teacher_share=1.0)
    limits, cost = Limits.of(chosen, net), SearchCost(net, 4, 8)
    arguments = (Accelerator(cpu=True), limits, cost, Teacher(net))
    shares = search_frozen(net, Blocks(), chosen, 4, *arguments)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    again = search_frozen(net, Blocks(), chosen, 4, *arguments)
    first = search_frozen(net, Blocks(), chosen, 1, *arguments)
    assert all(torch.equal(rows, again[name]) for name, rows in shares.items())
    assert any(not torch.equal(rows, first[name]) for name, rows in shares.items())
    assert cost.spent == pytest.approx(9 * (2 / 3 + 1 / 3))


@pytest.mark.parametrize("count", range(1, 9))
def test_rounds_halve_nets_and_only_those_that_end_are_wasted(count):
    alive, spent = count, 0
    for until in rounds(count, 10):
        going_on = -(-alive // 2)
        spent, alive = spent + (alive - going_on) * until, going_on
    assert alive == 1 and spent == wasted(count, 10)


def test_a_choice_costs_what_it_is_allowed_and_the_uniform_cut_is_taken_where_that_is_too_little(net):
    cost = SearchCost(net, 8, 8)
    short = plan_choice(SPACE, cost, 0.9, 1, 60, 0.1, 64, 16, shallower=False, biases=0)
    assert short == Plan(None, 0, 0.0, 0)
    for share, most in ((0.1, 32), (0.3, 64)):
        plan = plan_choice(SPACE, cost, 0.9, 1, 400, share, 64, 64, shallower=False, biases=0)
        spent = sensitivity_cost(SPACE, cost, plan.sensitive)
        assert plan.ranked is None and plan.sensitive == most and spent <= share * 0.9 * 400 / 2
        count = fitting(8, 400, 0.9, plan.rivals)
        assert count >= 2 and 0.9 * wasted(count, first_round(400)) + spent <= share * 0.9 * 400
        ranked = plan_choice(SPACE, cost, 0.9, 1, 400, share, 64, 64, shallower=True, biases=0)
        assert ranked == replace(plan, ranked=64)
    few = plan_choice(SPACE, cost, 0.9, 1, 10, 0.1, 64, 16, shallower=True, biases=6)
    assert few == Plan(0, 0, 0.0, 0), "by block influence, and no means"


@pytest.mark.parametrize(("steps", "expected"), [(100, 0), (200, 4), (400, 8), (4000, 16)])
def test_means_are_absorbed_on_as_many_examples_as_a_fiftieth_of_the_recovery_pays_for(net, steps, expected):
    cost = SearchCost(net, 8, 8)
    plan = plan_choice(SPACE, cost, 0.9, 1, steps, 0.0, 64, 16, shallower=False, biases=15)
    assert plan == Plan(None, 0, 0.0, expected)
    if expected:
        assert absorbing_cost(SPACE, cost, 15, expected) <= 0.9 * steps / 50
