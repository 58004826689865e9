"""Configuration of the ViT supernet: a stock `ViTConfig` of the largest sizes that remembers its search space."""

from collections.abc import Callable
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import ViTConfig

from ...axes import AxisTable, ParameterAxes
from ..layer_ranks import check_layer_ranks
from ..spaces import check_space, complete_space, mlp_ratio, supernet_dict, widest
from ..transformer_products import transformer_products
from .axes_vit import NAMES, vit_axes


@strict
class ElasticViTConfig(ViTConfig):
    """Configuration of `ElasticViTForImageClassification`; its JSON is read by stock ViT as the largest architecture.

    Sizes are the largest choices of the space. A dimension the space does not name has one choice, the config's own.
    New weights are drawn as in stock ViT, with standard deviation `initializer_range` = 0.02.

    Args:
        space: Choices of `hidden_size`, `num_hidden_layers`, `num_attention_heads`, `mlp_ratio`.
        head_dim: Fixed width of a head (64 in AutoFormer, arXiv:2107.00651), whatever the width of the net: heads *
            head_dim may be any number. `hidden_size / num_attention_heads` if None.
        superposition: "inputs" (the mixture enters once, at each consumer's input) or "weights" (arXiv:2312.10440,
            algorithm 2). Both have the same weights and the same one-hot subnets.
        sampled_heads: In training, attend with one head count per layer, drawn from the shares, instead of all of them:
            an estimator, see `tangle_hf.models.superposed.block_masks`.
        layer_ranks: Rank of every layer in order of position: depth d has the d layers of the lowest ranks, and layer l of an
            architecture is the one of rank l. Default: the positions, so that shallower nets are a prefix.
        drop_path_rate: Stochastic depth under a mixture, in training: probability of the last layer, growing linearly from
            0 at the first (arXiv:1603.09382). Stock ViT has none, so subnets and single paths do without.

    Raises:
        ValueError: The ranks are no order of the layers, a width is not divisible by a head count (without `head_dim`), or
            a ratio gives a fraction of a unit.
    """

    model_type = "vit"
    embedding_parameters = ()  # transformers counts tables of `nn.Embedding` as embeddings, and ViT has none

    space: Any = None
    head_dim: int | None = None
    superposition: str = "inputs"
    sampled_heads: bool = False
    layer_ranks: list[int] | None = None
    drop_path_rate: float = 0.0

    def __post_init__(self, **kwargs):
        sizes = {name: getattr(self, name) for name in NAMES}
        # A size that is given is that of the widest net; the default is four times the default width.
        given = self.intermediate_size != ViTConfig.intermediate_size
        width = widest(self.space, "hidden_size", self.hidden_size) if given else self.hidden_size
        sizes["mlp_ratio"] = mlp_ratio(self.intermediate_size, width)
        self.space = complete_space(self.space, sizes, "ViT")
        largest = {name: choices[-1] for name, choices in self.space.choices.items()}
        check_space(self.space, NAMES, self.head_dim, self.superposition)
        self.hidden_size, self.num_hidden_layers, self.num_attention_heads = (largest[name] for name in NAMES)
        self.layer_ranks = check_layer_ranks(self.layer_ranks, self.num_hidden_layers)
        self.intermediate_size = round(largest["mlp_ratio"] * self.hidden_size)
        super().__post_init__(**kwargs)

    @property
    def patch_shape(self) -> tuple[int, int]:
        """Height and width of a patch, in pixels."""
        return _pair(self.patch_size)

    @property
    def num_patches(self) -> int:
        """Patches of an image; the sequence is one longer, for the class token."""
        (height, width), (down, across) = _pair(self.image_size), self.patch_shape
        return (height // down) * (width // across)

    @property
    def axes(self) -> AxisTable:
        """Which units of which parameter an architecture owns."""
        head_dim = self.head_dim or self.hidden_size // self.num_attention_heads
        return vit_axes(
            num_channels=self.num_channels,
            patch_size=self.patch_shape,
            num_patches=self.num_patches,
            num_labels=self.num_labels,
            num_hidden_layers=self.num_hidden_layers,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            qkv_width=self.num_attention_heads * head_dim,
            head_dim=self.head_dim,
            head_counts=self.space.choices[NAMES.heads],
            layer_ranks=self.layer_ranks,
            qkv_bias=self.qkv_bias,
        )

    def matrix_products(self, sequence_length: int | None = None) -> list[tuple[ParameterAxes, Callable[[dict], int]]]:
        """Every matrix product of a forward pass over one image: what it depends on, and its FLOPs for given values.

        The convolution that cuts the patches is a linear layer over the patches only; the classifier sees one token.

        Args:
            sequence_length: Patches and class token; those of `image_size` if None.
        """
        tokens = sequence_length or self.num_patches + 1
        others = {"vit.embeddings.patch_embeddings.projection.weight": tokens - 1, "classifier.weight": 1}
        return transformer_products(self.axes, tokens, "vit.layers.", ("attention.o_proj.weight", 1), others)

    def to_dict(self) -> dict[str, Any]:
        data = supernet_dict(super().to_dict(), "ViTForImageClassification")
        if data.get("head_dim") is None:
            data.pop("head_dim", None)  # stock ViT takes any value it finds here, None too
        return data


def _pair(size: int | list[int] | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


__all__ = ["ElasticViTConfig"]
