"""Configuration of the compact GPT-2: layers may differ. Travels with checkpoints as remote code, so it stands alone."""

from huggingface_hub.dataclasses import strict
from transformers import GPT2Config


@strict
class TangleGPT2Config(GPT2Config):
    """A `GPT2Config` whose layers may have their own `n_head`, `head_dim` and `n_inner` through `per_layer_config`.

    Args:
        head_dim: Width of one attention head; `n_embd // n_head` if None. q, k and v are `n_head * head_dim` wide.
    """

    model_type = "tangle_gpt2"

    head_dim: int | None = None

    def __post_init__(self, **kwargs):
        if self.head_dim is None:
            self.head_dim = self.n_embd // self.n_head
        super().__post_init__(**kwargs)

    def to_dict(self):
        # Loaders that do not run remote code read per_layer_config with the base class, which knows this name only.
        return {**super().to_dict(), "num_hidden_layers": self.n_layer}


__all__ = ["TangleGPT2Config"]
