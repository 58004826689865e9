"""The axis table of ViT: what every search dimension owns of every parameter. Everything that slices reads it."""

from collections.abc import Sequence

from ...axes import AxisTable, ParameterAxes, prefix, whole
from ..layer_ranks import layer_rank
from ..spaces import Names, attention_axis, hidden_axis


NAMES = Names(width="hidden_size", depth="num_hidden_layers", heads="num_attention_heads")


def vit_axes(
    num_channels: int,
    patch_size: tuple[int, int],
    num_patches: int,
    num_labels: int,
    num_hidden_layers: int,
    hidden_size: int,
    intermediate_size: int,
    qkv_width: int,
    head_dim: int | None,
    head_counts: tuple[int, ...] = (),
    layer_ranks: Sequence[int] | None = None,
    qkv_bias: bool = True,
) -> AxisTable:
    """Parameter names of `ViTForImageClassification` -> their axes, for full sizes.

    What a width and a head count own of q, k and v: `tangle_hf.models.spaces.attention_axis`.

    Args:
        num_channels: Channels of the images.
        patch_size: Height and width of a patch, in pixels.
        num_patches: Patches of an image; the class token has a position of its own.
        num_labels: Classes; no classifier if 0.
        num_hidden_layers: Layers.
        hidden_size: Full width E.
        intermediate_size: Full width of the MLP's hidden layer.
        qkv_width: Full width of each of q, k and v; it need not be E.
        head_dim: Fixed width of a head, or None.
        head_counts: Choices of num_attention_heads; needed without `head_dim`.
        layer_ranks: Rank of every layer in order of position; the positions if None.
        qkv_bias: Whether q, k and v have biases.
    """
    embed = prefix("hidden_size", hidden_size)
    hidden = hidden_axis(NAMES, intermediate_size)
    heads = attention_axis(NAMES, qkv_width, head_dim, head_counts)
    layer = {"layernorm_before.weight": (embed,), "layernorm_before.bias": (embed,)}
    for name in ("q_proj", "k_proj", "v_proj"):
        layer |= {f"attention.{name}.weight": (heads, embed)}
        layer |= {f"attention.{name}.bias": (heads,)} if qkv_bias else {}
    layer |= {
        "attention.o_proj.weight": (embed, heads),
        "attention.o_proj.bias": (embed,),
        "layernorm_after.weight": (embed,),
        "layernorm_after.bias": (embed,),
        "mlp.fc1.weight": (hidden, embed),
        "mlp.fc1.bias": (hidden,),
        "mlp.fc2.weight": (embed, hidden),
        "mlp.fc2.bias": (embed,),
    }
    table = {
        "vit.embeddings.cls_token": ParameterAxes((whole(1), whole(1), embed)),
        "vit.embeddings.position_embeddings": ParameterAxes((whole(1), whole(num_patches + 1), embed)),
        "vit.embeddings.patch_embeddings.projection.weight": ParameterAxes(
            (embed, whole(num_channels), *map(whole, patch_size))
        ),
        "vit.embeddings.patch_embeddings.projection.bias": ParameterAxes((embed,)),
    }
    for i in range(num_hidden_layers):
        rank = layer_rank(layer_ranks, i)
        table |= {f"vit.layers.{i}.{name}": ParameterAxes(axes, rank) for name, axes in layer.items()}
    table |= {name: ParameterAxes((embed,)) for name in ("vit.layernorm.weight", "vit.layernorm.bias")}
    if num_labels:
        classes = whole(num_labels)
        table |= {"classifier.weight": ParameterAxes((classes, embed)), "classifier.bias": ParameterAxes((classes,))}
    return table
