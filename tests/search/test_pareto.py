"""One search for a whole front: logits of every budget, feasible points that no other beats, exact resume, and extraction."""

import json
import shutil

import pytest
import torch
import yaml
from accelerate import Accelerator
from accelerate.utils import set_seed
from worker import SPACE, Blocks

from tangle_hf import (
    ElasticCellsConfig,
    ElasticCellsForImageClassification,
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    ElasticViTConfig,
    ElasticViTForImageClassification,
    PerLayer,
    SearchSpace,
    flops,
    num_params,
    sampler,
)
from tangle_hf.analysis import read_metrics
from tangle_hf.budgets.discretisation import discretise
from tangle_hf.budgets.limits import make_budgets
from tangle_hf.cost.tables import exact, of_smallest
from tangle_hf.runs.resolving import extract_point, resolve
from tangle_hf.search import Limits, SearchArguments, search, trace_front
from tangle_hf.search.gradient.arch_front import ArchFront
from tangle_hf.search.gradient.budget_surface import Surface, used
from tangle_hf.search.gradient.front import hand_cuts_along, hypervolume, limits_along, reference_net


def gpt2():
    return ElasticGPT2LMHeadModel(ElasticGPT2Config(space=SPACE, vocab_size=40, n_positions=8))


def front_of(supernet, **settings):
    arguments = SearchArguments(**{"method": "darts", "pareto": "params", **settings})
    anchors = Limits.of(arguments, supernet, 8).anchors
    return ArchFront(supernet.space, sampler(arguments.sampler), anchors, arguments), arguments


def shaken(front, seed=0):
    """A front whose anchors differ, each on its own budget, as after a search."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for rows in front.parameters():
            rows.add_(torch.randn(rows.shape, generator=generator))
    for limit in front.limits:
        front.hold(limit)
    return front


@pytest.mark.parametrize("method", ["darts", "drnas"])
@pytest.mark.parametrize("cost", ["params", "params_without_embeddings", "flops"])
def test_at_every_limit_the_expected_cost_is_the_limit(method, cost):
    front, _ = front_of(gpt2(), method=method, pareto=cost)
    shaken(front)
    low, *_, high = front.limits
    for limit in (*front.limits, *torch.linspace(low, high, 7).int().tolist(), low * 0.95, high * 1.01):
        budgets = front.budgets_at(int(limit))
        assert [budget.cost for budget in budgets] == [cost]
        point = front.at(int(limit)).logits
        assert used(Surface(sampler(method), budgets), point).item() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("cost", ["params", "flops"])
def test_the_reference_is_the_loss_of_the_cheapest_net_where_choices_are_operations(cost):
    """Whichever is named first."""
    operations = PerLayer(["sep_conv_5x5", "dil_conv_3x3", "sep_conv_3x3"], rows=3)
    space = SearchSpace(normal=operations, reduce=operations)
    config = ElasticCellsConfig(space=space, cell="toy_cell", num_cells=3, hidden_size=4, image_size=8, num_labels=2)
    front, _ = front_of(ElasticCellsForImageClassification(config), pareto=cost)
    table = front.budgets[0][-1].table
    assert exact(table, reference_net(front)) == min(exact(table, arch) for arch in space) == of_smallest(table)
    assert reference_net(front_of(gpt2(), pareto=cost)[0]) == SPACE.smallest


def test_a_file_that_holds_no_logits_of_a_front_is_one_line(tmp_path):
    front, path = front_of(gpt2())[0], tmp_path / "a.safetensors"
    front.save(path)
    front.load(path)
    with torch.no_grad():
        next(front.parameters())[0] = float("nan")
    front.save(path)
    with pytest.raises(ValueError, match=f"{path} holds logits that are not finite, of .*'anchors.0"):
        front.load(path)
    for content, message in ((path.read_bytes()[:99], "or is cut off"), (None, "is no file of logits")):
        path.unlink() if content is None else path.write_bytes(content)
        with pytest.raises(ValueError, match=f"{path} .*{message}"):
            front.load(path)


def test_between_anchors_logits_are_interpolated_and_at_anchors_they_are_theirs():
    front, _ = front_of(gpt2(), pareto_anchors=["40%", "60%", "90%"], budget_parts=[])
    shaken(front)
    low, middle, high = front.limits
    for limit, parts in [(low, {0: 1.0}), (middle, {1: 1.0}), (high, {2: 1.0}), (1, {0: 1.0}), (10**9, {2: 1.0}),
                         (low + (middle - low) // 4, None)]:  # fmt: skip
        if parts is None:
            share = (limit - low) / (middle - low)
            parts = {0: 1 - share, 1: share}
        for name, rows in front.at(limit).logits.items():
            mixed = sum(weight * front.anchors[k].logits[name] for k, weight in parts.items())
            torch.testing.assert_close(rows, mixed, rtol=1e-6, atol=1e-6)
    given = [make_budgets(gpt2().config, max_params=share)[0].limit for share in ("40%", "60%", "90%")]
    assert front.limits == tuple(given)


def test_the_gradient_reaches_the_anchors_by_their_weights_and_along_their_budgets():
    front, _ = front_of(gpt2(), budget_parts=[])
    shaken(front)
    limit = (front.limits[0] + 2 * front.limits[1]) // 3
    point = front.at(limit)
    target = {name: torch.randn(rows.shape) for name, rows in point.logits.items()}
    sum((rows * target[name]).sum() for name, rows in point.logits.items()).backward()
    front.collect(limit, point)
    share = (limit - front.limits[0]) / (front.limits[1] - front.limits[0])
    for weight, anchor in zip((1 - share, share), front.anchors, strict=False):
        for name, rows in anchor.logits.items():
            torch.testing.assert_close(rows.grad, weight * target[name])
    assert all(rows.grad is None for rows in front.anchors[2].logits.values())

    front, _ = front_of(gpt2())
    shaken(front)
    point = front.at(limit)
    sum((rows * target[name]).sum() for name, rows in point.logits.items()).backward()
    front.collect(limit, point)
    for k in (0, 1):  # no first-order change of the anchors' own costs
        logits = {name: rows.detach().clone().requires_grad_() for name, rows in front.anchors[k].logits.items()}
        used(Surface(front.method, front.budgets_at(front.limits[k])), logits).sum().backward()
        anchor = front.anchors[k].logits  # heads have no parameters of their own, and no gradient of the cost
        across = sum((logits[n].grad * rows.grad).sum() for n, rows in anchor.items() if n != "n_head").abs()
        length = sum(rows.grad.square().sum() for rows in anchor.values()).sqrt()
        assert length > 0.1 and across < 1e-5 * length


def test_limits_are_drawn_from_the_whole_range_and_only_where_there_is_a_front():
    front, _ = front_of(gpt2())
    generator = torch.Generator().manual_seed(0)
    drawn = [front.draw(generator) for _ in range(500)]
    low, high = front.limits[0], front.limits[-1]
    assert low <= min(drawn) < low + 0.02 * (high - low) and high - 0.02 * (high - low) < max(drawn) <= high
    plain, _ = front_of(gpt2(), pareto=None, max_params="50%")
    before = generator.get_state()
    assert plain.draw(generator) is None and torch.equal(generator.get_state(), before)
    assert plain.at(None) is plain.anchors[0] and plain.limits == (None,)


@pytest.mark.parametrize("other", [{}, {"max_flops": "70%"}, {"standard_only": True}])
def test_the_front_is_feasible_best_and_not_dominated(other):
    """With all architectures as candidates each point is the best one of its band, found by enumeration."""
    supernet = gpt2()
    front, arguments = front_of(
        supernet, budget_candidates=100, pareto_points=12, pareto_anchors=["30%", "90%"], **other
    )
    generator = torch.Generator().manual_seed(3)
    archs = [a for a in SPACE if not arguments.standard_only
             or supernet.subnet_forms(supernet.config, a)["stock"] is None]  # fmt: skip
    noise = torch.rand(len(archs), generator=generator).tolist()
    losses = {a: n - num_params(SPACE, a, supernet.config) / 10**4 for a, n in zip(archs, noise, strict=True)}
    points = trace_front(supernet, shaken(front), arguments, losses.__getitem__)
    assert [points[0].limit, points[-1].limit] == list(front.limits) and len(points) == 12
    for point in points:
        budgets = front.budgets_at(point.limit)
        costs = {a: [exact(b.table, a) for b in budgets] for a in archs}
        inside = [a for a in archs if all(c <= b.limit for c, b in zip(costs[a], budgets, strict=True))]
        reached = [max(own) for own in zip(*(costs[a] for a in inside), strict=True)]
        bands = [[a for a in inside if any(c >= 0.95 * top for c, top in zip(costs[a], tops, strict=True))]
                 for tops in ([b.limit for b in budgets], reached)]  # fmt: skip
        best = min(bands[0] or bands[1], key=losses.__getitem__)
        assert point.candidate.arch == best and point.loss == losses[best]
        assert point.cost == num_params(SPACE, best, supernet.config) <= point.limit
        if "max_flops" in other:
            assert flops(SPACE, best, supernet.config, sequence_length=8) <= budgets[0].limit
    pairs = [(p.cost, p.loss) for p in points]
    for number, point in enumerate(points):
        beaten = any(a <= point.cost and b <= point.loss and (a, b) != pairs[number] for a, b in pairs)
        assert point.nondominated == (not beaten and pairs[number] not in pairs[:number])
    assert 1 < sum(p.nondominated for p in points) < 12


@pytest.mark.parametrize("other", [{}, {"max_flops": "70%"}])
def test_cuts_by_hand_beside_a_front_cannot_grow_within_a_budget_of_it(other):
    supernet = gpt2()
    front, arguments = front_of(supernet, pareto_points=4, pareto_anchors=["40%", "90%"], **other)
    cuts = hand_cuts_along(front, arguments, lambda arch: float(hash(arch)))
    equal, kept = list(SPACE.equal_layers()), {arch for arch, *_ in cuts}
    for limit in limits_along(front, arguments):
        budgets = front.budgets_at(limit)
        inside = [a for a in equal if all(exact(b.table, a) <= b.limit for b in budgets)]
        best = max(
            inside, key=lambda arch: exact(budgets[-1].table, arch)
        )  # nothing can be larger, so no choice can be
        assert exact(budgets[-1].table, best) in [cost for _, cost, _ in cuts]
    assert kept <= set(equal) and len(cuts) == len(kept) <= 4 * 3
    costs = [cost for _, cost, _ in cuts]
    assert costs == sorted(costs) == [num_params(SPACE, arch, supernet.config) for arch, *_ in cuts]
    assert all(loss == float(hash(arch)) for arch, _, loss in cuts)


def test_the_hypervolume_is_the_area_under_the_staircase():
    assert hypervolume([(0.5, 2.0)], (1.0, 4.0)) == pytest.approx(0.5 * 2)
    staircase = [(0.2, 3.5), (0.5, 3.0), (0.8, 1.0)]
    by_hand = (0.5 - 0.2) * (4 - 3.5) + (0.8 - 0.5) * (4 - 3.0) + (1 - 0.8) * (4 - 1.0)
    assert hypervolume(staircase, (1.0, 4.0)) == pytest.approx(by_hand)
    assert hypervolume([*staircase, (0.6, 3.2), (0.9, 5.0), (1.2, 0.0)], (1.0, 4.0)) == pytest.approx(by_hand)


def run(folder, supernet=gpt2, data=Blocks, **settings):
    set_seed(0)
    supernet = supernet()
    defaults = {"max_steps": 6, "save_steps": 3, "logging_steps": 1, "per_device_batch_size": 4, "pareto": "params"}
    arguments = SearchArguments(output_dir=str(folder), **{**defaults, **settings})
    length = 8 if data is Blocks else None
    limits = Limits.of(arguments, supernet, length)
    trained = search(supernet, data(), data(30), arguments, Accelerator(cpu=True), limits=limits)
    return trained, supernet, arguments


@pytest.mark.parametrize("method", ["drnas", "gdas"])
def test_a_resumed_front_is_the_same_to_the_last_digit(tmp_path, method):
    trained, supernet, _ = run(tmp_path / "whole", method=method)
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "checkpoints" / "step-00000006")
    again, other, _ = run(tmp_path / "broken", method=method, resume=True)
    assert all(torch.equal(rows, again.state_dict()[name]) for name, rows in trained.state_dict().items())
    assert all(torch.equal(p, q) for p, q in zip(supernet.parameters(), other.parameters(), strict=True))
    lines = read_metrics(tmp_path / "whole" / "metrics.jsonl")
    assert read_metrics(tmp_path / "broken" / "metrics.jsonl") == lines
    fresh = front_of(supernet, method=method)[0].state_dict()
    moved = {name.split(".")[1] for name, rows in trained.state_dict().items() if not torch.equal(rows, fresh[name])}
    assert moved == {"0", "1", "2"}
    for limit, anchor in zip(trained.limits, trained.anchors, strict=True):
        on = Surface(trained.method, trained.budgets_at(limit))
        assert used(on, anchor.logits).item() == pytest.approx(1, rel=1e-6)
    for line in lines:
        for point in line["front"]:
            limit = point["limit"]
            assert line[f"expected_params@{limit}"] == pytest.approx(limit, rel=1e-5)
            assert line[f"arch_params@{limit}"] <= line[f"max_params@{limit}"] == limit


def vit():
    space = SearchSpace(
        hidden_size=[16, 32], num_hidden_layers=[1, 2], num_attention_heads=PerLayer([2, 4]), mlp_ratio=[1]
    )
    return ElasticViTForImageClassification(ElasticViTConfig(space=space, image_size=8, patch_size=4, num_labels=5))


class Images(Blocks):
    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        return {"pixel_values": torch.randn(3, 8, 8, generator=generator), "labels": torch.tensor(index % 5)}


@pytest.fixture(params=["gpt2", "vit"])
def finished(request, tmp_path):
    """A run as the recipes leave it: (folder, front, supernet, arguments)."""
    kinds = {"gpt2": (gpt2, Blocks, "params"), "vit": (vit, Images, "flops")}
    supernet, data, cost = kinds[request.param]
    folder = tmp_path / "run"
    settings = {"pareto": cost, "pareto_anchors": ["40%", "90%"], "max_steps": 3, "pareto_points": 3}
    front, supernet, arguments = run(folder, supernet, data, **settings)
    front.save(folder / "arch_parameters.safetensors")
    supernet.save_pretrained(folder / "supernet")
    length = {"block_size": 8} if request.param == "gpt2" else {}
    (folder / "config.yaml").write_text(yaml.safe_dump({**vars(arguments), **length, "corpus": "anything"}))
    return folder, front, supernet, arguments


def test_other_budgets_of_a_front_are_resolved_and_its_points_are_exported(finished):
    folder, front, supernet, arguments = finished
    cost = arguments.pareto
    for share in ("50%", "95%"):
        done = resolve(folder, {f"max_{cost}": share}, folder / "other")
        budgets = front.budgets_at(done.limits[cost])
        (best,) = discretise(supernet, front.at(done.limits[cost]).probabilities(front.method), budgets, band=0.95)
        assert done.candidate == best and done.candidate.costs[cost] <= done.limits[cost]
    with pytest.raises(ValueError, match=f"front over {cost}; give max_{cost}"):
        resolve(folder, {"max_params_without_embeddings": "50%"}, folder / "third")
    with pytest.raises(ValueError, match="has no front"):
        extract_point(folder, 0, folder / "point")
    points = trace_front(supernet, front, arguments, lambda arch: 0.0)
    (folder / "pareto.json").write_text(json.dumps({"points": [{"arch": p.candidate.arch.to_dict()} for p in points]}))
    for number, point in enumerate(points):
        written = extract_point(folder, number, folder / "point")
        assert json.loads((folder / "point" / "architecture.json").read_text()) == point.candidate.arch.to_dict()
        assert written.difference < 1e-4 * written.scale
    with pytest.raises(ValueError, match="no point 3; choose from 0 to 2"):
        extract_point(folder, 3, folder / "point")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pareto": "size"}, "pareto='size' is not a cost"),
        ({"pareto": "params", "max_params": "50%"}, "limit the same cost"),
        ({"pareto": "params", "pareto_anchors": ["50%"]}, "at least two budgets"),
        ({"pareto": "params", "pareto_anchors": ["half", "90%"]}, "pareto_anchors: 'half' is not a budget"),
        ({"pareto_anchors": ["30%", "50%"]}, "pareto_anchors would have no effect"),
        ({"pareto": "params", "pareto_points": 1}, "pareto_points=1"),
        ({"pareto": "params", "method": "spos+rs"}, "pareto would have no effect"),
    ],
)
def test_settings_of_fronts_are_checked(settings, message):
    with pytest.raises(ValueError, match=message):
        SearchArguments(**settings)


@pytest.mark.parametrize(
    ("anchors", "message"), [(["50%", "30%"], "must ascend"), (["100", "50%"], "below the smallest possible")]
)
def test_anchors_that_cannot_be_are_refused_before_anything_is_written(tmp_path, anchors, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", pareto_anchors=anchors)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("parts", [[], ["start"], ["start", "project"], ["return"]])
def test_parts_of_the_budget_can_be_left_out(tmp_path, parts):
    run(tmp_path, pareto=None, max_params="50%", budget_parts=parts, arch_warmup_ratio=0.25, arch_learning_rate=0.3)
    used_shares = [line["expected_params"] / line["max_params"] for line in read_metrics(tmp_path / "metrics.jsonl")]
    assert (abs(used_shares[0] - 1) < 1e-5) == ("start" in parts)
    assert (abs(used_shares[-1] - 1) < 1e-5) == ("return" in parts)
