"""The axis table of GPT-2: what every search dimension owns of every parameter. Everything that slices reads it."""

from math import lcm

from ...axes import Axis, AxisTable, ParameterAxes, prefix, whole


def gpt2_axes(
    vocab_size: int,
    n_positions: int,
    n_layer: int,
    n_embd: int,
    n_inner: int,
    qkv_width: int,
    head_dim: int | None,
    head_counts: tuple[int, ...] = (),
    tied: bool = True,
) -> AxisTable:
    """Parameter names of `GPT2LMHeadModel` -> their axes, for full sizes.

    With `head_dim=None` a head is n_embd / n_head wide. Each of q, k and v is cut into L = lcm(head counts) cells, and
    width e owns the first e/L units of every cell. A head of any count is a run of whole cells, so narrower nets nest,
    and which units a width owns does not depend on the head count. With a fixed `head_dim` the first h heads are a
    prefix.

    Args:
        vocab_size: Tokens.
        n_positions: Longest sequence.
        n_layer: Layers.
        n_embd: Full width E.
        n_inner: Full width of the MLP's hidden layer.
        qkv_width: Full width of each of q, k and v.
        head_dim: Fixed width of a head, or None.
        head_counts: Choices of n_head; needed without `head_dim`.
        tied: Whether the head shares the embedding's weight and is no parameter of its own.
    """
    embed = prefix("n_embd", n_embd)
    hidden = Axis(("n_embd", "mlp_ratio"), lambda e, r: ((n_inner, slice(round(e * r))),))
    if head_dim is None:
        cells = lcm(*head_counts)
        heads = Axis(("n_embd",), lambda e: ((cells, slice(cells)), (qkv_width // cells, slice(e // cells))))
        qkv = Axis(heads.dimensions, lambda e: ((3, slice(3)), *heads.block(e)))
    else:
        heads = Axis(("n_head",), lambda h: ((qkv_width, slice(h * head_dim)),))
        qkv = Axis(heads.dimensions, lambda h: ((3, slice(3)), *heads.block(h)))
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
    for layer in range(n_layer):
        table |= {f"transformer.h.{layer}.{name}": ParameterAxes(axes, layer) for name, axes in block.items()}
    table |= {name: ParameterAxes((embed,)) for name in ("transformer.ln_f.weight", "transformer.ln_f.bias")}
    return table if tied else table | {"lm_head.weight": ParameterAxes((whole(vocab_size), embed))}
