"""MobileNetV3 with blocks of different sizes as a plain image classifier.

Travels with checkpoints as remote code, so it imports nothing but torch, transformers and its own configuration.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.modeling_outputs import ImageClassifierOutputWithNoAttention
from transformers.utils import can_return_tuple

from .configuration_tangle_mobilenetv3 import TangleMobileNetV3Config


class ConvNorm(nn.Module):
    """A convolution that keeps the image's size up to its stride, a batch norm and an activation.

    Args:
        config: The model's.
        inputs: Channels.
        outputs: Channels.
        kernel: Kernel size, odd.
        stride: Stride.
        act: Name of the activation; None for none.
        depthwise: Whether every channel has a convolution of its own.
    """

    def __init__(
        self,
        config: TangleMobileNetV3Config,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        stride: int = 1,
        act: str | None = None,
        depthwise: bool = False,
    ):
        super().__init__()
        groups = inputs if depthwise else 1
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, config.batch_norm_eps, config.batch_norm_momentum)
        self.act = nn.Identity() if act is None else _activation(act)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Gates of all channels from their means (arXiv:1709.01507), `x * hardsigmoid(expand(relu(reduce(mean(x)))))`."""

    def __init__(self, channels: int, squeezed: int):
        super().__init__()
        self.reduce = nn.Linear(channels, squeezed)
        self.expand = nn.Linear(squeezed, channels)

    def forward(self, x: Tensor) -> Tensor:
        gates = F.hardsigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3))))))
        return x * gates[:, :, None, None]


class InvertedResidual(nn.Module):
    """Expand, convolve every channel, squeeze-excite, project (arXiv:1905.02244, section 3).

    Args:
        config: The model's.
        inputs: Channels.
        inner: Channels; those of the input, without an expansion, if None.
        outputs: Channels.
        kernel: Kernel size.
        stride: Stride.
        act: Name of the activation.
        squeeze_excite: Whether there is one.
    """

    def __init__(
        self,
        config: TangleMobileNetV3Config,
        inputs: int,
        inner: int | None,
        outputs: int,
        kernel: int,
        stride: int,
        act: str,
        squeeze_excite: bool,
    ):
        super().__init__()
        self.expand = nn.Identity() if inner is None else ConvNorm(config, inputs, inner, act=act)
        inner = inputs if inner is None else inner
        self.depthwise = ConvNorm(config, inner, inner, kernel, stride, act, depthwise=True)
        squeezed = config.squeezed_channels(inner)
        self.squeeze_excite = SqueezeExcite(inner, squeezed) if squeeze_excite else nn.Identity()
        self.project = ConvNorm(config, inner, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.project(self.squeeze_excite(self.depthwise(self.expand(x))))
        return x + out if self.residual else out


class TangleMobileNetV3ForImageClassification(PreTrainedModel):
    """MobileNetV3 with a classifier.

    New weights are drawn as torchvision does for MobileNetV3: convolutions from He's normal distribution (arXiv:1502.01852,
    fan out), linear layers with standard deviation 0.01, batch norms one and zero.
    """

    config: TangleMobileNetV3Config
    config_class = TangleMobileNetV3Config
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: TangleMobileNetV3Config):
        super().__init__(config)
        self.num_labels = config.num_labels
        stem, first, *widths = map(config.width, config.hidden_sizes)
        strides, acts, squeeze = config.strides, config.hidden_acts, config.squeeze_excite
        self.stem = ConvNorm(config, config.num_channels, stem, 3, strides[0], acts[0])
        self.first = InvertedResidual(config, stem, None, first, 3, strides[1], acts[1], squeeze[1])
        kernels, ratios = iter(config.kernel_size), iter(config.expand_ratio)
        self.stages, inputs = nn.ModuleList(), first
        for number, (width, depth) in enumerate(zip(widths, config.depths, strict=True), 2):
            stage = nn.ModuleList()
            for block in range(depth):
                inner = config.inner_channels(inputs, next(ratios))
                stride = strides[number] if block == 0 else 1
                sizes = (inputs, inner, width, next(kernels), stride)
                stage.append(InvertedResidual(config, *sizes, acts[number], squeeze[number]))
                inputs = width
            self.stages.append(stage)
        before, behind = map(config.width, config.head_sizes)
        self.head = ConvNorm(config, inputs, before, act="hardswish")
        self.mix = nn.Linear(before, behind, bias=False)
        self.classifier = nn.Linear(behind, config.num_labels)
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, mode="fan_out")
        elif isinstance(module, nn.Linear):
            init.normal_(module.weight, std=self.config.initializer_range)
            if module.bias is not None:
                init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.running_mean)
            init.ones_(module.running_var)
            init.zeros_(module.num_batches_tracked)

    @can_return_tuple
    def forward(
        self, pixel_values: Tensor | None = None, labels: Tensor | None = None, **kwargs
    ) -> ImageClassifierOutputWithNoAttention:
        """Classifies images (batch, channels, height, width); with labels (batch,) the output has the loss."""
        x = self.first(self.stem(pixel_values.to(self.classifier.weight.dtype)))
        for stage in self.stages:
            for block in stage:
                x = block(x)
        logits = self.classify(x)
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return ImageClassifierOutputWithNoAttention(loss=loss, logits=logits)

    def classify(self, x: Tensor) -> Tensor:
        """The logits of what the last stage gives."""
        x = F.hardswish(self.mix(self.head(x).mean((2, 3))))
        return self.classifier(F.dropout(x, self.config.classifier_dropout_prob, self.training))


def _activation(name: str) -> nn.Module:
    return nn.Hardswish() if name == "hardswish" else ACT2FN[name]


__all__ = ["TangleMobileNetV3ForImageClassification"]
