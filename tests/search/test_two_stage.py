"""Two-stage methods: training on single paths, searches over candidates, and that both resume exactly."""

import json
import random
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import two_stage_worker
import yaml
from accelerate import Accelerator
from test_bilevel import outcome
from worker import SPACE, Blocks

from tangle_hf import (
    Architecture,
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    PerLayer,
    SearchSpace,
    flops,
    num_params,
)
from tangle_hf.budgets.limits import make_budgets
from tangle_hf.budgets.sampling import draw_new
from tangle_hf.cost.tables import exact
from tangle_hf.search import SearchArguments, search_candidates, train_single_paths
from tangle_hf.search.distillation import distillation_loss
from tangle_hf.search.limits import Limits
from tangle_hf.search.methods import METHODS
from tangle_hf.search.search_cost import SearchCost
from tangle_hf.search.two_stage.evolution import offspring
from tangle_hf.search.two_stage.paths import STRATA, path_rule
from tangle_hf.search.two_stage.proposals import Proposals
from tangle_hf.search.weight_decay import decays


WIDE = SearchSpace(n_embd=[16, 32, 48], n_layer=[2, 3, 4], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2, 4]))
SMALL = {"population_size": 10, "num_mutations": 4, "num_crossovers": 4, "generations": 3}
STRATEGIES = ["rs", "es", "nsga2"]


def supernet(space=SPACE, **options):
    torch.manual_seed(0)
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0)
    return ElasticGPT2LMHeadModel(ElasticGPT2Config(space=space, vocab_size=40, n_positions=8, **dropouts, **options))


@pytest.fixture(scope="module")
def wide():
    return supernet(WIDE)


def settings(folder="unused", **options):
    defaults = {"max_steps": 2, "logging_steps": 1, "warmup_steps": 0, "per_device_batch_size": 4}
    return SearchArguments(output_dir=str(folder), **{**defaults, **options})


def synthetic(arch):
    """A loss with one optimum: a narrow net of three layers whose first MLP is wide, and cost against it."""
    target = Architecture(n_embd=32, n_layer=3, n_head=[4, 2, 4], mlp_ratio=[4, 1, 1])
    loss = abs(arch.n_embd - target.n_embd) / 16 + abs(arch.n_layer - target.n_layer)
    for name in ("n_head", "mlp_ratio"):
        pairs = zip(getattr(arch, name), getattr(target, name), strict=False)
        loss += sum(0.1 * abs(found - wanted) * (layer + 1) for layer, (found, wanted) in enumerate(pairs))
    return loss


def run(folder, net, objective, **options):
    folder.mkdir(exist_ok=True)
    arguments = settings(folder, **options)
    cost = SearchCost(net, arguments.per_device_batch_size, spent=7.0)
    evaluate = lambda arch: {"loss": objective(arch)}  # noqa: E731
    return search_candidates(net, evaluate, 10, arguments, Accelerator(cpu=True), cost, Limits.of(arguments, net, 8))


@pytest.mark.parametrize("limits", [{}, {"max_params": "60%"}, {"max_params": "45%", "budget_mode": "at_most"}])
def test_evolution_finds_the_enumerated_optimum(tmp_path, wide, limits):
    budgets = make_budgets(wide.config, **{k: v for k, v in limits.items() if k.startswith("max")})
    inside = [arch for arch in WIDE if all(exact(b.table, arch) <= b.limit for b in budgets)]
    if budgets and "budget_mode" not in limits:
        inside = [arch for arch in inside if any(exact(b.table, arch) >= 0.95 * b.limit for b in budgets)]
    best = min(map(synthetic, inside))
    log = run(tmp_path, wide, synthetic, method="spos+es", generations=8, **limits)
    assert log.best()[0]["loss"] == best and Architecture(log.best()[0]["arch"]) in inside
    assert len(log.records) == min(400, len(inside)) < WIDE.size / 5
    assert all(Architecture(record["arch"]) in inside for record in log.best())


def test_evolution_is_better_than_random_search(tmp_path, wide):
    found = {}
    for strategy in ("rs", "es"):
        options = {"method": f"spos+{strategy}", **SMALL, "generations": 10}
        logs = [run(tmp_path / f"{strategy}{seed}", wide, synthetic, seed=seed, **options) for seed in range(5)]
        assert all(len(log.records) == 100 for log in logs)
        found[strategy] = sum(log.best()[0]["loss"] for log in logs) / len(logs)
    assert found["es"] < found["rs"] / 2


def test_nsga2_finds_the_enumerated_front(tmp_path):
    """From a quarter of the space; a search for the loss alone finds 16 of the 19 points from as many candidates."""
    space = SearchSpace(n_embd=[16, 32, 48], n_layer=[1, 2, 3, 4, 5], n_head=2, mlp_ratio=PerLayer([1, 2, 4]))
    net = supernet(space)

    def objective(arch):  # more is better, but not everywhere by the same
        return round(10 / arch.n_embd - 0.1 * sum(arch.mlp_ratio), 9)

    points = {(num_params(space, arch, net.config), objective(arch)) for arch in space}
    front = {p for p in points if not any(q[0] <= p[0] and q[1] <= p[1] and q != p for q in points)}
    options = {"method": "spos+nsga2", "population_size": 40, "generations": 8}
    log = run(tmp_path, net, objective, **options)
    assert {(record["params"], record["loss"]) for record in log.front("params")} == front
    assert len(front) == 19 and len(log.records) < space.size / 4
    limit = num_params(space, space.largest, net.config) // 2
    tight = run(tmp_path / "tight", net, objective, max_params="50%", **options)
    assert {(r["params"], r["loss"]) for r in tight.front("params")} == {p for p in front if p[0] <= limit}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("limits", [{"max_params": "2600"}, {"max_params": "60%", "standard_only": True}])
def test_the_tightest_budgets_hold_and_all_that_fits_is_found(tmp_path, strategy, limits):
    net = supernet()
    limit = make_budgets(net.config, max_params=limits["max_params"])[0].limit
    fits = [arch for arch in SPACE if num_params(SPACE, arch, net.config) <= limit]
    if limits.get("standard_only"):
        fits = [arch for arch in fits if net.subnet_forms(net.config, arch)["stock"] is None]
    assert 1 < len(fits) < SPACE.size
    log = run(
        tmp_path, net, lambda arch: 0.0, method=f"spos+{strategy}", budget_mode="at_most", generations=3, **limits
    )
    assert set(log.records) == set(fits)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_an_interrupted_search_over_candidates_evaluates_nothing_twice(tmp_path, wide, strategy):
    options = {"method": f"sandwich+{strategy}", **SMALL, "generations": 5}
    asked = []

    def objective(arch):
        asked.append(arch)
        if len(asked) == 27:
            raise KeyboardInterrupt
        return synthetic(arch)

    whole = run(tmp_path / "whole", wide, synthetic, **options)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", wide, objective, **options)
    resumed = run(tmp_path / "broken", wide, objective, resume=True, **options)
    assert len(asked) == len(set(asked)) + 1 == len(whole.records) + 1  # the one that was interrupted
    assert list(resumed.records.items()) == list(whole.records.items())
    lines = [(tmp_path / name / "candidates.jsonl").read_text() for name in ("whole", "broken")]
    assert lines[0] == lines[1] and resumed.cost.spent == whole.cost.spent > 7


def test_a_generation_of_offspring_is_new_and_of_the_right_kinds(wide):
    arguments = settings(method="spos+es", mutation_prob=0.0, whole_mutation_prob=0.0)
    proposals, rng = Proposals(arguments, wide, Limits.of(arguments, wide)), random.Random(0)
    parents = draw_new(lambda: proposals.random(rng), 4, (), 100)
    assert all(proposals.mutation(arch, rng) == arch for arch in parents)
    assert len(offspring(proposals, parents, arguments, parents, rng)) == 50
    for _ in range(100):
        first, second = rng.sample(parents, 2)
        child = proposals.crossover(first, second, rng)
        assert child.n_embd in (first.n_embd, second.n_embd) and child.n_layer in (first.n_layer, second.n_layer)
        for layer, ratio in enumerate(child.mlp_ratio):
            assert ratio in {arch.mlp_ratio[layer] for arch in (first, second) if arch.n_layer > layer}


def test_mutations_change_values_with_their_probabilities(wide):
    proposals, rng = Proposals(settings(method="spos+es"), wide, Limits()), random.Random(0)
    parent = WIDE.architecture(n_embd=16, n_layer=3, n_head=2, mlp_ratio=1)
    draws = [proposals.mutation(parent, rng) for _ in range(1500)]
    changed = {
        "n_embd": sum(d.n_embd != 16 for d in draws) / len(draws),
        "n_layer": sum(d.n_layer != 3 for d in draws) / len(draws),
        "n_head": sum(d.n_head[0] != 2 for d in draws) / len(draws),
        "mlp_ratio": sum(d.mlp_ratio[1] != 1 for d in draws) / len(draws),
    }
    expected = {"n_embd": 0.4 * 2 / 3, "n_layer": 0.4 * 2 / 3, "n_head": 0.2 / 2, "mlp_ratio": 0.2 * 2 / 3}
    assert changed == pytest.approx(expected, abs=0.035)
    added = [d.mlp_ratio[3] for d in draws if d.n_layer == 4]
    assert len(added) > 100 and all(abs(added.count(r) / len(added) - 1 / 3) < 0.12 for r in (1, 2, 4))


@pytest.mark.parametrize("distillation", [0.0, 0.25, 1.0])
def test_a_sandwich_step_has_the_gradient_of_the_mean_loss_of_its_subnets(tmp_path, distillation):
    """One SGD step by hand against the trainer's, which sees the gradient through Adam's first moment."""
    arguments = settings(tmp_path, method="sandwich+rs", max_steps=1, max_grad_norm=1e9, distillation=distillation)
    archs = path_rule(arguments, supernet(), Limits())(0)
    assert archs[0] == SPACE.largest and archs[-1] == SPACE.smallest and len(archs) == 4
    order = torch.randperm(50, generator=torch.Generator().manual_seed(arguments.seed))[:4]
    batch = {name: torch.stack([Blocks()[int(i)][name] for i in order]) for name in Blocks()[0]}
    by_hand = supernet()
    outputs = [by_hand(**batch, arch=arch) for arch in archs]
    others = [
        (1 - distillation) * output.loss + distillation * distillation_loss(output.logits, outputs[0].logits, batch)
        for output in outputs[1:]
    ]
    ((outputs[0].loss + sum(others)) / 4).backward()
    trained = supernet()
    train_single_paths(trained, Blocks(), arguments, Accelerator(cpu=True))
    (line,) = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert line["train_loss"] == pytest.approx(outputs[0].loss.item(), rel=1e-5)
    assert line["subnets_loss"] == pytest.approx((sum(others) / 3).item(), rel=1e-5)
    stored = torch.load(tmp_path / "checkpoints" / "step-00000001" / "optimizer.bin", weights_only=False)["state"]
    groups = [[p for n, p in by_hand.named_parameters() if decays(n, p) == decayed] for decayed in (True, False)]
    for number, p in enumerate(sum(groups, [])):
        moment = stored[number]["exp_avg"] if number in stored else torch.zeros_like(p)
        torch.testing.assert_close(moment, 0.1 * p.grad, rtol=1e-3, atol=1e-7)


def test_paths_are_uniform_stratified_or_within_the_budget():
    net = supernet(WIDE)
    sizes = lambda archs: [num_params(WIDE, arch, net.config, embeddings=False) for arch in archs]  # noqa: E731
    paths = {}
    for kind in ("uniform", "stratified", "budget"):
        limit = {"max_params": "60%"} if kind == "budget" else {}
        arguments = settings(method="spos+rs", path_sampling=kind, **limit)
        rule = path_rule(arguments, net, Limits.of(arguments, net))
        paths[kind] = [rule(step)[0] for step in range(600)]
        assert paths[kind] == [rule(step)[0] for step in range(600)], "a path depends on more than seed and step"
    assert len(path_rule(settings(method="sandwich+rs", sandwich_paths=5), net, Limits())(0)) == 7
    low, high = sizes([WIDE.smallest, WIDE.largest])
    strata = {kind: [0] * STRATA for kind in paths}
    for kind, archs in paths.items():
        for size in sizes(archs):
            strata[kind][min((size - low) * STRATA // (high - low), STRATA - 1)] += 1
    assert strata["uniform"][-1] < 30 and all(45 < count < 105 for count in strata["stratified"])
    (budget,) = make_budgets(net.config, max_params="60%")
    assert all(0.95 * budget.limit <= exact(budget.table, arch) <= budget.limit for arch in paths["budget"])


def test_an_interrupted_two_stage_search_is_the_same_to_the_last_digit(tmp_path):
    """Interrupted while a checkpoint is written, then while a candidate is evaluated."""
    options = {"method": "sandwich+es", **SMALL}
    two_stage_worker.run(tmp_path / "whole", [], **options)
    two_stage_worker.run(tmp_path / "broken", [{"at_step": 6}, {"at_candidate": 17}], **options)
    check_equal(tmp_path)


def check_equal(folder: Path) -> None:
    (first, first_metrics), (second, second_metrics) = outcome(folder / "whole"), outcome(folder / "broken")
    assert 0 < second.pop("evaluated") < first.pop("evaluated")
    assert first == second and first_metrics == second_metrics
    assert (folder / "whole" / "candidates.jsonl").read_text() == (folder / "broken" / "candidates.jsonl").read_text()


def test_the_search_cost_is_counted_in_steps_of_the_largest_net():
    net = supernet()
    cost = SearchCost(net, batch_size=4, sequence_length=8)
    cost.add_weight_step(SPACE.largest)
    cost.add_weight_step()
    assert cost.spent == 2
    cost.add_arch_step()
    cost.add_evaluation(SPACE.largest, 12)
    assert cost.spent == pytest.approx(2 + 2 / 3 + 12 / (3 * 4))
    before, half = cost.spent, SPACE.architecture(n_embd=32, n_layer=1, n_head=4, mlp_ratio=2)
    cost.add_weight_step(half)
    shares = flops(SPACE, half, net.config, sequence_length=8) / flops(
        SPACE, SPACE.largest, net.config, sequence_length=8
    )
    assert cost.spent - before == pytest.approx(shares) and 0.5 < shares < 1


def test_a_candidate_whose_loss_is_not_finite_stops_the_search(tmp_path):
    with pytest.raises(FloatingPointError, match="n_embd=.* has loss nan"):
        run(tmp_path, supernet(), lambda arch: float("nan"), method="spos+rs")
    assert not (tmp_path / "candidates.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "spos"}, r"method='spos' is unknown; choose one of .*'spos\+rs'"),
        ({"path_sampling": "even"}, "path_sampling='even'"),
        ({"nsga2_cost": "latency"}, "nsga2_cost='latency'"),
        ({"population_size": 0}, "population_size=0"),
        (
            {"method": "spos+es", "population_size": 40},
            "num_mutations=25 and num_crossovers=25 are more than population_size=40",
        ),
        ({"sandwich_paths": -1}, "sandwich_paths=-1"),
        ({"distillation": 1.5}, "distillation=1.5"),
        ({"mutation_prob": 1.5}, "mutation_prob=1.5"),
    ],
)
def test_settings_of_two_stages_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        SearchArguments(**options)


def test_settings_without_effect_warn(tmp_path, caplog):
    assert not any(SearchArguments(method=name).settings_without_effect() for name in METHODS)
    arguments = settings(
        tmp_path, method="spos+rs", max_steps=1, arch_learning_rate=0.1, num_mutations=3, num_parents=3
    )
    train_single_paths(supernet(), Blocks(), arguments, Accelerator(cpu=True))
    (line,) = (record.getMessage() for record in caplog.records if "no effect" in record.getMessage())
    assert line == "no effect: arch_learning_rate, num_mutations with method=spos+rs; leave them out"


FINALISTS = {"finalist_ratio": 0.2, "finalist_start": "supernet", "finalist_seeds": 3, "finalist_batches": 1}
BUDGETS = {"budget_mode": "at_most", "budget_candidates": 3, "budget_parts": ["start"]}


@pytest.mark.parametrize(
    ("given", "enough", "reason"),
    [
        (
            {"undecided_entropy": 0.5, "budget_parts": []},
            {"method": "drnas", "max_params": "50%"},
            "with method=spos+rs",
        ),
        ({"pareto_points": 4}, {"pareto": "params"}, "without pareto"),
        (BUDGETS, {"max_params": "50%"}, "without a budget"),
        (BUDGETS, {"pareto": "flops"}, "without a budget"),
        ({"budget_candidates": 3, "candidate_batches": 3}, {"standard_only": True}, "without a budget"),
        ({"candidate_batches": 3}, {"method": "spos+rs"}, "without a budget"),
        ({"teacher_temperature": 2.0}, {"teacher_share": 0.5, "start_from": "a checkpoint"}, "without teacher_share"),
        (FINALISTS, {"max_params": "50%"}, "without finalists"),
        (FINALISTS, {"finalists": 2}, "without finalists"),
        ({"sgd_momentum": 0.5, "nesterov": False}, {"optimizer": "sgd"}, "with optimizer=adamw"),
    ],
)
def test_settings_that_nothing_reads_have_no_effect(given, enough, reason):
    without = {"method": "spos+rs"} if "spos" in reason else {}
    assert SearchArguments(**given, **without).settings_without_effect() == dict.fromkeys(given, reason)
    assert not SearchArguments(**given, **enough).settings_without_effect()


def test_shipped_configs_have_no_setting_that_nothing_reads():
    names = {item.name for item in fields(SearchArguments)}
    for path in (Path(__file__).parents[2] / "recipes" / "configs").glob("*.yaml"):
        given = {name: value for name, value in yaml.safe_load(path.read_text()).items() if name in names}
        assert not SearchArguments(**given).settings_without_effect(), path


def test_without_pymoo_nsga2_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("tangle_hf.search.settings.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'tangle_hf\[search\]'"):
        SearchArguments(method="sandwich+nsga2")
