"""The compact ViT: stock modules whose sizes come from `config.per_layer_config[i]`.

Travels with checkpoints as remote code, so it imports nothing but torch, transformers and its own configuration.
"""

from torch import nn
from transformers import ViTForImageClassification, ViTModel
from transformers.models.vit.modeling_vit import ViTEmbeddings, ViTLayer, ViTPooler, ViTPreTrainedModel

from .configuration_tangle_vit import TangleViTConfig


class TangleViTModel(ViTModel):
    """ViT's transformer over layers of their own sizes."""

    config: TangleViTConfig

    def __init__(self, config: TangleViTConfig, add_pooling_layer: bool = True):
        ViTPreTrainedModel.__init__(self, config)
        self.embeddings = ViTEmbeddings(config)
        self.layers = nn.ModuleList(ViTLayer(config.per_layer_config[i]) for i in range(config.num_hidden_layers))
        for layer in self.layers:
            # The shared config, not the layer's snapshot: `set_attn_implementation` changes this object only.
            layer.attention.config = layer.mlp.config = config
        self.layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.pooler = ViTPooler(config) if add_pooling_layer else None
        self.post_init()


class TangleViTForImageClassification(ViTForImageClassification):
    """ViT with a classifier on the class token and layers of different sizes."""

    config: TangleViTConfig

    def __init__(self, config: TangleViTConfig):
        ViTPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.vit = TangleViTModel(config, add_pooling_layer=False)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels) if config.num_labels > 0 else nn.Identity()
        self.post_init()


__all__ = ["TangleViTForImageClassification", "TangleViTModel"]
