"""Configuration of the GPT-2 supernet: a stock `GPT2Config` of the largest sizes that remembers its search space."""

from collections.abc import Callable
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import GPT2Config

from ...axes import AxisTable, ParameterAxes
from ..layer_ranks import check_layer_ranks
from ..spaces import check_space, complete_space, default_range, drop_foreign_tokens, mlp_ratio, supernet_dict, widest
from ..transformer_products import transformer_products
from .axes_gpt2 import NAMES, gpt2_axes


@strict
class ElasticGPT2Config(GPT2Config):
    """Configuration of `ElasticGPT2LMHeadModel`; its JSON is read by stock GPT-2 as the largest architecture.

    Sizes are the largest choices of the space. A dimension the space does not name has one choice, the config's own.

    Args:
        space: Choices of `n_embd`, `n_layer`, `n_head`, `mlp_ratio`.
        head_dim: Fixed width of a head; `n_embd / n_head`, the paper's language space, if None.
        superposition: "inputs" (the mixture enters once, at each consumer's input) or "weights" (arXiv:2312.10440,
            algorithm 2). Both have the same weights and the same one-hot subnets.
        sampled_heads: In training, attend with one head count per layer, drawn from the shares, instead of all of them:
            an estimator, see `tangle_hf.models.superposed.block_masks`.
        layer_ranks: Rank of every layer in order of position: depth d has the d layers of the lowest ranks, and layer l of an
            architecture is the one of rank l. Default: the positions, so that shallower nets are a prefix.
        initializer_range: Standard deviation of new weights. Default `0.02 * sqrt(768 / n_embd)`: GPT-2's 0.02 keeps
            narrow nets near the unigram for hundreds of steps. A subnet has that of its own width, or the value given.

    Raises:
        ValueError: The ranks are no order of the layers, a width is not divisible by a head count (without `head_dim`),
            `max(n_head) * head_dim` differs from `max(n_embd)` (with it), a ratio gives a fraction of a unit, or a setting
            of GPT-2 is not supported.
    """

    model_type = "gpt2"
    # What counts without embeddings leave out, as transformers does.
    embedding_parameters = ("transformer.wte.weight", "transformer.wpe.weight")

    space: Any = None
    head_dim: int | None = None
    superposition: str = "inputs"
    sampled_heads: bool = False
    layer_ranks: list[int] | None = None
    initializer_range: float | None = None

    def __post_init__(self, **kwargs):
        sizes = {"n_embd": self.n_embd, "n_layer": self.n_layer, "n_head": self.n_head}
        sizes["mlp_ratio"] = mlp_ratio(self.n_inner, widest(self.space, "n_embd", self.n_embd)) if self.n_inner else 4
        self.space = complete_space(self.space, sizes, "GPT-2")
        check_space(self.space, NAMES, self.head_dim, self.superposition)
        largest = {name: choices[-1] for name, choices in self.space.choices.items()}
        self.n_embd, self.n_layer, self.n_head = (largest[name] for name in NAMES)
        self.n_inner = round(largest["mlp_ratio"] * self.n_embd)
        self.layer_ranks = check_layer_ranks(self.layer_ranks, self.n_layer)
        if self.initializer_range is None:
            self.initializer_range = default_range(self.n_embd)
        drop_foreign_tokens(self)
        self._check()
        super().__post_init__(**kwargs)

    @property
    def axes(self) -> AxisTable:
        """Which units of which parameter an architecture owns."""
        return gpt2_axes(
            vocab_size=self.vocab_size,
            n_positions=self.n_positions,
            n_layer=self.n_layer,
            n_embd=self.n_embd,
            n_inner=self.n_inner,
            qkv_width=self.n_embd,
            head_dim=self.head_dim,
            head_counts=self.space.choices["n_head"],
            layer_ranks=self.layer_ranks,
            tied=self.tie_word_embeddings,
        )

    def matrix_products(self, sequence_length: int | None) -> list[tuple[ParameterAxes, Callable[[dict], int]]]:
        """Every matrix product of a forward pass over one sequence: what it depends on, and its FLOPs for given values.

        Raises:
            ValueError: No length is given; text has none of its own.
        """
        if sequence_length is None:
            raise ValueError(f"the FLOPs of GPT-2 need a sequence_length; it takes up to {self.n_positions} tokens")
        table = {"transformer.wte.weight": sequence_length}
        output = ("attn.c_proj.weight", 0)
        return transformer_products(self.axes, sequence_length, "transformer.h.", output, table)

    def to_dict(self) -> dict[str, Any]:
        return supernet_dict(super().to_dict(), "GPT2LMHeadModel")

    def _check(self) -> None:
        if self.head_dim is not None and self.n_head * self.head_dim != self.n_embd:
            raise ValueError(
                f"with a fixed head_dim the largest n_head * head_dim must be the largest n_embd, got {self.n_head} * "
                f"{self.head_dim} = {self.n_head * self.head_dim} and n_embd={self.n_embd}"
            )
        for name in ("add_cross_attention", "reorder_and_upcast_attn"):
            if getattr(self, name):
                raise ValueError(f"{name}=True is not supported by the GPT-2 supernet; set it to False")
        if self.layer_ranks is not None and self.scale_attn_by_inverse_layer_idx:
            raise ValueError(
                "scale_attn_by_inverse_layer_idx=True scales a layer by its position, which layer_ranks change; leave one of "
                "them out"
            )


__all__ = ["ElasticGPT2Config"]
