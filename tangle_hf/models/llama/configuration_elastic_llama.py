"""Configurations of the Llama, Mistral, Qwen2 and Qwen3 supernets: stock configs of the largest sizes with a search space."""

from collections.abc import Callable
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

from ...axes import AxisTable, ParameterAxes
from ..layer_ranks import check_layer_ranks
from ..spaces import check_dimensions, complete_space, drop_foreign_tokens, supernet_dict
from ..transformer_products import transformer_products
from .axes_llama import DEPTH, HEADS, HIDDEN, WIDTH, llama_axes


ROPE_TYPES = ("default", "linear", "llama3", "yarn")  # those of others change with the length of the text


class ElasticLlamaConfigMixin:
    """What the configs of the four supernets have in common; comes before the stock config in their bases.

    Sizes are the largest choices of the space. A dimension the space does not name has one choice, the config's own.

    - `hidden_size`, `num_hidden_layers`: one choice for the whole net.
    - `intermediate_size`: hidden units of the MLP, not a ratio.
    - `num_key_value_heads`, `num_key_value_groups`: groups of query heads, and query heads of a group; `num_attention_heads`
      of a net is their product.

    With `layer_ranks`, the rank of every layer in order of position, depth d has the d layers of the lowest ranks, and layer l
    of an architecture is the one of rank l.

    The last three dimensions may be `PerLayer`. `head_dim` is the same in all architectures; `hidden_size /
    num_attention_heads` of the largest one where it is None.

    Raises:
        ValueError: The ranks are no order of the layers, the space has other dimensions or sizes that are no whole numbers,
            the query heads are no multiple of the groups, `head_dim` is odd or cannot be known, or the config has another
            attention than a full or sliding one, rotary positions of another kind than `ROPE_TYPES`, or
            `superposition="weights"`.
    """

    # What counts without embeddings leave out, as transformers does.
    embedding_parameters = ("model.embed_tokens.weight",)
    plain: str  # name of the stock class
    heads_divide_width = False  # whether the stock config refuses other head counts
    fixed_parts: dict[str, bool] = {}  # of `parts`, those that the stock class has whatever its config says

    def __post_init__(self, **kwargs):
        self.space = complete_space(self.space, self._own_sizes(), self.plain.removesuffix("ForCausalLM"))
        if self.superposition != "inputs":
            raise ValueError(
                f"superposition={self.superposition!r} is not available for {self.plain}, which has the form 'inputs' only"
            )
        check_dimensions(self.space, WIDTH, DEPTH, (HIDDEN, *HEADS), (HIDDEN, *HEADS))
        largest = {name: choices[-1] for name, choices in self.space.choices.items()}
        for name in (WIDTH, DEPTH, HIDDEN, "num_key_value_heads"):
            setattr(self, name, largest[name])
        self.num_attention_heads = largest["num_key_value_heads"] * largest["num_key_value_groups"]
        self.layer_ranks = check_layer_ranks(self.layer_ranks, largest[DEPTH])
        self._check_heads()
        drop_foreign_tokens(self)
        if set(getattr(self, "layer_types", None) or ()) == {"full_attention"}:
            self.layer_types = None  # one for each layer, of which the space may have another number
        super().__post_init__(**kwargs)
        self._check_attention()

    @property
    def parts(self) -> dict[str, bool]:
        """Which biases and norms a layer has, by the names that the axis table and the compact config give them."""
        bias = getattr(self, "attention_bias", False)
        found = {"attention_bias": bias, "attention_output_bias": bias, "mlp_bias": getattr(self, "mlp_bias", False)}
        return {**found, "query_key_norm": False, **self.fixed_parts}

    @property
    def axes(self) -> AxisTable:
        """Which units of which parameter an architecture owns."""
        return llama_axes(
            vocab_size=self.vocab_size,
            num_hidden_layers=self.num_hidden_layers,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_key_value_heads=self.num_key_value_heads,
            num_key_value_groups=self.num_attention_heads // self.num_key_value_heads,
            head_dim=self.head_dim,
            layer_ranks=self.layer_ranks,
            tied=self.tie_word_embeddings,
            **self.parts,
        )

    def matrix_products(self, sequence_length: int | None) -> list[tuple[ParameterAxes, Callable[[dict], int]]]:
        """Every matrix product of a forward pass over one sequence: what it depends on, and its FLOPs for given values.

        Raises:
            ValueError: No length is given; text has none of its own.
        """
        if sequence_length is None:
            raise ValueError(
                f"the FLOPs of {self.plain} need a sequence_length; it takes up to {self.max_position_embeddings} tokens"
            )
        head = "model.embed_tokens.weight" if self.tie_word_embeddings else "lm_head.weight"
        output = ("self_attn.o_proj.weight", 1)
        return transformer_products(self.axes, sequence_length, "model.layers.", output, {head: sequence_length})

    @property
    def window(self) -> int | None:
        """Tokens that the narrowest layer attends to, itself among them, or None: all before it.

        A mixture and the path of an architecture attend to all of them, which is the same for texts that are no longer.
        """
        kinds = getattr(self, "layer_types", None)
        slides = kinds is None or "sliding_attention" in kinds
        return getattr(self, "sliding_window", None) if slides else None

    def to_dict(self) -> dict[str, Any]:
        return supernet_dict(super().to_dict(), self.plain)

    def _own_sizes(self) -> dict[str, int]:
        """The config's own size of every dimension; a space that says both numbers of heads asks for none of its heads."""
        given = self.space.to_dict() if hasattr(self.space, "to_dict") else self.space or {}
        heads = self.num_attention_heads
        groups = heads if self.num_key_value_heads is None else self.num_key_value_heads
        if "num_key_value_groups" not in given and (groups < 1 or heads % groups):
            raise ValueError(
                f"num_attention_heads={heads} is no multiple of num_key_value_heads={groups}; every group has equally many "
                "query heads"
            )
        sizes = {name: getattr(self, name) for name in (WIDTH, DEPTH, HIDDEN)}
        return sizes | dict(zip(HEADS, (groups, max(1, heads // max(1, groups))), strict=True))

    def _check_heads(self) -> None:
        heads, width = self.num_attention_heads, self.hidden_size
        if self.heads_divide_width and width % heads:
            raise ValueError(
                f"hidden_size={width} is not divisible by {heads} query heads, which a Llama's config refuses; take "
                "ElasticMistralForCausalLM, which is the same net"
            )
        if self.head_dim is None and width % heads:
            raise ValueError(
                f"hidden_size={width} is not divisible by {heads} query heads (num_key_value_heads * num_key_value_groups); "
                "give the width of a head as head_dim"
            )
        self.head_dim = self.head_dim or width // heads
        if self.head_dim < 2 or self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: rotary positions turn its units in pairs")

    def _check_attention(self) -> None:
        kinds = set(getattr(self, "layer_types", None) or ())
        if kinds - {"full_attention", "sliding_attention"}:
            raise ValueError(
                f"layer_types {sorted(kinds)}: the {self.plain} supernet has full attention, and sliding windows for texts "
                "that are no longer than they are"
            )
        rope = (self.rope_parameters or {}).get("rope_type")
        if rope not in ROPE_TYPES:
            raise ValueError(
                f"rotary positions of the kind {rope!r} are not supported by the {self.plain} supernet; it has {ROPE_TYPES}"
            )


@strict
class ElasticLlamaConfig(ElasticLlamaConfigMixin, LlamaConfig):
    """Configuration of `ElasticLlamaForCausalLM`; its JSON is read by stock Llama as the largest architecture.

    Dimensions and errors: `ElasticLlamaConfigMixin`.

    Args:
        space: Choices of `hidden_size`, `num_hidden_layers`, `intermediate_size`, `num_key_value_heads`,
            `num_key_value_groups`.
        superposition: "inputs": the mixture enters once, at each consumer's input.
        layer_ranks: Which layers a shallower net keeps; the first ones if None.
    """

    plain = "LlamaForCausalLM"
    heads_divide_width = True

    space: Any = None
    superposition: str = "inputs"
    layer_ranks: list[int] | None = None


@strict
class ElasticMistralConfig(ElasticLlamaConfigMixin, MistralConfig):
    """Configuration of `ElasticMistralForCausalLM`; its JSON is read by stock Mistral as the largest architecture.

    Dimensions and errors: `ElasticLlamaConfigMixin`.

    Args:
        space: As in `ElasticLlamaConfig`.
        superposition: "inputs".
        layer_ranks: As in `ElasticLlamaConfig`.
        sliding_window: Tokens that stock attends to; a mixture takes no longer texts. None: all tokens before.
    """

    plain = "MistralForCausalLM"

    space: Any = None
    superposition: str = "inputs"
    layer_ranks: list[int] | None = None
    sliding_window: int | None = None


@strict
class ElasticQwen2Config(ElasticLlamaConfigMixin, Qwen2Config):
    """Configuration of `ElasticQwen2ForCausalLM`; its JSON is read by stock Qwen2 as the largest architecture.

    Dimensions and errors: `ElasticLlamaConfigMixin`.

    Args:
        space: As in `ElasticLlamaConfig`.
        superposition: "inputs".
        layer_ranks: As in `ElasticLlamaConfig`.
        head_dim: Width of a head, which stock Qwen2 reads where its config has it.
    """

    plain = "Qwen2ForCausalLM"
    fixed_parts = {"attention_bias": True, "attention_output_bias": False}

    space: Any = None
    superposition: str = "inputs"
    layer_ranks: list[int] | None = None
    head_dim: int | None = None


@strict
class ElasticQwen3Config(ElasticLlamaConfigMixin, Qwen3Config):
    """Configuration of `ElasticQwen3ForCausalLM`; its JSON is read by stock Qwen3 as the largest architecture.

    Dimensions and errors: `ElasticLlamaConfigMixin`.

    Args:
        space: As in `ElasticLlamaConfig`.
        superposition: "inputs".
        layer_ranks: As in `ElasticLlamaConfig`.
        head_dim: Width of a head; `hidden_size / num_attention_heads` of the largest architecture if None, not stock's 128.
    """

    plain = "Qwen3ForCausalLM"
    fixed_parts = {"query_key_norm": True}

    space: Any = None
    superposition: str = "inputs"
    layer_ranks: list[int] | None = None
    head_dim: int | None = None


__all__ = ["ElasticLlamaConfig", "ElasticMistralConfig", "ElasticQwen2Config", "ElasticQwen3Config"]
