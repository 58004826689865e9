"""Metrics are right and need no network."""

import math

import pytest

from tangle_hf.metrics import Accuracy, Perplexity


def test_perplexity_weights_sequences_by_their_tokens():
    scores = Perplexity(keep_in_memory=True).compute(predictions=[2.0, 9.0], references=[1, 4])
    assert scores["loss"] == pytest.approx(11 / 5) and scores["perplexity"] == pytest.approx(math.exp(11 / 5))


def test_perplexity_refuses_sequences_without_tokens():
    with pytest.raises(ValueError, match="at least 1"):
        Perplexity(keep_in_memory=True).compute(predictions=[2.0], references=[0])


def test_accuracy_is_the_share_of_right_answers():
    assert Accuracy(keep_in_memory=True).compute(predictions=[1, 2, 3, 3], references=[1, 2, 0, 3]) == {
        "accuracy": 0.75
    }
