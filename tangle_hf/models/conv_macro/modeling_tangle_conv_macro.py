"""Conv-macro as a plain image classifier.

Travels with checkpoints as remote code, so it imports nothing but torch, transformers and its own configuration.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention
from transformers.utils import can_return_tuple

from .configuration_tangle_conv_macro import TangleConvMacroConfig


class TangleConvMacroForImageClassification(PreTrainedModel):
    """Five convolutions and four linear layers, without norms. New weights are He's (arXiv:1502.01852), biases zero."""

    config: TangleConvMacroConfig
    config_class = TangleConvMacroConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: TangleConvMacroConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        sizes = [config.num_channels, *config.channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)
            for inputs, outputs, kernel in zip(sizes, config.channels, config.kernel_size, strict=False)
        )
        self.convs.append(nn.Conv2d(sizes[-1], config.last_channels, 7, padding=2))
        sizes = [config.last_channels * config.sides[-1] ** 2, *config.hidden_sizes]
        self.hidden = nn.ModuleList(nn.Linear(i, o) for i, o in zip(sizes, config.hidden_sizes, strict=False))
        self.classifier = nn.Linear(sizes[-1], config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            init.zeros_(module.bias)

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor | None = None, labels: Tensor | None = None, **kwargs
    ) -> ImageClassifierOutputWithNoAttention:
        """Classifies images (batch, channels, height, width); with labels (batch,) the output has the loss."""
        logits = self.classify(pixel_values.to(self.classifier.weight.dtype), lambda number, x: self.convs[number](x))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)

    def classify(self, x: Tensor, conv: Callable[[int, Tensor], Tensor]) -> Tensor:
        """The logits, with the convolutions run by `conv(number, input)`."""
        size, expected = tuple(x.shape[-2:]), self.config.image_size
        if size != (expected, expected):
            raise ValueError(f"images are {size}, this model takes {(expected, expected)}; resize them")
        x = F.relu(conv(0, x))
        x = F.max_pool2d(F.relu(conv(1, x)), 2)
        x = F.dropout2d(F.relu(conv(2, x)), self.config.dropout, self.training)
        x = F.relu(conv(3, F.max_pool2d(x, 2)))
        x = F.dropout2d(conv(4, x), self.config.dropout, self.training).flatten(1)
        for layer in self.hidden:
            x = F.relu(layer(x))
        return self.classifier(x)


__all__ = ["TangleConvMacroForImageClassification"]
