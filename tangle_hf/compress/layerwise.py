"""A teacher layer by layer: a net learns the residual stream of the checkpoint, beside its outputs (arXiv:1412.6550)::

    loss = what `Teacher.loss` says + weight * mean over layers k of mean (x_k - t_k)^2 / Var[t_k]

x_k is the stream behind layer k of the net, t_k that of the checkpoint in front of the next layer that the net has, or at its
end where there is none. Both are as wide, since the residual width stays, and the checkpoint computes it anyway.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from ..search.distillation import IGNORED, Teacher


class LayerwiseTeacher(Teacher):
    """A checkpoint whose streams are learned with its outputs.

    Args:
        model: The checkpoint, a supernet.
        share: Of the divergence in the loss, above 0 and at most 1.
        temperature: Of the divergence, above 0.
        weight: Of the streams, at least 0.
    """

    def __init__(self, model: PreTrainedModel, share: float, temperature: float, weight: float):
        super().__init__(model, share, temperature)
        self.weight, self._ends = weight, []
        if weight:
            self.asks = {"output_hidden_states": True}

    def follow(self, layers: Sequence[int]) -> None:
        """Says which layers of the checkpoint the net has that learns from now on, ascending."""
        self._ends = [*layers[1:], self.model.space.max_depth]

    def loss(
        self,
        output: ModelOutput,
        batch: Mapping[str, Tensor],
        logits: Tensor | None = None,
        count=None,
        scale: float = 1.0,
    ) -> Tensor:
        """What a net is trained on; without its streams, as under a mixture, its outputs alone.

        Args:
            output: The net's, with its loss on the labels, and its streams.
            batch: What it was computed from, with labels.
            logits: Not taken, as streams are needed, too.
            count: See `distillation_loss`.
            scale: What the divergence is multiplied by, where the labels' loss is.

        Raises:
            ValueError: Streams were asked for, and there are none.
        """
        streams = output.get("hidden_states")
        if streams is None and "output_hidden_states" in batch:
            raise ValueError(
                "the net gives no hidden states, by which the checkpoint would teach it; use --layer_weight 0"
            )
        if not self.weight or streams is None:
            return super().loss(output, batch, logits, count, scale)
        told = self.run({**batch, **self.asks})
        mask = batch.get("attention_mask")
        distances = [
            _distance(own, told.hidden_states[end], mask) for own, end in zip(streams[1:], self._ends, strict=True)
        ]
        own_part = 1.0
        if count is not None:  # predictions of all micro-batches of a step
            own_part = scale * (batch["labels"] != IGNORED).sum() / count
        layers = self.weight * own_part * sum(distances) / len(distances)
        return super().loss(output, batch, told.logits, count, scale) + layers


def _distance(own: Tensor, told: Tensor, mask: Tensor | None) -> Tensor:
    """Mean squared distance of two streams of shape (examples, tokens, width), in units of the variance of the second."""
    if mask is not None:
        own, told = own[mask.bool()], told[mask.bool()]
    own, told = own.float(), told.float()
    return (own - told).square().mean() / told.var()
