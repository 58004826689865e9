"""What a comparison makes of its rows: a net is one net, however many searches found it and whatever seeds it has."""

import json
from itertools import count
from types import SimpleNamespace

import pytest
from scipy import stats

from tangle_hf.analysis.summaries import as_text, difference_row, summary
from tangle_hf.compare.analysis import differences
from tangle_hf.compare.nets import Comparison, Net
from tangle_hf.compare.settings import CompareArguments
from tangle_hf.space import Architecture


FOUND = {"a": [1, 1, 2, 3], "b": [4, 4, 5, 6], "c": [1, 1, 1, 7]}  # method -> the nets that its searches found
LOSSES = {1: 4.3, 2: 4.5, 3: 4.4, 4: 4.8, 5: 4.6, 6: 4.9, 7: 4.2, 8: 5.0, 9: 5.3, 10: 5.1}


def loss(number, seed):
    return LOSSES[number] + (0.05 + 0.01 * number) * seed


@pytest.fixture
def comparison(tmp_path):
    """Three methods of four searches each with seeds 0 and 1, and three random nets with seed 0."""
    runs = count()
    nets = [Net(name, f"{name}-{n}", Architecture(n=arch), f"run-{next(runs)}") for name, found in FOUND.items()
            for n, arch in enumerate(found)]  # fmt: skip
    nets += [Net("random", f"random-{n}", Architecture(n=n), baseline=True) for n in (8, 9, 10)]
    nets.append(Net("largest", "largest", Architecture(n=10), baseline=True))
    settings = CompareArguments(runs=["any"], seeds=[0, 1], baseline_seeds=[0])
    (tmp_path / "rows").mkdir()
    for net in nets:
        for row in [*net.rows("retrain", 1.0, [0] if net.baseline else [0, 1]), *net.rows("inherit"),
                    *net.rows("finetune", 1.0, [0, 1])]:  # fmt: skip
            number = net.arch.to_dict()["n"]
            shift = 0 if row.run is None else int(row.run.removeprefix("run-")) / 100
            scores = {"loss": loss(number, row.seed or 0) + shift}
            stored = {"arch": net.arch.to_dict(), "validation": scores, "test": scores}
            (tmp_path / "rows" / f"{row.name}.json").write_text(json.dumps(stored))
    return Comparison(nets, [], settings, SimpleNamespace(metric="loss"), None, tmp_path, {})


def test_a_sample_is_of_different_nets(comparison):
    methods = comparison.methods
    values, unit = comparison.sample(methods["a"], "retrain", 1.0)
    assert unit == "nets" and values == pytest.approx([(loss(n, 0) + loss(n, 1)) / 2 for n in (1, 2, 3)])
    values, unit = comparison.sample(methods["a"], "inherit", None)
    assert unit == "nets" and values == pytest.approx([loss(1, 0) + 0.005, loss(2, 0) + 0.02, loss(3, 0) + 0.03])


def test_a_sample_of_one_net_is_its_seeds_or_its_searches(comparison):
    one = comparison.methods["c"][:3]
    values, unit = comparison.sample(one, "retrain", 1.0)
    assert unit == "seeds" and values == pytest.approx([loss(1, 0), loss(1, 1)])
    values, unit = comparison.sample(one, "inherit", None)
    assert unit == "searches" and values == pytest.approx([loss(1, 0) + shift for shift in (0.08, 0.09, 0.1)])
    values, unit = comparison.sample(one, "finetune", 1.0)
    assert unit == "searches" and len(values) == 3
    assert comparison.sample(one[:1], "finetune", 1.0)[1] == "seeds"
    assert comparison.sample(comparison.methods["random"], "inherit", None)[0] == []


def test_methods_are_tested_over_different_nets_on_common_seeds(comparison):
    tests = {(t["first"], t["second"]): t for t in differences(comparison) if t["mode"] == "retrain"}
    assert tests.keys() == {("a", "b"), ("a", "c"), ("b", "c"),
                            *((name, other) for name in "abc" for other in ("random", "largest"))}  # fmt: skip
    nets = [[(loss(n, 0) + loss(n, 1)) / 2 for n in side] for side in ((1, 2, 3), (4, 5, 6))]
    test = tests["a", "b"]
    assert test["p"] == pytest.approx(stats.ttest_ind(*nets, equal_var=False).pvalue) and test["seeds"] == (0, 1)
    random = [[loss(n, 0) for n in side] for side in ((1, 2, 3), (8, 9, 10))]
    test = tests["a", "random"]
    assert test["p"] == pytest.approx(stats.ttest_ind(*random, equal_var=False).pvalue) and test["seeds"] == (0,)
    shared = tests["a", "c"]
    assert (shared["first_nets"], shared["second_nets"], shared["shared"], shared["p"]) == (2, 1, 1, None)


def test_the_table_says_how_many_nets_a_test_has(comparison):
    tests = {(t["first"], t["second"]): difference_row(t) for t in differences(comparison) if t["mode"] == "retrain"}
    assert tests["a", "c"]["p"] == "1 net: too few for a test" and tests["a", "c"]["difference"] == "0.2275"
    assert tests["b", "c"]["p"] == "2 nets: too few for a test" and tests["b", "c"]["nets"] == "3 and 2"
    found = tests["a", "random"]
    assert 0 < float(found["p"]) < 0.05 and (found["nets"], found["both"], found["seeds"]) == ("3 and 3", "0", "0")
    assert found["difference"].startswith("-0.7333 [") and found["horizon"] == "1"


def test_every_mean_says_what_its_interval_is_over():
    cells = {"nets": summary([1.0, 2.0, 3.0], "nets"), "seed": summary([1.0], "seeds"), "nothing": summary([], "nets")}
    half = stats.t.ppf(0.975, 2) / 3**0.5
    assert as_text(cells) == {"nets": f"2.0000 [{2 - half:.4f}, {2 + half:.4f}] (3 nets)", "seed": "1.0000 (1 seed)",
                              "nothing": "-"}  # fmt: skip
