"""Configuration of the compact Llama, Mistral, Qwen2 or Qwen3: layers may differ. Travels with checkpoints as remote code,
so it stands alone."""

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig


@strict
class TangleLlamaConfig(LlamaConfig):
    """A `LlamaConfig` whose layers may have their own `num_attention_heads`, `num_key_value_heads` and `intermediate_size`
    through `per_layer_config`. With the settings below it is a Mistral (none), a Qwen2 or a Qwen3 as well.

    Heads are `head_dim` wide in every layer, and `num_attention_heads * head_dim` may be any number.

    Args:
        attention_bias: Whether the projections of attention have biases, as in `LlamaConfig`; Qwen2 True.
        attention_output_bias: Whether the output projection has one; as `attention_bias` if None; Qwen2 False.
        query_key_norm: Whether q and k pass an RMS norm over `head_dim` units that all heads of a layer share; Qwen3 True.

    Raises:
        ValueError: The query heads of a layer are no multiple of its key-value heads.
    """

    model_type = "tangle_llama"

    attention_output_bias: bool | None = None
    query_key_norm: bool = False

    def __post_init__(self, **kwargs):
        if self.attention_output_bias is None:
            self.attention_output_bias = self.attention_bias
        super().__post_init__(**kwargs)

    def validate_architecture(self):
        """A whole number of query heads to each key-value head in every layer."""
        layers = self.per_layer_config if getattr(self, "is_heterogeneous", False) else [self]
        for number, layer in enumerate(layers):
            heads, groups = layer.num_attention_heads, layer.num_key_value_heads
            if groups < 1 or heads % groups:
                raise ValueError(
                    f"layer {number} has num_attention_heads={heads}, which is no multiple of num_key_value_heads={groups}"
                )

    def to_dict(self):
        return with_base_model(super().to_dict())


def with_base_model(data):
    """A config's fields, with the base model for `AutoModel` beside the class with a head: one file holds both."""
    auto_map = data.get("auto_map") or {}
    head = auto_map.get("AutoModelForCausalLM")
    if head is None or "AutoModel" in auto_map:
        return data
    base = head.replace("TangleLlamaForCausalLM", "TangleLlamaModel")
    return {**data, "auto_map": {**auto_map, "AutoModel": base}}


__all__ = ["TangleLlamaConfig"]
