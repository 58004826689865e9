"""Statistics, similarity of layers and curves against formulas written out here."""

import json
from itertools import combinations

import pytest
import torch

from tangle_hf import ElasticGPT2Config, ElasticGPT2LMHeadModel, PerLayer, SearchSpace, extract
from tangle_hf.analysis import (
    format_table,
    in_turns,
    layer_cka,
    linear_cka,
    plot_anytime,
    plot_architectures,
    plot_cka,
)
from tangle_hf.analysis.anytime import (
    AnytimeCurve,
    anytime_chart,
    curves_of,
    looked_up_chart,
    mean_curve,
    one_stage_curve,
    read_curve,
    two_stage_curve,
)
from tangle_hf.analysis.statistics import plot_rank_correlation, rank_correlation


LOSSES = [4.35, 4.41, 4.29, 4.38]


def test_rank_correlations_are_the_formulas():
    predicted, actual = [5.0, 3.0, 4.0, 1.0, 2.0], [4.9, 3.5, 3.6, 2.0, 1.0]
    signs = [(predicted[i] - predicted[j]) * (actual[i] - actual[j]) > 0 for i, j in combinations(range(5), 2)]
    found = rank_correlation(predicted, actual)
    assert found.kendall == pytest.approx((2 * sum(signs) - len(signs)) / len(signs)) == pytest.approx(0.8)
    ranks = [[sorted(x).index(value) for value in x] for x in (predicted, actual)]
    squares = sum((a - b) ** 2 for a, b in zip(*ranks, strict=True))
    assert found.spearman == pytest.approx(1 - 6 * squares / (5 * 24)) and found.count == 5
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None
    assert rank_correlation([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]).kendall is None
    with pytest.raises(ValueError, match="3 predictions and 2 scores"):
        rank_correlation([1.0, 2.0, 3.0], [1.0, 2.0])


def test_cka():
    x = torch.randn(2000, 8) + 3
    rotation = torch.linalg.qr(torch.randn(8, 8))[0]
    assert linear_cka(x, x) == pytest.approx(1, abs=1e-9)
    assert linear_cka(x, 5 * x @ rotation - 2) == pytest.approx(1, abs=1e-5)
    assert linear_cka(x, torch.randn(2000, 8)) < 0.02
    y = torch.cat([x[:, :4], torch.randn(2000, 6)], 1)
    assert 0.2 < linear_cka(x, y) < 0.9
    # the definition by centred Gram matrices: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L))
    x, y = x[:50].double(), y[:50].double()
    centre = torch.eye(50, dtype=torch.float64) - 1 / 50
    k, m = (centre @ f @ f.T @ centre for f in (x, y))
    assert linear_cka(x, y) == pytest.approx(((k * m).sum() / (k.norm() * m.norm())).item())
    with pytest.raises(ValueError, match="50 and 40 examples"):
        linear_cka(x, y[:40])
    with pytest.raises(ValueError, match="equal for all"):
        linear_cka(torch.ones(5, 2), torch.randn(5, 2))


def test_cka_of_layers(tmp_path):
    space = SearchSpace(n_embd=[8, 16], n_layer=[1, 2], n_head=PerLayer([2]), mlp_ratio=PerLayer([1, 2]))
    config = ElasticGPT2Config(space=space, vocab_size=32, n_positions=16)
    one, other = (extract(ElasticGPT2LMHeadModel(config), space.largest) for _ in range(2))
    batches = [{"input_ids": torch.randint(32, (4, 16))} for _ in range(3)]
    assert layer_cka(one, one, batches) == pytest.approx([1, 1], abs=1e-6)
    curve = layer_cka(one, other, batches)
    assert len(curve) == 2 and all(0 < value < 0.95 for value in curve)
    with torch.no_grad():  # the first layer as before, the last one not
        other.load_state_dict(one.state_dict())
        other.transformer.h[1].mlp.c_proj.weight.normal_()
    first, last = layer_cka(one, other, batches)
    assert first == pytest.approx(1, abs=1e-6) and last < 0.95
    plot_cka({"one and two": {"net": curve}}, tmp_path / "cka.png")
    plot_architectures({"large": space.largest, "small": space.smallest}, space, tmp_path / "architectures.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("cka.png", "architectures.png"))


def test_anytime_curves(tmp_path):
    candidates = [
        {"arch": {"n": k}, "loss": loss, "search_cost": 100.0 + k} for k, loss in enumerate([5, 6, 4, 4.5, 4.2])
    ]
    curve = two_stage_curve(candidates)
    assert (curve.costs, curve.values) == ((100.0, 102.0, 104.0), (5, 4, 4))
    assert [arch["n"] for arch in curve.archs] == [0, 2, 2]
    metrics = [{"step": 1, "search_cost": 1.5, "arch": {}}]
    metrics += [{"step": s, "search_cost": 1.6 * s, "validation_loss": loss, "arch": {"n": s}}
                for s, loss in ((5, 6.0), (10, 6.5))]  # fmt: skip
    for name, lines in {"candidates": candidates, "metrics": metrics}.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_curve(tmp_path) == curve
    (tmp_path / "candidates.jsonl").unlink()
    # what the search would return, also where that became worse
    assert read_curve(tmp_path) == one_stage_curve(metrics)
    assert read_curve(tmp_path).values == (6.0, 6.5) and read_curve(tmp_path).costs == (8.0, 16.0)
    plot_anytime(anytime_chart({"a": [curve], "b": [read_curve(tmp_path)]}), tmp_path / "anytime.png")
    pairs = {str(number): (LOSSES, LOSSES) for number in range(8)}
    plot_rank_correlation(pairs, ("a", "b"), tmp_path / "rank.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("anytime.png", "rank.png"))


def test_scores_that_are_looked_up_are_averaged_from_where_all_runs_have_begun():
    one, other = AnytimeCurve((1.0, 3.0), (10.0, 30.0), ({}, {})), AnytimeCurve((2.0, 4.0), (40.0, 20.0), ({}, {}))
    assert mean_curve([one, other]) == ([2.0, 3.0, 4.0], [25.0, 35.0, 25.0])
    chart = looked_up_chart({"alone": [one], "both": [one, other]}, "accuracy")
    assert [(curve.name, curve.row, len(curve.steps)) for curve in chart.curves] == [
        ("alone", None, 2), ("both", 0, 2), ("both", 1, 2), ("both", None, 3)
    ]  # fmt: skip
    assert (chart.unit, {curve.color for curve in chart.curves if curve.name == "both"}) == ("accuracy", {1})


def test_curves_of_runs_that_lack_a_score_are_left_out():
    run = {"costs": [1.0], "archs": [{}], "losses": [None], "scores": [3.0]}
    assert curves_of({"a": [run, run | {"losses": [2.0]}]}, "losses") == {"a": [AnytimeCurve((1.0,), (2.0,), ({},))]}
    assert curves_of({"a": [run]}, "losses") == curves_of({"a": [run]}, "of another kind") == {}


def test_things_are_timed_in_turns():
    order = []
    times = in_turns({name: lambda name=name: order.append(name) for name in "abc"}, rounds=3)
    assert order == list("abc" * 4) and {len(values) for values in times.values()} == {3}


def test_numbers_of_a_column_stand_with_their_points_below_each_other():
    rows = [
        {"net": "a", "size": 1234, "loss": 4.404, "ppl": 81.8, "ms": 1.5e-7, "%": 10.588, "x": 1.0},
        {"net": "b", "size": "-", "loss": 4.9, "ppl": 134.3, "ms": 2.0, "%": 9.4117, "x": "-"},
        {"net": "c", "size": 7, "loss": "diverged", "ppl": float("nan"), "ms": 2.5, "%": 0.0, "x": 2.0},
    ]
    assert format_table(rows).splitlines()[2:] == [
        "a    1,234     4.404   81.8  1.5e-07  10.59  1",
        "b        -     4.900  134.3        2   9.41  -",
        "c        7  diverged    nan      2.5   0.00  2",
    ]
