"""Finalists: who they are, that their training resumes exactly, and that the best one wins."""

import json
import math
import random
import signal
from itertools import permutations
from statistics import mean
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
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
from tangle_hf.runs.finalists import missing, train_finalists
from tangle_hf.search import Limits, SearchArguments
from tangle_hf.search.finalists.candidates import (
    BOTH,
    HAND_CUT,
    RANDOM,
    SEARCH,
    Finalist,
    choose_finalists,
    differing,
    distance,
    layers,
    likely_nets,
)
from tangle_hf.search.finalists.halving import halve, round_steps, steps_in_all, survivors
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
    proposed = sorted(likely_nets(wide, uniform_mixture(WIDE), chosen, limits), key=layers)
    assert proposed[0].depth <= min(cut.depth for cut in cuts)
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
    depths = {cut.depth for cut in cuts}
    deep = next(arch for arch in proposed if arch.depth == max(depths))
    assert min(depths) < deep.depth, "some cuts are shallower than this choice"
    deepest = choose_finalists(wide, [deep, *proposed], chosen, limits)
    assert all(finalist.arch.depth >= deep.depth for finalist in deepest)
    assert {f.arch for f in deepest if HAND_CUT in f.origin} == {cut for cut in cuts if cut.depth == deep.depth}
    assert sum(f.origin == RANDOM for f in deepest) == 3


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


def test_what_is_proposed_has_every_shape_in_order_and_then_what_differs_most():
    first = WIDE.architecture(n_embd=32, n_layer=3, n_head=2, mlp_ratio=1)
    near = first.replace(n_head=(4, 2, 2))
    middle = WIDE.architecture(n_embd=32, n_layer=3, n_head=4, mlp_ratio=2)
    wide = WIDE.architecture(n_embd=32, n_layer=4, n_head=2, mlp_ratio=1)
    far = WIDE.architecture(n_embd=16, n_layer=4, n_head=4, mlp_ratio=4)
    assert distance(first, near) == 1 and distance(first, first) == 0
    assert distance(first, far) == 1 + 1 + 4 + 4  # width, depth, and every row of the layers of the deeper one
    pool = [first, near, middle, wide, far]
    assert differing(WIDE, pool, 2) == [first, wide]
    assert differing(WIDE, pool, 4) == [first, wide, far, middle]
    assert differing(WIDE, pool, 9) == [first, wide, far, middle, near]
    assert differing(WIDE, [first, first, near], 5) == [first, near] and differing(WIDE, pool, 0) == []
    of_layers = SearchSpace(operation=PerLayer(["a", "b"], rows=3))
    pool = [of_layers.architecture(operation=tuple(values)) for values in ("aaa", "aab", "abb", "bbb")]
    assert differing(of_layers, pool, 3) == [pool[0], pool[3], pool[1]]


@pytest.mark.parametrize(("count", "expected"), [(1, []), (2, [40]), (3, [20, 40]), (60, [20, 40])])
def test_the_first_round_is_half_as_long(count, expected):
    assert round_steps(count, 40) == expected


def test_no_round_is_shorter_than_a_step_and_none_is_made_twice():
    assert round_steps(9, 1) == [1] and round_steps(9, 3) == [2, 3]


def decide(folder, net, finalists, score=None, keep=(), **options):
    folder.mkdir(exist_ok=True)
    chosen = settings(folder, **{"max_steps": 20, "finalist_ratio": 0.4, "max_params": "60%", **options})
    cost = SearchCost(net, chosen.per_device_batch_size, 8)
    score = score or (lambda model: perplexity(model, Blocks(30), 8)["loss"])
    return halve(net, finalists, Blocks(), score, 30, chosen, Accelerator(cpu=True), cost, keep)


def by_size(model):
    """A loss that knows the best net: that with the fewest parameters."""
    return float(model.num_parameters())


def by_parameters(finalists):
    """From the best to the worst, as `by_size` has it."""
    config = ElasticGPT2Config(space=WIDE, vocab_size=40, n_positions=8)
    return sorted(finalists, key=lambda finalist: num_params(WIDE, finalist.arch, config))


def by_hand(finalist):
    return Finalist(finalist.arch, HAND_CUT)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "finalists.jsonl").read_text().splitlines()]


def test_who_goes_on_after_a_round():
    a, b, c, choice, e, f = some(6)
    cut, other = by_hand(e), by_hand(f)
    assert survivors([a, b, c, choice], choice) == [a, b, choice]
    assert survivors([a, choice, b, c], choice) == [a, choice]
    assert survivors([a, b, c, cut, choice, other], choice) == [a, b, cut, choice]
    assert survivors([cut, other, choice, a], choice) == [cut, other, choice]
    both = Finalist(choice.arch, BOTH)
    assert survivors([a, b, both, cut], both) == [a, b, both]


def test_the_best_net_wins_and_the_choice_and_the_best_cut_by_hand_are_trained_as_often(tmp_path, wide):
    best, second, third, fourth, choice, cut, worst = by_parameters(some(7))
    cut, worst = by_hand(cut), by_hand(worst)
    decision = decide(tmp_path, wide, [choice, worst, fourth, third, second, best, cut], by_size)
    assert decision.steps == [4, 8] and decision.seeded == 4
    assert decision.ranked == [best, second, choice, cut, third, fourth, worst]
    assert [len(losses) for losses in decision.losses] == [2, 2, 2, 2, 1, 1, 1]
    sizes = [num_params(WIDE, finalist.arch, wide.config) for finalist in decision.ranked]
    assert [losses[-1] for losses in decision.losses] == sizes
    assert decision.noise == 0  # this loss knows no seed
    lines = lines_of(tmp_path)
    assert [(line["steps"], line["seed"]) for line in lines] == [(4, 0)] * 7 + [(8, 0)] * 4 + [(8, 1)] * 4
    assert not (tmp_path / "finalists").exists(), "a training that has ended leaves nothing to go on from"


def test_a_rival_in_a_close_race_has_all_seeds(tmp_path, wide):
    choice, rival, other = by_parameters(some(3))
    decision = decide(tmp_path, wide, [choice, rival, other], by_size, finalist_seeds=3)
    assert decision.ranked == [choice, rival, other] and decision.seeded == 2
    lines = [(line["steps"], line["seed"]) for line in lines_of(tmp_path)]
    assert lines == [(4, 0)] * 3 + [(8, 0)] * 2 + [(8, 1)] * 2 + [(8, 2)] * 2


def test_all_seeds_are_for_those_that_may_be_taken(tmp_path, wide):
    finalists = by_parameters(some(5))[::-1]
    decide(tmp_path, wide, finalists, by_size, finalist_seeds=3)
    assert [line["seed"] for line in lines_of(tmp_path) if line["steps"] == 8] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_what_finalists_cost_is_their_share_of_the_largest_net(tmp_path, wide):
    finalists = by_parameters(some(4))[::-1]
    decision = decide(tmp_path, wide, finalists, by_size)
    assert decision.steps == [4, 8]
    spent = SearchCost(wide, 4, 8)
    for number, finalist in enumerate(finalists):  # the second is neither the choice nor one of the best two
        spent.add_weight_step(finalist.arch, 4 if number == 1 else 8 + 8)
        spent.add_evaluation(finalist.arch, 30 if number == 1 else 30 * 3)
    assert decision.cost == pytest.approx(spent.spent)
    assert decide(tmp_path / "one", wide, finalists, by_size, finalist_seeds=1).noise is None


def test_a_batch_in_parts_changes_no_loss(tmp_path, wide):
    examples = SimpleNamespace(
        training=lambda seed: Blocks(),
        validation=Blocks(30),
        sequence_length=8,
        settle=lambda model, size, most: None,
        score=lambda model, data, size, most: perplexity(model, data, size, most),
    )
    decisions = []
    for size, parts in ((8, 1), (2, 4)):
        folder = tmp_path / str(size)
        folder.mkdir()
        chosen = settings(folder, max_steps=20, max_params="60%", finalist_batches=2,
                          per_device_batch_size=size, gradient_accumulation_steps=parts)  # fmt: skip
        decisions.append(train_finalists(wide, examples, some(3), chosen, Accelerator(cpu=True)))
    whole, parted = decisions
    assert whole.ranked == parted.ranked and whole.cost == pytest.approx(parted.cost)
    for losses, others in zip(whole.losses, parted.losses, strict=True):
        assert losses == pytest.approx(others, abs=1e-5)


def test_a_net_that_is_a_finalist_elsewhere_is_not_forgotten(tmp_path, wide):
    """As at the points of a front: what is known is not trained again, and what goes on goes on from where it was."""
    finalists = by_parameters(some(4))
    decide(tmp_path / "run", wide, finalists, by_size, keep={finalists[3].arch})
    left = [path.name for path in (tmp_path / "run" / "finalists").iterdir()]
    assert left == [f"{finalists[3].arch.id}-0.pt"]
    before = (tmp_path / "run" / "finalists.jsonl").read_text()
    decide(tmp_path / "run", wide, finalists[:1:-1], by_size, resume=True)
    after = (tmp_path / "run" / "finalists.jsonl").read_text()
    assert after.startswith(before) and not (tmp_path / "run" / "finalists").exists()
    new = [json.loads(line) for line in after[len(before) :].splitlines()]
    assert [(line["steps"], line["seed"]) for line in new] == [(8, 0), (8, 0), (8, 1), (8, 1)]


@pytest.mark.parametrize("count", [2, 3, 4, 6, 9])
def test_the_steps_to_come_are_the_most_that_may_come(count):
    """Counted in rounds, for every place that the search's choice and the best cut by hand may have."""
    totals, steps = [], round_steps(count, 8)
    for choice, cut in permutations(range(count), 2):
        alive = [by_hand(finalist) if number == cut else finalist for number, finalist in enumerate(some(count))]
        own, total, before = alive[choice], 0, 0
        for until in steps:
            total, before = total + len(alive) * (until - before), until
            alive = survivors(alive, own)
        totals.append(total + 2 * len(alive) * before)  # two other seeds
    assert steps_in_all(count, steps, 3) == max(totals)


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


def test_new_weights_are_the_same_where_nets_are(tmp_path):
    net, chosen = supernet(WIDE), settings(tmp_path, max_steps=2, learning_rate=1e-30, weight_decay=0.0)
    training = ShortTraining(net, Blocks(), chosen, Accelerator(cpu=True), 2, tmp_path / "f")
    wide, narrow = (WIDE.architecture(n_embd=width, n_layer=2, n_head=2, mlp_ratio=1) for width in (32, 16))
    one, other, more = (training.train(arch, seed, 2) for arch, seed in ((wide, 5), (narrow, 5), (narrow, 6)))
    weights, fewer = one.transformer.wte.weight, other.transformer.wte.weight
    assert torch.allclose(weights[:, :16], fewer) and not torch.allclose(fewer, more.transformer.wte.weight)
    assert not torch.allclose(weights, net.transformer.wte.weight[:, :32])  # and they are not those of the search
    assert weights.std().item() == pytest.approx(net.config.initializer_range, rel=0.15)


@pytest.mark.parametrize(("horizon", "expected"), [(40, 10), (8, 2), (3, 0), (400, 20)])
def test_a_short_training_warms_up_over_a_quarter_and_no_longer_than_a_search(tmp_path, wide, horizon, expected):
    chosen = settings(tmp_path, max_steps=400, warmup_steps=20)
    training = ShortTraining(wide, Blocks(), chosen, Accelerator(cpu=True), horizon, tmp_path / "f")
    assert (training.settings.warmup_steps, training.settings.max_steps) == (expected, horizon)


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
    finalists = [*some(4), by_hand(some(5)[4])]
    whole = decide(tmp_path / "whole", wide, finalists)
    assert len({losses[-1] for losses in whole.losses}) == 5 and whole.noise > 0
    for stop in (2, 6, 9):
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
    assert again == decide(tmp_path / "whole", wide, finalists, by_size) and len(scored) == len(
        lines_of(tmp_path / "run")
    )


def test_a_new_run_does_not_take_what_another_left(tmp_path, wide):
    finalists = [some(2)[0], by_hand(some(2)[1])]
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
    assert decision.ranked[0] == by_parameters(finalists[1:])[0]
    assert "NaN" not in (tmp_path / "finalists.jsonl").read_text()
    with pytest.raises(FloatingPointError, match="of all finalists diverged"):
        decide(tmp_path, wide, finalists, lambda model: math.inf)


@pytest.mark.parametrize(
    ("other", "wins"), [([2.0, 2.3], True), ([2.8, 2.7], True), ([2.8, 2.9], False), ([3.0, 3.1], False)]
)
def test_what_is_ahead_of_the_choice_by_more_than_chance_takes_its_place(tmp_path, wide, other, wins):
    (choice, cut), own = some(2), [3.1, 2.7]
    cut = by_hand(cut)
    scores = iter(
        [own[0], other[0], other[1], own[1]]
    )  # both with the first seed, then the better one before the other
    decision = decide(tmp_path, wide, [choice, cut], lambda model: next(scores))
    spreads = [(a - b) ** 2 / 2 for a, b in (own, other)]
    assert decision.noise == pytest.approx(math.sqrt(mean(spreads) / 2))
    assert decision.ranked == ([cut, choice] if wins else [choice, cut])
    assert decision.losses == [[pytest.approx(mean(one))] for one in ((other, own) if wins else (own, other))]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"random_finalists": 1}, "without a budget there are finalists on request only; give finalists, too"),
        ({"pareto": "params", "random_finalists": 3}, "a front has finalists on request only; give finalists, too"),
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
    assert SearchArguments(pareto="params", max_flops="60%").proposed_finalists == 0
    assert SearchArguments(pareto="params", finalists=2).proposed_finalists == 2


def test_what_is_missing_is_said():
    assert missing(some(2), SearchArguments(max_params="50%", random_finalists=1)) == [
        "the search proposes 2 different nets that use the budget and are as deep as its choice, fewer than 4",
        "0 other nets use the budget and are as deep, fewer than random_finalists=1",
        "no net with equal layers uses the budget and is as deep as the search's choice: there is no cut by hand to "
        "compare with",
    ]
