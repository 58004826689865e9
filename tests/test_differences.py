"""Differences of methods: a net counts once, and where nothing differs a test says so as often as it claims."""

import numpy as np
import pytest
from scipy import stats

from tangle_hf.analysis.differences import by_net, compare_nets
from tangle_hf.analysis.intervals import interval


SIMULATIONS = 4000
SEEDS = (0, 1, 2)


def found(nets, scores, seeds=SEEDS):
    """What searches found: the number of a net each, and its scores with every seed."""
    return [(net, {seed: scores[net][seed] for seed in seeds}) for net in nets]


def true_nulls(nets, seed=0):
    """Scores (nets, seeds) of experiments in which all nets are drawn from one distribution.

    A net has an effect of its own, a seed one on all nets alike (the order of the data), and every training has noise.
    """
    rng = np.random.default_rng(seed)
    for _ in range(SIMULATIONS):
        yield rng.normal(size=(nets, 1)) + rng.normal(size=(1, len(SEEDS))) + 0.5 * rng.normal(size=(nets, len(SEEDS)))


def rejected(first, second, nets, seeds=(SEEDS, SEEDS)):
    """The share of tests at 5 % that see a difference where there is none."""
    tests = [compare_nets(found(first, s, seeds[0]), found(second, s, seeds[1])).p for s in true_nulls(nets)]
    assert None not in tests
    return np.mean(np.array(tests) < 0.05)


def rejected_as_draws(first, second, nets):
    """The same where every search counts as a draw of its own, as it was once done."""
    means = np.array([scores.mean(1) for scores in true_nulls(nets)])
    return (stats.ttest_ind(means[:, first], means[:, second], axis=1, equal_var=False).pvalue < 0.05).mean()


@pytest.mark.parametrize(
    ("first", "second"),
    [([0, 0, 1, 2], [3, 3, 4, 5]), ([0, 1, 1, 2, 3], [0, 4, 4, 5, 6])],  # in the second both found the net 0
)
def test_a_true_null_is_rejected_as_often_as_is_said(first, second):
    assert 0.03 < rejected(first, second, 1 + max(first + second)) < 0.07


@pytest.mark.parametrize(
    ("first", "second", "least"), [([0, 0, 1, 2], [3, 3, 4, 5], 0.1), ([0, 0, 0, 1], [2, 2, 2, 3], 0.3)]
)
def test_with_searches_as_draws_it_would_be_rejected_far_more_often(first, second, least):
    assert rejected_as_draws(first, second, 1 + max(second)) > least


def test_nets_are_compared_on_the_seeds_that_all_of_them_have():
    first, second = [0, 0, 1, 2], list(range(3, 11))
    assert 0.03 < rejected(first, second, 11, (SEEDS, SEEDS[:1])) < 0.07
    scores = np.arange(33.0).reshape(11, 3) ** 1.5
    test = compare_nets(found(first, scores), found(second, scores, SEEDS[:1]))
    assert test.seeds == (0,) and test.difference == pytest.approx(scores[:3, 0].mean() - scores[3:, 0].mean())
    apart = compare_nets(found(first, scores, (1, 2)), found(second, scores, (0,)))
    assert apart.seeds is None
    assert apart.difference == pytest.approx(scores[:3, 1:].mean() - scores[3:, 0].mean())


def test_two_nets_a_side_are_too_few_however_often_they_were_found():
    for scores, _ in zip(true_nulls(4), range(20), strict=False):
        test = compare_nets(found([0, 0, 0, 1], scores), found([2, 2, 2, 3], scores))
        assert (test.first_nets, test.second_nets, test.p, test.t, test.interval) == (2, 2, None, None, None)
        assert test.difference == pytest.approx(scores[:2].mean() - scores[2:].mean())
        assert test.too_few == "2 nets: too few for a test"
    one = compare_nets(found([0], scores), found([1, 2, 3], scores))
    assert one.p is None and one.too_few == "1 net: too few for a test"


def test_the_test_is_welchs_over_means_of_nets():
    scores = next(true_nulls(7))
    test = compare_nets(found([0, 0, 1, 2], scores), found([3, 4, 5, 6, 6, 6], scores))
    means = scores.mean(1)
    expected = stats.ttest_ind(means[:3], means[3:], equal_var=False)
    assert (test.t, test.df, test.p) == pytest.approx((expected.statistic, expected.df, expected.pvalue))
    assert test.interval == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert test.difference == pytest.approx(means[:3].mean() - means[3:].mean()) and test.too_few is None


def test_what_both_found_is_left_out():
    scores = next(true_nulls(7))
    test = compare_nets(found([0, 1, 2, 3, 3], scores), found([3, 4, 5, 6], scores))
    without = compare_nets(found([0, 1, 2], scores), found([4, 5, 6], scores))
    assert (test.first_nets, test.second_nets, test.shared, test.p) == (3, 3, 1, without.p)
    same = compare_nets(found([0, 1, 1], scores), found([1, 0], scores))
    assert (same.first_nets, same.shared, same.difference, same.p) == (0, 2, None, None)
    assert same.too_few == "0 nets: too few for a test"


def test_nets_without_spread_have_no_p():
    same = compare_nets([(n, {0: 1.0}) for n in range(3)], [(n, {0: 3.0}) for n in range(3, 6)])
    assert (same.difference, same.p, same.too_few) == (-2, None, None)
    assert same.interval is None
    rounded = list(
        enumerate([{0: 0.1, 1: 0.2}, {0: 0.2, 1: 0.1}, {0: 0.15, 1: 0.15}])
    )  # their means differ in the last digit
    assert compare_nets(rounded, [(n, {0: 1.0, 1: 1.0}) for n in range(3, 6)]).p is None


@pytest.mark.filterwarnings("error")
def test_one_side_without_spread_is_no_warning():
    assert compare_nets([(n, {0: 1.0}) for n in range(3)], [(n, {0: float(n)}) for n in range(3, 6)]).p < 0.1


def test_repeats_of_a_net_are_averaged_seed_by_seed():
    assert by_net([("a", {0: 1.0, 1: 2.0}), ("b", {0: 5.0}), ("a", {0: 3.0})]) == {
        "a": {0: 2.0, 1: 2.0},
        "b": {0: 5.0},
    }


def test_an_interval_holds_the_mean_in_95_of_100():
    values = np.random.default_rng(0).normal(3, 2, size=(SIMULATIONS, 4))
    holds = [low < 3 < high for low, high in map(interval, values.tolist())]
    assert 0.94 < np.mean(holds) < 0.96
    one = values[0]
    half = stats.t.ppf(0.975, 3) * one.std(ddof=1) / 2
    assert interval(one.tolist()) == pytest.approx((one.mean() - half, one.mean() + half))
    assert interval([1.0]) is None and interval([]) is None and interval([2.0, 2.0]) == (2.0, 2.0)
