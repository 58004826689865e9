"""Budgets in the gradient search: the expected cost is the budget after every step, and only the loss moves the logits."""

import json

import pytest
import torch
from accelerate import Accelerator
from worker import SPACE, Blocks

from tangle_hf import (
    ArchParameters,
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    expected_flops,
    expected_num_params,
    num_params,
    sampler,
)
from tangle_hf.budgets.limits import Budget, make_budgets
from tangle_hf.cost.latency_tables import LatencyTable, Part, save_latency_table
from tangle_hf.cost.timing import conditions
from tangle_hf.search import Limits, SearchArguments, choose, search
from tangle_hf.search.gradient.budget_surface import (
    Surface,
    project_gradient,
    return_to_surface,
    start_on_surface,
    used,
)


CONFIG = ElasticGPT2Config(space=SPACE, vocab_size=40, n_positions=8)
METHODS = pytest.mark.parametrize("method", ["darts", "drnas", "gdas", "reinmax"])


def surface(method="darts", at_most=False, **limits):
    return Surface(sampler(method), make_budgets(CONFIG, **limits, sequence_length=8), at_most)


def disturbed(logits, seed, size=0.3):
    generator = torch.Generator().manual_seed(seed)
    return {name: rows + size * torch.randn(rows.shape, generator=generator) for name, rows in logits.items()}


def expectations(method, logits):
    shares = {name: sampler(method).mean(rows.double()) for name, rows in logits.items()}
    params = expected_num_params(SPACE, shares, CONFIG).item()
    return params, expected_flops(SPACE, shares, CONFIG, sequence_length=8).item()


@METHODS
@pytest.mark.parametrize("share", ["25%", "50%", "90%"])
def test_after_every_step_the_expected_cost_is_the_budget(method, share):
    on = surface(method, max_params=share)
    limit = on.budgets[0].limit
    logits = ArchParameters(SPACE).logits
    assert abs(expectations(method, logits)[0] / limit - 1) > 0.05, "the start is on the budget by itself"
    logits = start_on_surface(on, logits)
    for seed in range(20):
        assert expectations(method, logits)[0] == pytest.approx(limit, rel=1e-6)
        logits = return_to_surface(on, disturbed(logits, seed))


@METHODS
def test_of_two_budgets_the_one_used_most_is_used_up(method):
    start = ArchParameters(SPACE).logits
    _, work = expectations(method, start_on_surface(surface(method, max_params="50%"), start))
    on = surface(method, max_params="50%", max_flops=round(work))
    tightest = set()
    for seed in range(20):
        logits = return_to_surface(on, disturbed(start, seed, size=1.0))
        shares = [e / b.limit for e, b in zip(expectations(method, logits), on.budgets, strict=True)]
        assert max(shares) == pytest.approx(1, rel=1e-6)
        tightest.add(shares.index(max(shares)))
    assert tightest == {0, 1}


def test_a_ceiling_acts_from_above_only():
    below, above = surface(at_most=True, max_params="90%"), surface(at_most=True, max_params="25%")
    logits = dict(ArchParameters(SPACE).logits)
    kept = return_to_surface(below, logits)
    assert all(torch.equal(kept[name], rows) for name, rows in logits.items())
    assert used(above, return_to_surface(above, logits)).item() == pytest.approx(1, rel=1e-6)
    gradients = disturbed(logits, 1)
    same = project_gradient(below, logits, gradients)
    assert all(torch.equal(same[name], g) for name, g in gradients.items())
    on = start_on_surface(above, logits)
    (normal,) = gradients_of_cost(above, on)
    cheaper = {name: rows.clone() for name, rows in normal.items()}  # the step is minus the gradient
    dearer = {name: -rows for name, rows in normal.items()}
    assert all(torch.equal(g, cheaper[name]) for name, g in project_gradient(above, on, cheaper).items())
    assert max(g.abs().max() for g in project_gradient(above, on, dearer).values()) < 1e-6


def gradients_of_cost(on, logits):
    leaves = {name: rows.detach().clone().requires_grad_() for name, rows in logits.items()}
    for share in used(on, leaves):
        share.backward(retain_graph=True)
        yield {n: torch.zeros_like(leaf) if leaf.grad is None else leaf.grad.clone() for n, leaf in leaves.items()}
        for leaf in leaves.values():
            leaf.grad = None


def inner(a, b):
    return sum((a[name].double() * b[name].double()).sum().item() for name in a)


@METHODS
@pytest.mark.parametrize("at_most", [False, True])
def test_a_projected_step_leaves_the_budget_alone_and_still_descends(method, at_most):
    on = surface(method, at_most, max_params="50%")
    logits = start_on_surface(on, ArchParameters(SPACE).logits)
    (normal,) = gradients_of_cost(on, logits)
    for seed in range(10):
        gradients = disturbed({name: torch.zeros_like(rows) for name, rows in logits.items()}, seed)
        left = project_gradient(on, logits, gradients)
        assert inner(left, gradients) > 0
        across = -inner(left, normal)
        if at_most and inner(gradients, normal) > 0:  # a step to cheaper nets needs no holding
            assert across < 0 and all(torch.equal(left[name], g) for name, g in gradients.items())
        else:
            assert abs(across) < 1e-6 * inner(normal, normal) ** 0.5 * inner(gradients, gradients) ** 0.5
            moved = {name: rows - 1e-3 * left[name] for name, rows in logits.items()}
            assert abs(used(on, moved).item() - 1) < 1e-6
            free = {name: rows - 1e-3 * gradients[name] for name, rows in logits.items()}
            assert abs(used(on, free).item() - 1) > 10 * abs(used(on, moved).item() - 1)


def test_the_order_of_the_gradients_does_not_matter():
    on = surface(max_params="50%")
    logits = start_on_surface(on, ArchParameters(SPACE).logits)
    gradients = disturbed(logits, 1)
    turned = project_gradient(on, logits, dict(reversed(gradients.items())))
    assert all(torch.equal(turned[name], g) for name, g in project_gradient(on, logits, gradients).items())


@pytest.mark.parametrize("at_most", [False, True])
def test_where_two_surfaces_meet_no_step_leaves_either_budget(at_most):
    logits = start_on_surface(surface(max_params="50%"), ArchParameters(SPACE).logits)
    _, work = expectations("darts", logits)
    budgets = make_budgets(CONFIG, max_params="50%", max_flops="50%", sequence_length=8)
    # FLOPs of exactly what is expected there: both budgets are used up at once.
    on = Surface(sampler("darts"), (budgets[0], Budget("flops", work, budgets[1].table)), at_most)
    assert used(on, logits).tolist() == pytest.approx([1, 1], rel=1e-6)
    normals = list(gradients_of_cost(on, logits))
    held = set()
    for seed in range(40):
        gradients = disturbed({name: torch.zeros_like(rows) for name, rows in logits.items()}, seed)
        left = project_gradient(on, logits, gradients)
        across = [-inner(left, normal) / inner(normal, normal) ** 0.5 for normal in normals]
        assert max(across) < 1e-5 and inner(left, gradients) > 0
        held.add(tuple(abs(a) < 1e-5 for a in across))
    assert len(held) >= 3, "some steps hold both budgets, some only one"
    assert ((False, False) in held) == at_most


def test_a_budget_above_the_largest_net_does_nothing():
    on = surface(max_params="100%")
    logits = dict(ArchParameters(SPACE).logits)
    assert on.budgets == ()
    assert all(torch.equal(start_on_surface(on, logits)[name], rows) for name, rows in logits.items())
    assert project_gradient(on, logits, logits).keys() == logits.keys()


def test_a_budget_that_a_sampler_cannot_reach_is_refused():
    smallest = num_params(SPACE, SPACE.smallest, CONFIG)
    with pytest.raises(ValueError, match="cannot be brought to max_params"):
        start_on_surface(surface("drnas", max_params=smallest), ArchParameters(SPACE).logits)


def tiny(folder, **settings):
    supernet = ElasticGPT2LMHeadModel(CONFIG)
    defaults = {
        "max_steps": 6,
        "save_steps": 3,
        "logging_steps": 1,
        "per_device_batch_size": 4,
        "arch_warmup_ratio": 0.0,
    }
    return supernet, SearchArguments(output_dir=str(folder), **{**defaults, **settings})


def searched(supernet, settings):
    limits = Limits.of(settings, supernet, 8)
    return search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True), limits=limits)


@METHODS
@pytest.mark.parametrize(
    "limits", [{"max_params": "90%"}, {"max_flops": "80%", "max_params_without_embeddings": "85%"}]
)
def test_a_search_stays_on_its_budget_and_its_result_keeps_to_it(tmp_path, method, limits):
    supernet, settings = tiny(tmp_path, method=method, budget_candidates=3, arch_warmup_ratio=0.5, **limits)
    evaluated = []
    kept = Limits.of(settings, supernet, 8)
    evaluate = lambda arch: evaluated.append(arch) or 0.0  # noqa: E731
    trained = search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True), evaluate, limits=kept)
    budgets = make_budgets(CONFIG, **limits, sequence_length=8)
    assert [(b.cost, b.limit) for b in kept.budgets] == [(b.cost, b.limit) for b in budgets]
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 6
    for line in lines:
        assert max(line[f"expected_{b.cost}"] / b.limit for b in budgets) == pytest.approx(1, rel=1e-5)
        assert all(line[f"arch_{b.cost}"] <= line[f"max_{b.cost}"] == b.limit for b in budgets)
    assert SPACE.architecture(**lines[-1]["arch"]) == evaluated[-1]
    asked = []
    candidates = choose(supernet, trained, settings, lambda arch: -len(asked.append(arch) or asked), kept)
    assert [c.arch for c, _ in candidates] == asked[::-1] and [loss for _, loss in candidates] == [-3, -2, -1]
    assert all(c.costs[b.cost] <= b.limit for c, _ in candidates for b in budgets)
    assert all(any(c.costs[b.cost] >= 0.95 * b.limit for b in budgets) for c, _ in candidates)
    ((likeliest, nothing),) = choose(supernet, trained, settings, limits=kept)
    assert likeliest.arch == evaluated[-1] and nothing is None


def test_the_loss_still_moves_the_logits_under_a_budget(tmp_path):
    supernet, settings = tiny(tmp_path, max_params="50%")
    trained = search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
    start = start_on_surface(surface("drnas", max_params="50%"), ArchParameters(SPACE, settings.seed).logits)
    for name, rows in trained.logits.items():
        assert (rows - start[name]).abs().amax(-1).min() > 1e-3, name


def test_adam_sees_nothing_of_the_cost(tmp_path):
    supernet, settings = tiny(tmp_path, method="darts", max_params="50%", max_steps=1)
    search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
    (stored,) = (tmp_path / "checkpoints").glob("step-*/custom_checkpoint_0.pkl")
    optimizer = torch.load(stored, weights_only=False)["parts"][1]
    on = surface(max_params="50%")
    logits = start_on_surface(on, ArchParameters(SPACE, settings.seed).logits)
    moments = {name: optimizer["state"][number]["exp_avg"] for number, name in enumerate(logits)}
    (normal,) = gradients_of_cost(on, logits)
    length = (inner(moments, moments) * inner(normal, normal)) ** 0.5
    assert length > 0 and abs(inner(moments, normal)) < 1e-5 * length


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_standard_only_finds_a_stock_net(tmp_path, seed):
    supernet, settings = tiny(tmp_path, standard_only=True, max_params="90%", seed=seed)
    trained = search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        arch = SPACE.architecture(**json.loads(line)["arch"])
        assert supernet.subnet_forms(CONFIG, arch)["stock"] is None
    for candidate, _ in choose(supernet, trained, settings, lambda arch: 0.0):
        assert supernet.subnet_forms(CONFIG, candidate.arch)["stock"] is None


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_params": "100"}, "max_params = 100 is below the smallest possible, 2,496"),
        ({"max_params": "100%", "max_flops": "1k"}, "max_flops = 1,000 is below the smallest possible"),
        ({"max_params": "2496"}, "cannot be brought to"),
    ],
)
def test_budgets_that_cannot_be_kept_are_refused_before_anything_is_written(tmp_path, limits, message):
    assert num_params(SPACE, SPACE.smallest, CONFIG) == 2496
    supernet, settings = tiny(tmp_path / "run", **limits)
    with pytest.raises(ValueError, match=message):
        searched(supernet, settings)
    assert not (tmp_path / "run").exists()


def test_a_latency_is_a_budget_in_milliseconds_by_a_table_of_this_machine(tmp_path, caplog):
    file = tmp_path / "table.json"
    supernet, settings = tiny(tmp_path / "run", max_steps=3, max_latency_ms="80%", latency_table=str(file))
    with pytest.raises(ValueError, match="there is no latency table"):
        searched(supernet, settings)
    times = {"n_embd": [0.5, 0.75], "n_head": [[0.25, 0.5], [0.5, 1.0]]}  # milliseconds
    parts = (
        Part(("n_embd",), False, torch.tensor(times["n_embd"])),
        Part(("n_embd", "n_head"), True, torch.tensor(times["n_head"])),
    )
    here = conditions(supernet, sequence_length=8)
    for changed in ({"device": "cuda"}, {"torch": "1.0"}):
        save_latency_table(LatencyTable({**here, **changed}, SPACE, parts), file)
        if "device" in changed:
            with pytest.raises(ValueError, match="device cuda there, cpu here"):
                searched(supernet, settings)
            assert not (tmp_path / "run").exists()
    searched(supernet, settings)
    assert "under other conditions: torch 1.0 there" in caplog.text
    for line in map(json.loads, (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()):
        arch = SPACE.architecture(**line["arch"])
        width = SPACE.choices["n_embd"].index(arch.n_embd)
        spent = times["n_embd"][width] + sum(times["n_head"][width][h // 4] for h in arch.n_head)
        assert line["arch_latency_ms"] == pytest.approx(spent) and spent <= line["max_latency_ms"]
        assert line["max_latency_ms"] == pytest.approx(0.8 * 2.75)
        assert line["expected_latency_ms"] == pytest.approx(0.8 * 2.75, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_params": "a lot"}, "max_params: 'a lot' is not a budget"),
        ({"max_flops": "120%"}, "max_flops: 120% is more than the largest"),
        ({"max_latency_ms": "soon"}, "max_latency_ms: 'soon' is not a budget"),
        ({"latency_batch_size": 2}, "latency_batch_size=2 would have no effect"),
        ({"latency_batch_size": 0, "max_latency_ms": "5"}, "latency_batch_size=0 must be at least 1"),
        ({"allow_other_latency_table": True}, "allow_other_latency_table would have no effect"),
        ({"budget_mode": "soft"}, "budget_mode='soft'"),
        ({"budget_candidates": 0}, "budget_candidates"),
        ({"method": "spos+rs", "path_sampling": "budget"}, "path_sampling=budget needs a budget"),
    ],
)
def test_settings_of_budgets_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        SearchArguments(**settings)


def test_a_limit_without_effect_warns(tmp_path, caplog):
    supernet, settings = tiny(tmp_path, max_params="100%", max_steps=1)
    search(supernet, Blocks(), Blocks(30), settings, Accelerator(cpu=True))
    assert "max_params" in caplog.text and "is no limit" in caplog.text
