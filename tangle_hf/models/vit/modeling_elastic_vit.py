"""The ViT supernet: a stock `ViTForImageClassification` of the largest sizes with two more ways to run it.

Without a mixture it is ViT in every respect. `mixture=` runs the superposition of all architectures, `arch=` the subnet
of one. No module remembers either: both are arguments.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from transformers import AutoModelForImageClassification, ViTConfig, ViTForImageClassification
from transformers.modeling_outputs import ImageClassifierOutput

from ...space import Architecture
from ..supernet import SupernetMixin, check_arguments
from ..superposed import block_masks, superposed_layers, superposed_norm
from .axes_vit import NAMES
from .configuration_elastic_vit import ElasticViTConfig
from .subnets_vit import padded_axes, subnet_forms, subnet_skeleton
from .superposed_vit import superposed_block


def sizes(config: ViTConfig) -> dict[str, int]:
    """What a checkpoint and the largest choices must agree on; other heads would regroup a checkpoint's units."""
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    named = {name: getattr(config, name) for name in (*NAMES, "intermediate_size")}
    return named | {"head_dim": head_dim}


class ElasticViTForImageClassification(SupernetMixin, ViTForImageClassification):
    """ViT classifier with entangled weights for every architecture of `config.space`.

    Parameter names and shapes are those of the largest stock ViT, so checkpoints go both ways.
    """

    config: ElasticViTConfig
    config_class = ElasticViTConfig

    stock_config = ViTConfig
    auto_model = AutoModelForImageClassification
    layer_list = "vit.layers"
    tables = {
        "width": ("vit.layers.0.layernorm_before.weight", 0),
        "attention": ("vit.layers.0.attention.o_proj.weight", 1),
        "hidden": ("vit.layers.0.mlp.fc1.weight", 0),
    }
    sizes = staticmethod(sizes)
    subnet_forms = staticmethod(subnet_forms)
    subnet_skeleton = staticmethod(subnet_skeleton)
    padded_axes = staticmethod(padded_axes)
    superposed_block = staticmethod(superposed_block)

    def __init__(self, config: ElasticViTConfig):
        given = config.head_dim
        # Stock attention reads head_dim while it is built, and never again; it does not know None.
        config.head_dim = given or config.hidden_size // config.num_attention_heads
        try:
            super().__init__(config)
        finally:
            config.head_dim = given
        self._read_axes()

    def forward(
        self,
        pixel_values: Tensor | None = None,
        *args,
        labels: Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        mixture: Mapping[str, Tensor] | None = None,
        arch: Architecture | None = None,
        **kwargs,
    ) -> ImageClassifierOutput:
        """Runs the largest net (stock), the superposition of all nets (`mixture`), or one subnet (`arch`).

        Args:
            pixel_values: Images (batch, channels, height, width).
            *args: As in stock ViT (only without mixture and arch).
            labels: Classes (batch,), or targets as stock ViT takes them.
            interpolate_pos_encoding: Whether images may have another size than the config's.
            mixture: Dimension -> shares (rows, K), see `ArchParameters.sample` and `one_hot`.
            arch: The architecture to run single-path, at the cost of the small net.
            **kwargs: As in stock ViT.

        Raises:
            ValueError: Both `mixture` and `arch` are given, either does not fit the space, or an argument of stock ViT is
                passed that the superposition does not take.
        """
        inputs = {"labels": labels, "interpolate_pos_encoding": interpolate_pos_encoding}
        if mixture is None and arch is None:
            given = {name: value for name, value in inputs.items() if value is not None}
            return super().forward(pixel_values, *args, **given, **kwargs)
        check_arguments(mixture, arch, args, kwargs)
        if arch is not None:
            return self._single_path(arch, {"pixel_values": pixel_values, **inputs})
        logits = self._superposed(pixel_values, interpolate_pos_encoding, self._shares(mixture))
        loss = None if labels is None else self.loss_function(labels, logits, self.config)
        return ImageClassifierOutput(loss=loss, logits=logits)

    def _superposed(
        self, pixel_values: Tensor, interpolate_pos_encoding: bool | None, shares: dict[str, Tensor]
    ) -> Tensor:
        stem, config = self.vit, self.config
        masks = block_masks(config, NAMES, self._membership(), shares, sampled=config.sampled_heads and self.training)
        hidden = stem.embeddings(pixel_values.to(self.dtype), interpolate_pos_encoding=bool(interpolate_pos_encoding))
        if config.superposition == "weights":
            hidden = hidden * masks[0].width
        rates = [None] * len(stem.layers)
        if self.training and config.drop_path_rate:
            rates = torch.linspace(0, config.drop_path_rate, len(rates), device=hidden.device).unbind()
        rates = dict(zip(stem.layers, rates, strict=True))

        def run(layer, hidden, mask):
            return self.superposed_block(layer, hidden, mask, config, rates[layer])

        depths = config.space.choices[NAMES.depth], shares[NAMES.depth][0]
        checkpointing = self.is_activation_checkpointing and self.training
        mixed = superposed_layers(stem.layers, run, hidden, masks, *depths, checkpointing, config.layer_ranks)
        mixed = superposed_norm(stem.layernorm, mixed[:, 0], masks[0].widths)
        return self.classifier(mixed * masks[0].width if config.superposition == "weights" else mixed)


__all__ = ["ElasticViTForImageClassification"]
