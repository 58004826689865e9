"""Configuration of the GPT-2 supernet: a stock `GPT2Config` of the largest sizes that remembers its search space."""

from collections.abc import Callable
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import GPT2Config

from ...axes import AxisTable, ParameterAxes, num_elements
from ...space import SearchSpace
from .axes_gpt2 import gpt2_axes


SUPERPOSITIONS = ("inputs", "weights")


@strict
class ElasticGPT2Config(GPT2Config):
    """Configuration of `ElasticGPT2LMHeadModel`; its JSON is read by stock GPT-2 as the largest architecture.

    Sizes are the largest choices of the space. A dimension the space does not name has one choice, the config's own.

    Args:
        space: Choices of `n_embd`, `n_layer`, `n_head`, `mlp_ratio`.
        head_dim: Fixed width of a head; `n_embd / n_head`, the paper's language space, if None.
        superposition: "inputs" (the mixture enters once, at each consumer's input) or "weights" (arXiv:2312.10440,
            algorithm 2). Both have the same weights and the same one-hot subnets.
        initializer_range: Standard deviation of new weights. Default `0.02 * sqrt(768 / n_embd)`: GPT-2's 0.02 keeps
            narrow nets near the unigram for hundreds of steps.

    Raises:
        ValueError: A width is not divisible by a head count (without `head_dim`), `max(n_head) * head_dim` differs from
            `max(n_embd)` (with it), a ratio gives a fraction of a unit, or a setting of GPT-2 is not supported.
    """

    model_type = "gpt2"

    space: Any = None
    head_dim: int | None = None
    superposition: str = "inputs"
    initializer_range: float | None = None

    def __post_init__(self, **kwargs):
        given = self.space if isinstance(self.space, SearchSpace) else SearchSpace.from_dict(self.space or {"_": 1})
        self.space = self._complete(given)
        largest = self.space.largest
        self.n_embd, self.n_layer = largest.n_embd, largest.n_layer
        self.n_head = max(self.space.choices["n_head"])
        self.n_inner = round(max(self.space.choices["mlp_ratio"]) * self.n_embd)
        if self.initializer_range is None:
            self.initializer_range = 0.02 * (768 / self.n_embd) ** 0.5
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if isinstance(getattr(self, name), int) and getattr(self, name) >= self.vocab_size:
                setattr(self, name, None)
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
            tied=self.tie_word_embeddings,
        )

    def matrix_products(self, sequence_length: int) -> list[tuple[ParameterAxes, Callable[[dict], int]]]:
        """Every matrix product of a forward pass over one sequence: what it depends on, and its FLOPs for given values.

        A linear layer is 2 * tokens * weight elements; attention is two products of tokens^2 * (n_head * head_dim).
        """
        products = []
        for name, entry in self.axes.items():
            if len(entry.axes) == 2 and name.startswith("transformer.h."):
                products.append((entry, lambda v, entry=entry: 2 * sequence_length * num_elements(entry, v)))
            if name.endswith("attn.c_proj.weight"):
                heads = ParameterAxes(entry.axes[:1], entry.layer)
                products.append((heads, lambda v, heads=heads: 4 * sequence_length**2 * num_elements(heads, v)))
        table = self.axes["transformer.wte.weight"]
        return [*products, (table, lambda v: 2 * sequence_length * num_elements(table, v))]

    def to_dict(self) -> dict[str, Any]:
        data = super().to_dict()
        if isinstance(data.get("space"), SearchSpace):
            data["space"] = data["space"].to_dict()
        data["architectures"] = ["GPT2LMHeadModel"]  # what the checkpoint is for everybody without this library
        return data

    def _complete(self, space: SearchSpace) -> SearchSpace:
        """The space with every dimension of GPT-2, in a fixed order."""
        inner = self.n_inner or 4 * self.n_embd
        known = {
            "n_embd": self.n_embd,
            "n_layer": self.n_layer,
            "n_head": self.n_head,
            "mlp_ratio": inner / self.n_embd,
        }
        dimensions = space.to_dict()
        dimensions.pop("_", None)
        if unknown := dimensions.keys() - known.keys():
            raise ValueError(f"{sorted(unknown)} cannot be searched in GPT-2; its dimensions are {list(known)}")
        known["mlp_ratio"] = int(known["mlp_ratio"]) if known["mlp_ratio"].is_integer() else known["mlp_ratio"]
        return SearchSpace.from_dict({name: dimensions.get(name, [size]) for name, size in known.items()})

    def _check(self) -> None:
        choices = self.space.choices
        if self.superposition not in SUPERPOSITIONS:
            raise ValueError(f"superposition={self.superposition!r} is unknown; choose one of {SUPERPOSITIONS}")
        if self.space.per_layer & {"n_embd", "n_layer"}:
            raise ValueError(
                "n_embd and n_layer are one choice for the whole net; only n_head and mlp_ratio can be PerLayer"
            )
        for name in ("n_embd", "n_head"):
            if not all(isinstance(value, int) for value in choices[name]):
                raise ValueError(f"{name} must be whole numbers, got {choices[name]}")
        if self.head_dim is None:
            for width in choices["n_embd"]:
                for heads in choices["n_head"]:
                    if width % heads:
                        raise ValueError(
                            f"n_embd={width} is not divisible by n_head={heads}; choose widths that every head count "
                            "divides, or fix the width of a head with head_dim"
                        )
        elif self.n_head * self.head_dim != self.n_embd:
            raise ValueError(
                f"with a fixed head_dim the largest n_head * head_dim must be the largest n_embd, got {self.n_head} * "
                f"{self.head_dim} = {self.n_head * self.head_dim} and n_embd={self.n_embd}"
            )
        for width in choices["n_embd"]:
            for ratio in choices["mlp_ratio"]:
                if abs(width * ratio - round(width * ratio)) > 1e-9:
                    raise ValueError(
                        f"mlp_ratio={ratio} of n_embd={width} is {width * ratio} hidden units; "
                        "choose ratios that give whole numbers for every width"
                    )
        for name in ("add_cross_attention", "reorder_and_upcast_attn"):
            if getattr(self, name):
                raise ValueError(f"{name}=True is not supported by the GPT-2 supernet; set it to False")


__all__ = ["ElasticGPT2Config"]
