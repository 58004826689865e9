"""Finalists: who they are, that their training resumes exactly, and that the best one wins."""

import json
import math
import random
import signal
from statistics import mean
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from test_two_stage import WIDE, settings, supernet
from worker import Blocks

from tangle_hf import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    PerLayer,
    SearchSpace,
    extract,
    num_params,
)
from tangle_hf.arch_parameters import uniform_mixture
from tangle_hf.budgets.equal_cost import largest_hand_cuts
from tangle_hf.budgets.limits import make_budgets
from tangle_hf.cost.tables import exact
from tangle_hf.evaluation import perplexity
from tangle_hf.runs.finalists import _say_what_is_missing
from tangle_hf.search import Limits, SearchArguments
from tangle_hf.search.finalists.candidates import (
    BOTH,
    HAND_CUT,
    RANDOM,
    SEARCH,
    Finalist,
    choose_finalists,
    distance,
    likely_nets,
    spread,
)
from tangle_hf.search.finalists.halving import halve, round_steps
from tangle_hf.search.finalists.short_training import ShortTraining
from tangle_hf.search.search_cost import SearchCost


@pytest.fixture(scope="module")
def wide():
    return supernet(WIDE)


def limited(net, **options):
    chosen = settings(**{"max_params": "60%", **options})
    return chosen, Limits.of(chosen, net, 8)


NETS = list(dict.fromkeys(WIDE.sample(random.Random(number)) for number in range(20)))


def some(count):
    return [Finalist(arch, SEARCH) for arch in NETS[:count]]


def test_every_net_with_equal_layers_that_uses_the_budget_is_a_finalist(wide):
    chosen, limits = limited(wide, random_finalists=3, max_params="40%")
    budget = make_budgets(wide.config, max_params="40%")[0]
    fitting = [arch for arch in WIDE.equal_layers(n_head=[4]) if exact(budget.table, arch) <= budget.limit]
    sizes = {arch: (arch.n_embd, arch.n_layer, arch.mlp_ratio[0]) for arch in fitting}  # no size depends on the heads
    cuts = {arch for arch in fitting if exact(budget.table, arch) >= 0.95 * budget.limit}
    assert cuts
    largest = {
        arch
        for arch in fitting
        if not any(
            arch != other and all(a <= b for a, b in zip(sizes[arch], sizes[other], strict=True)) for other in fitting
        )
    }
    largest = {arch for arch in largest if exact(budget.table, arch) >= 0.8 * budget.limit}
    assert largest - cuts, "a person also gets nets that use less"
    cuts |= largest
    proposed = likely_nets(wide, uniform_mixture(WIDE), chosen, limits)
    found = choose_finalists(wide, proposed, chosen, limits)
    assert len({finalist.arch for finalist in found}) == len(found)
    assert cuts <= {finalist.arch for finalist in found}
    assert all(exact(budget.table, finalist.arch) <= budget.limit for finalist in found)
    assert all(exact(budget.table, f.arch) >= 0.95 * budget.limit for f in found if HAND_CUT not in f.origin)
    count = {origin: sum(f.origin == origin for f in found) for origin in (SEARCH, HAND_CUT, RANDOM)}
    both = [finalist for finalist in found if finalist.origin == BOTH]
    assert count[SEARCH] + len(both) == chosen.proposed_finalists == 4 and {finalist.arch for finalist in both} <= cuts
    assert {finalist.arch for finalist in found if HAND_CUT in finalist.origin} == cuts
    assert count[RANDOM] == 3
    assert choose_finalists(wide, [next(iter(cuts)), *proposed], chosen, limits)[0].origin == BOTH
    assert found[0].arch == proposed[0]


def test_the_largest_cuts_by_hand_cannot_take_one_choice_more():
    space = SearchSpace(n_embd=[*range(16, 64, 4)], n_layer=[1, 2, 3, 4], n_head=[2], mlp_ratio=[1, 2, 3, 4])
    (budget,) = make_budgets(ElasticGPT2Config(space=space, vocab_size=40, n_positions=8), max_params="50%")
    fitting = [arch for arch in space if exact(budget.table, arch) <= budget.limit]

    def larger(a, b):
        return a != b and all(x <= y for x, y in zip(a.to_dict().values(), b.to_dict().values(), strict=True))

    used = [arch for arch in fitting if exact(budget.table, arch) >= 0.8 * budget.limit]
    found = largest_hand_cuts(space, [budget])
    assert set(found) == {arch for arch in used if not any(larger(arch, other) for other in fitting)}
    assert 3 < len(found) < len(used)


def test_with_standard_only_all_finalists_are_stock(wide):
    space = SearchSpace(n_embd=[16, 24], n_layer=[2, 3], n_head=PerLayer([2, 3]), mlp_ratio=PerLayer([1, 2, 4]))
    net = supernet(space, head_dim=8)  # stock nets have a head for every 8 units
    cuts = choose_finalists(net, [], *limited(net, max_params="90%"))
    assert not all(net.subnet_forms(net.config, finalist.arch)["stock"] is None for finalist in cuts)
    chosen, limits = limited(net, standard_only=True, random_finalists=2, max_params="90%")
    proposed = likely_nets(net, uniform_mixture(net.space), chosen, limits)
    found = choose_finalists(net, proposed, chosen, limits)
    assert len(found) > 1
    assert all(net.subnet_forms(net.config, finalist.arch)["stock"] is None for finalist in found)


def test_a_spread_is_the_first_and_what_differs_most():
    first = WIDE.architecture(n_embd=32, n_layer=3, n_head=2, mlp_ratio=1)
    near = first.replace(n_head=(4, 2, 2))
    far = WIDE.architecture(n_embd=16, n_layer=4, n_head=4, mlp_ratio=4)
    middle = WIDE.architecture(n_embd=32, n_layer=3, n_head=4, mlp_ratio=2)
    assert distance(first, near) == 1 and distance(first, first) == 0
    assert distance(first, far) == 1 + 1 + 4 + 4  # width, depth, and every row of the layers of the deeper one
    assert spread([first, near, middle, far], 3) == [first, far, middle]
    assert spread([first, first, near], 5) == [first, near]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, []), (2, [40]), (3, [20, 40]), (5, [10, 20, 40]), (60, [10, 20, 40])]
)
def test_rounds_double_in_length(count, expected):
    assert round_steps(count, 40) == expected


def test_no_round_is_shorter_than_a_step_and_none_is_made_twice():
    assert round_steps(9, 1) == [1] and round_steps(9, 2) == [1, 2]


def decide(folder, net, finalists, score=None, **options):
    folder.mkdir(exist_ok=True)
    chosen = settings(folder, **{"max_steps": 20, "finalist_ratio": 0.4, "max_params": "60%", **options})
    cost = SearchCost(net, chosen.per_device_batch_size, 8)
    score = score or (lambda model: perplexity(model, Blocks(30), 8)["loss"])
    return halve(net, finalists, Blocks(), score, 30, chosen, Accelerator(cpu=True), cost)


def by_size(model):
    """A loss that knows the best net: that with the fewest parameters."""
    return float(model.num_parameters())


def test_the_best_net_wins_and_the_worse_half_ends_in_each_round(tmp_path, wide):
    finalists = some(7)
    sizes = {f: num_params(WIDE, f.arch, wide.config) for f in finalists}
    decision = decide(tmp_path, wide, finalists, by_size)
    assert decision.steps == [2, 4, 8] and decision.ranked == sorted(finalists, key=sizes.get)
    assert [len(losses) for losses in decision.losses] == [3, 3, 2, 2, 1, 1, 1]
    assert [losses[-1] for losses in decision.losses] == sorted(sizes.values())
    assert decision.noise == 0  # this loss knows no seed
    lines = [json.loads(line) for line in (tmp_path / "finalists.jsonl").read_text().splitlines()]
    assert [(line["steps"], line["seed"]) for line in lines] == [(2, 0)] * 7 + [(4, 0)] * 4 + [(8, 0)] * 2 + [
        (8, 1)
    ] * 2
    assert not (tmp_path / "finalists").exists(), "a training that has ended leaves nothing to go on from"


def test_other_seeds_are_for_the_best_two_of_the_last_round(tmp_path, wide):
    decide(tmp_path, wide, some(9), by_size, finalist_seeds=3)
    lines = [json.loads(line) for line in (tmp_path / "finalists.jsonl").read_text().splitlines()]
    assert [line["seed"] for line in lines if line["steps"] == 8] == [0, 0, 0, 1, 1, 2, 2]


def test_what_finalists_cost_is_their_share_of_the_largest_net(tmp_path, wide):
    finalists = [Finalist(WIDE.largest.replace(n_embd=width), SEARCH) for width in (16, 32, 48)]
    decision = decide(tmp_path, wide, finalists, by_size)
    assert decision.steps == [4, 8]
    spent = SearchCost(wide, 4, 8)
    for finalist, seeds in zip(finalists, (2, 2, 0), strict=True):  # the largest ends after the first round
        spent.add_weight_step(finalist.arch, 4)
        spent.add_evaluation(finalist.arch, 30)
        if seeds:
            spent.add_weight_step(finalist.arch, 4 + 8)
            spent.add_evaluation(finalist.arch, 30 + 30)
    assert decision.cost == pytest.approx(spent.spent)
    assert decide(tmp_path / "one", wide, finalists, by_size, finalist_seeds=1).noise is None


def test_with_one_finalist_nothing_is_trained(tmp_path, wide):
    decision = decide(tmp_path, wide, [Finalist(WIDE.largest, SEARCH)], score=None)
    assert decision.ranked == [Finalist(WIDE.largest, SEARCH)] and decision.losses == [[]] and decision.cost == 0


def dropping(space):
    """A supernet whose nets draw random numbers in every step."""
    torch.manual_seed(0)
    return ElasticGPT2LMHeadModel(ElasticGPT2Config(space=space, vocab_size=40, n_positions=8, resid_pdrop=0.2))


@pytest.mark.parametrize("start", ["new", "supernet"])
def test_a_training_in_legs_is_the_training_in_one_go(tmp_path, start):
    net, arch = dropping(WIDE), NETS[0]
    chosen = settings(tmp_path, max_steps=9, finalist_start=start, warmup_steps=2, gradient_accumulation_steps=2)

    def training(folder):
        return ShortTraining(net, Blocks(), chosen, Accelerator(cpu=True), 6, tmp_path / folder)

    whole = training("whole").train(arch, 3, 6)
    for steps in (2, 5, 6):
        torch.rand(7)  # what else happens meanwhile changes nothing
        parts = training("legs").train(arch, 3, steps)
        assert len(list((tmp_path / "legs").glob("*.pt"))) == 1
    assert all(
        torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True)
    )
    other = training("other").train(arch, 4, 6)
    assert any(
        not torch.equal(a, b) for a, b in zip(whole.state_dict().values(), other.state_dict().values(), strict=True)
    )


def test_a_short_training_is_plain_steps(tmp_path):
    """By hand: the slices of the supernet, two micro-batches in the order of the seed, gradient descent."""
    net, arch = supernet(WIDE), NETS[1]
    plain = {"optimizer": "sgd", "sgd_momentum": 0.0, "weight_decay": 0.0, "max_grad_norm": 0.0, "learning_rate": 0.1}
    chosen = settings(tmp_path, max_steps=3, finalist_start="supernet", gradient_accumulation_steps=2,
                      min_learning_rate=0.1, **plain)  # fmt: skip
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    trained = ShortTraining(net, Blocks(), chosen, Accelerator(cpu=True), 3, tmp_path / "f").train(arch, 5, 3)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    model = extract(net, arch).train()
    order = torch.randperm(50, generator=torch.Generator().manual_seed(5))
    for step in range(3):
        for micro in (2 * step, 2 * step + 1):
            rows = [Blocks()[int(index)] for index in order[4 * micro : 4 * micro + 4]]
            (model(**{name: torch.stack([row[name] for row in rows]) for name in rows[0]}).loss / 2).backward()
        with torch.no_grad():
            for weight in model.parameters():
                weight -= 0.1 * weight.grad
                weight.grad = None
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(trained.state_dict()[name], tensor, msg=name)


def test_an_interrupted_halving_ends_as_if_it_never_was(tmp_path, wide):
    finalists = some(5)
    whole = decide(tmp_path / "whole", wide, finalists)
    assert len({losses[-1] for losses in whole.losses}) == 5 and whole.noise > 0
    for stop in (2, 6, 8):
        scored = []

        def score(model, stop=stop, scored=scored):
            scored.append(model)
            if len(scored) == stop:
                raise KeyboardInterrupt
            return perplexity(model, Blocks(30), 8)["loss"]

        folder = tmp_path / f"broken-{stop}"
        with pytest.raises(KeyboardInterrupt):
            decide(folder, wide, finalists, score)
        again = decide(folder, wide, finalists, score, resume=True)
        assert again == whole
        lines = [(run / "finalists.jsonl").read_text() for run in (tmp_path / "whole", folder)]
        assert lines[0] == lines[1] and len(scored) == len(lines[0].splitlines()) + 1


def test_a_halving_that_is_asked_to_stop_stops_and_goes_on(tmp_path, wide):
    finalists, scored = some(3), []

    def score(model):
        scored.append(model)
        if len(scored) == 2:
            signal.raise_signal(signal.SIGTERM)
        return by_size(model)

    assert decide(tmp_path / "run", wide, finalists, score) is None and len(scored) == 2
    again = decide(tmp_path / "run", wide, finalists, score, resume=True)
    assert again == decide(tmp_path / "whole", wide, finalists, by_size) and len(scored) == 3 + 4


def test_a_new_run_does_not_take_what_another_left(tmp_path, wide):
    finalists = some(2)
    decide(tmp_path, wide, finalists, by_size)
    asked = []
    decide(tmp_path, wide, finalists, lambda model: asked.append(model) or 0.0)
    assert len(asked) == 4


def test_a_net_whose_training_diverges_is_last(tmp_path, wide):
    finalists = some(4)
    broken = by_size(ShortTraining(wide, Blocks(), settings(tmp_path), Accelerator(cpu=True), 1, tmp_path).train(
        finalists[0].arch, 0, 1))  # fmt: skip
    score = lambda model: math.nan if by_size(model) == broken else by_size(model)  # noqa: E731
    decision = decide(tmp_path, wide, finalists, score)
    assert decision.ranked[-1] == finalists[0] and decision.losses[-1] == [None]
    assert "NaN" not in (tmp_path / "finalists.jsonl").read_text()
    with pytest.raises(FloatingPointError, match="of all finalists diverged"):
        decide(tmp_path, wide, finalists, lambda model: math.inf)


def test_the_winner_is_the_best_by_the_mean_over_seeds(tmp_path, wide):
    finalists = some(2)
    scores = iter([1.0, 2.0, 4.0, 2.0])  # the first net is better with the first seed only
    decision = decide(tmp_path, wide, finalists, lambda model: next(scores))
    assert decision.ranked == finalists[::-1] and decision.losses == [[2.0], [2.5]]
    spreads = [0.0, math.sqrt(((1 - 2.5) ** 2 + (4 - 2.5) ** 2) / 1)]
    assert decision.noise == pytest.approx(math.sqrt(mean(s**2 for s in spreads) / 2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"finalists": 3}, "would have no effect without a budget"),
        ({"random_finalists": 1}, "would have no effect without a budget"),
        ({"pareto": "params", "finalists": 3}, "a front has no finalists"),
        ({"max_params": "50%", "finalists": -1}, "finalists=-1 must be at least 0"),
        ({"max_params": "50%", "finalist_ratio": 1.5}, "a short training is not longer than the search"),
        ({"max_params": "50%", "finalist_ratio": 0.0}, "finalist_ratio=0.0 must be above 0"),
        ({"max_params": "50%", "finalist_start": "old"}, "choose one of"),
        ({"max_params": "50%", "finalist_seeds": 0}, "finalist_seeds=0 must be at least 1"),
        ({"max_params": "50%", "finalists": 0, "random_finalists": 2}, "would have no effect: finalists is 0"),
    ],
)
def test_finalists_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SearchArguments(**options)


def test_there_are_finalists_by_default_where_there_is_a_budget_and_one_net():
    assert SearchArguments().proposed_finalists == 0
    assert SearchArguments(max_params="50%").proposed_finalists == 4
    assert SearchArguments(max_params="50%", finalists=0).proposed_finalists == 0
    assert SearchArguments(pareto="params").proposed_finalists == 0


def test_what_is_missing_is_said(capsys):
    _say_what_is_missing(some(2), SearchArguments(max_params="50%", random_finalists=1))
    assert capsys.readouterr().out.splitlines() == [
        "the search proposes 2 different nets that use the budget, fewer than 4",
        "0 other nets use the budget, fewer than random_finalists=1",
        "no net with equal layers uses the budget, so that there is no cut by hand to compare with",
    ]


def test_sharded_weights_are_refused(wide, tmp_path, monkeypatch):
    fsdp = SimpleNamespace(distributed_type=DistributedType.FSDP)
    with pytest.raises(ValueError, match="which needs whole weights"):
        halve(wide, [], Blocks(), by_size, 30, settings(tmp_path, max_params="60%"), fsdp, None)
