"""The axis table of GPT-2: what every search dimension owns of every parameter. Everything that slices reads it."""

from collections.abc import Sequence

from ...axes import Axis, AxisTable, ParameterAxes, prefix, whole
from ..layer_ranks import layer_rank
from ..spaces import Names, attention_axis, hidden_axis


NAMES = Names(width="n_embd", depth="n_layer", heads="n_head")


def gpt2_axes(
    vocab_size: int,
    n_positions: int,
    n_layer: int,
    n_embd: int,
    n_inner: int,
    qkv_width: int,
    head_dim: int | None,
    head_counts: tuple[int, ...] = (),
    layer_ranks: Sequence[int] | None = None,
    tied: bool = True,
) -> AxisTable:
    """Parameter names of `GPT2LMHeadModel` -> their axes, for full sizes.

    What a width and a head count own of q, k and v: `tangle_hf.models.spaces.attention_axis`.

    Args:
        vocab_size: Tokens.
        n_positions: Longest sequence.
        n_layer: Layers.
        n_embd: Full width E.
        n_inner: Full width of the MLP's hidden layer.
        qkv_width: Full width of each of q, k and v.
        head_dim: Fixed width of a head, or None.
        head_counts: Choices of n_head; needed without `head_dim`.
        layer_ranks: Rank of every layer in order of position; the positions if None.
        tied: Whether the head shares the embedding's weight and is no parameter of its own.
    """
    embed = prefix("n_embd", n_embd)
    hidden = hidden_axis(NAMES, n_inner)
    heads = attention_axis(NAMES, qkv_width, head_dim, head_counts)
    qkv = Axis(heads.dimensions, lambda value: ((3, slice(3)), *heads.block(value)))
    block = {
        "ln_1.weight": (embed,),
        "ln_1.bias": (embed,),
        "attn.c_attn.weight": (embed, qkv),
        "attn.c_attn.bias": (qkv,),
        "attn.c_proj.weight": (heads, embed),
        "attn.c_proj.bias": (embed,),
        "ln_2.weight": (embed,),
        "ln_2.bias": (embed,),
        "mlp.c_fc.weight": (embed, hidden),
        "mlp.c_fc.bias": (hidden,),
        "mlp.c_proj.weight": (hidden, embed),
        "mlp.c_proj.bias": (embed,),
    }
    table = {
        "transformer.wte.weight": ParameterAxes((whole(vocab_size), embed)),
        "transformer.wpe.weight": ParameterAxes((whole(n_positions), embed)),
    }
    for position in range(n_layer):
        layer = layer_rank(layer_ranks, position)
        table |= {f"transformer.h.{position}.{name}": ParameterAxes(axes, layer) for name, axes in block.items()}
    table |= {name: ParameterAxes((embed,)) for name in ("transformer.ln_f.weight", "transformer.ln_f.bias")}
    return table if tied else table | {"lm_head.weight": ParameterAxes((whole(vocab_size), embed))}
