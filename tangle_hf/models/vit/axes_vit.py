"""The axis table of ViT: what every search dimension owns of every parameter. Everything that slices reads it."""

from ...axes import Axis, AxisTable, ParameterAxes, prefix, whole


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
    qkv_bias: bool = True,
) -> AxisTable:
    """Parameter names of `ViTForImageClassification` -> their axes, for full sizes.

    With `head_dim=None` a head is hidden_size / num_attention_heads wide, and head j < h of the subnet (e, h) owns the
    units `j * (E/h) + [0, e/h)` in each of q, k and v: head-aligned, so that with h fixed narrower nets nest. With a
    fixed `head_dim` (AutoFormer, arXiv:2107.00651, section 3.2) the first h heads are a prefix.

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
        qkv_bias: Whether q, k and v have biases.
    """
    embed = prefix("hidden_size", hidden_size)
    hidden = Axis(("hidden_size", "mlp_ratio"), lambda e, r: ((intermediate_size, slice(round(e * r))),))
    if head_dim is None:
        heads = Axis(
            ("hidden_size", "num_attention_heads"), lambda e, h: ((h, slice(h)), (qkv_width // h, slice(e // h)))
        )
    else:
        heads = Axis(("num_attention_heads",), lambda h: ((qkv_width, slice(h * head_dim)),))
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
        table |= {f"vit.layers.{i}.{name}": ParameterAxes(axes, i) for name, axes in layer.items()}
    table |= {name: ParameterAxes((embed,)) for name in ("vit.layernorm.weight", "vit.layernorm.bias")}
    if num_labels:
        classes = whole(num_labels)
        table |= {"classifier.weight": ParameterAxes((classes, embed)), "classifier.bias": ParameterAxes((classes,))}
    return table
