"""What the supernets of convolutional nets share: a forward pass that takes a mixture or an architecture."""

from collections.abc import Mapping

from torch import Tensor
from transformers import AutoModelForImageClassification, PreTrainedConfig
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention

from ..space import Architecture
from .supernet import SupernetMixin, check_arguments


class ConvSupernetMixin(SupernetMixin):
    """Comes before the plain classifier in the bases of an `Elastic*` model; a family adds `superposed`.

    Batch norms see every channel in full, whatever the mixture. As the statistics of a channel do not depend on the other
    channels, a one-hot mixture normalises in training as its subnet does. Running statistics are averages over the mixtures
    that were trained and belong to no subnet; `tangle_hf.subnets.recalibration` gives a subnet its own.
    """

    auto_model = AutoModelForImageClassification

    def forward(
        self,
        pixel_values: Tensor | None = None,
        labels: Tensor | None = None,
        *,
        mixture: Mapping[str, Tensor] | None = None,
        arch: Architecture | None = None,
        **kwargs,
    ) -> ImageClassifierOutputWithNoAttention:
        """Runs the largest net, the superposition of all nets (`mixture`), or one subnet (`arch`).

        Args:
            pixel_values: Images (batch, channels, height, width).
            labels: Classes (batch,), or what the loss function takes.
            mixture: Dimension -> shares (rows, K), see `ArchParameters.sample` and `one_hot`.
            arch: The architecture to run single-path, at the cost of the small net.
            **kwargs: As in transformers, without mixture and arch.

        Raises:
            ValueError: Both `mixture` and `arch` are given, or either does not fit the space.
        """
        if mixture is None and arch is None:
            return super().forward(pixel_values, labels, **kwargs)
        check_arguments(mixture, arch, (), kwargs)
        if arch is not None:
            return self._single_path(arch, {"pixel_values": pixel_values, "labels": labels})
        logits = self.superposed(pixel_values.to(self.dtype), self._shares(mixture))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)

    def superposed(self, pixel_values: Tensor, shares: Mapping[str, Tensor]) -> Tensor:
        """The logits under checked shares."""
        raise NotImplementedError


def only_compact(config: PreTrainedConfig, arch: Architecture) -> dict[str, str | None]:
    """Form -> None where an architecture has it, else the reason why not."""
    return {"compact": None, "stock": "transformers has no such class; use the compact form"}
