"""Evaluation metrics of the `evaluate` library that need no download.

`evaluate.load(name)` fetches a metric's script from the Hub; these are the same kind of object, defined here. Build them
with `keep_in_memory=True` to leave no files in evaluate's cache.
"""

import datasets
import evaluate
import numpy as np


_CITATION = ""


class Perplexity(evaluate.Metric):
    """Perplexity per token of a language model: loss = sum_s nll_s / sum_s tokens_s, perplexity = exp(loss).

    Sequences count by their number of predicted tokens, so that the result does not depend on how the text was batched.

    `compute(predictions, references)`:
        predictions: Summed negative log-likelihood of each sequence, in nats, shape (n,).
        references: Number of predicted tokens of each sequence, at least 1, shape (n,).

    Returns {"loss": nats per token, "perplexity": exp(loss)}; raises ValueError without any sequence or for a sequence
    without predicted tokens.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="loss = sum(nll) / sum(tokens) in nats per token, perplexity = exp(loss)",
            citation=_CITATION,
            inputs_description="predictions: summed negative log-likelihood per sequence; references: its tokens",
            features=datasets.Features(
                {"predictions": datasets.Value("float64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        tokens = np.asarray(references)
        if len(tokens) == 0:
            raise ValueError("perplexity of no sequences; give at least one sum of log-likelihoods and its tokens")
        if tokens.min() < 1:
            raise ValueError(f"a sequence has {tokens.min()} predicted tokens; every sequence needs at least 1")
        loss = float(np.sum(np.asarray(predictions, dtype=np.float64)) / tokens.sum())
        with np.errstate(over="ignore"):  # a diverged model has an infinite perplexity, which is an answer
            return {"loss": loss, "perplexity": float(np.exp(np.float64(loss)))}


class Accuracy(evaluate.Metric):
    """Share of right predictions: accuracy = #(prediction == reference) / n.

    `compute(predictions, references)`:
        predictions: Predicted class of each example, shape (n,).
        references: True class of each example, shape (n,).

    Returns {"accuracy": in [0, 1]}; raises ValueError without any example.
    """

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="accuracy = number of right predictions / number of examples",
            citation=_CITATION,
            inputs_description="predictions: predicted classes; references: true classes",
            features=datasets.Features(
                {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
            ),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        if len(references) == 0:
            raise ValueError("accuracy of no examples; give at least one prediction and its class")
        return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(references)))}
