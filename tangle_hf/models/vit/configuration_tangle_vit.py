"""Configuration of the compact ViT: layers may differ. Travels with checkpoints as remote code, so it stands alone."""

from huggingface_hub.dataclasses import strict
from transformers import ViTConfig


@strict
class TangleViTConfig(ViTConfig):
    """A `ViTConfig` whose layers may have their own `num_attention_heads`, `head_dim` and `intermediate_size` through
    `per_layer_config`.

    Args:
        head_dim: Width of one attention head; `hidden_size // num_attention_heads` if None. q, k and v are
            `num_attention_heads * head_dim` wide.
    """

    model_type = "tangle_vit"

    head_dim: int | None = None

    def __post_init__(self, **kwargs):
        if self.head_dim is None:
            self.head_dim = self.hidden_size // self.num_attention_heads
        super().__post_init__(**kwargs)

    def to_dict(self):
        return with_base_model(super().to_dict())


def with_base_model(data):
    """A config's fields, with the base model for `AutoModel` beside the class with a head: one file holds both."""
    auto_map = data.get("auto_map") or {}
    head = auto_map.get("AutoModelForImageClassification")
    if head is None or "AutoModel" in auto_map:
        return data
    base = head.replace("TangleViTForImageClassification", "TangleViTModel")
    return {**data, "auto_map": {**auto_map, "AutoModel": base}}


__all__ = ["TangleViTConfig"]
