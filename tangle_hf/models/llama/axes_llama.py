"""The axis table of Llama, Mistral, Qwen2 and Qwen3: what every search dimension owns of every parameter. Everything that
slices reads it."""

from collections.abc import Sequence

from ...axes import Axis, AxisTable, ParameterAxes, prefix, whole
from ..layer_ranks import layer_rank


WIDTH, DEPTH, HIDDEN = "hidden_size", "num_hidden_layers", "intermediate_size"
# Groups of query heads that share a key-value head, and query heads of a group; their product are the query heads.
HEADS = ("num_key_value_heads", "num_key_value_groups")


def llama_axes(
    vocab_size: int,
    num_hidden_layers: int,
    hidden_size: int,
    intermediate_size: int,
    num_key_value_heads: int,
    num_key_value_groups: int,
    head_dim: int,
    attention_bias: bool = False,
    attention_output_bias: bool = False,
    mlp_bias: bool = False,
    query_key_norm: bool = False,
    tied: bool = False,
    layer_ranks: Sequence[int] | None = None,
) -> AxisTable:
    """Parameter names of `LlamaForCausalLM`, which the other three share, -> their axes, for full sizes.

    An architecture owns the first groups, of each of them the first query heads, and heads as a whole: rows of q and columns
    of o are blocks `[(G, slice(g)), (R, slice(r)), (d, slice(d))]`, rows of k and v `[(G, slice(g)), (d, slice(d))]`. The
    frequencies of the rotary positions are buffers that every architecture has.

    Args:
        vocab_size: Tokens.
        num_hidden_layers: Layers.
        hidden_size: Full width E.
        intermediate_size: Full width of the MLP's hidden layer.
        num_key_value_heads: Groups G.
        num_key_value_groups: Query heads of a group, R.
        head_dim: Width of a head, d.
        attention_bias: Whether q, k and v have biases.
        attention_output_bias: Whether o has one.
        mlp_bias: Whether the linear layers of the MLP have biases.
        query_key_norm: Whether q and k are normed.
        tied: Whether the head shares the embedding's weight and is no parameter of its own.
        layer_ranks: Rank of every layer in order of position; the positions if None.
    """
    embed, hidden, head = prefix(WIDTH, hidden_size), prefix(HIDDEN, intermediate_size), whole(head_dim)
    groups, per_group, units = num_key_value_heads, num_key_value_groups, (head_dim, slice(head_dim))
    queries = Axis(HEADS, lambda g, r: ((groups, slice(g)), (per_group, slice(r)), units))
    keys = Axis(HEADS[:1], lambda g: ((groups, slice(g)), units))
    linear = {  # outputs, inputs, whether there is a bias
        "self_attn.q_proj": (queries, embed, attention_bias),
        "self_attn.k_proj": (keys, embed, attention_bias),
        "self_attn.v_proj": (keys, embed, attention_bias),
        "self_attn.o_proj": (embed, queries, attention_output_bias),
        "mlp.gate_proj": (hidden, embed, mlp_bias),
        "mlp.up_proj": (hidden, embed, mlp_bias),
        "mlp.down_proj": (embed, hidden, mlp_bias),
    }
    block = {"input_layernorm.weight": (embed,), "post_attention_layernorm.weight": (embed,)}
    for name, (outputs, inputs, bias) in linear.items():
        block |= {f"{name}.weight": (outputs, inputs)} | ({f"{name}.bias": (outputs,)} if bias else {})
    if query_key_norm:
        block |= {"self_attn.q_norm.weight": (head,), "self_attn.k_norm.weight": (head,)}
    table = {"model.embed_tokens.weight": ParameterAxes((whole(vocab_size), embed))}
    for position in range(num_hidden_layers):
        layer = layer_rank(layer_ranks, position)
        table |= {f"model.layers.{position}.{name}": ParameterAxes(axes, layer) for name, axes in block.items()}
    table["model.norm.weight"] = ParameterAxes((embed,))
    for name in ("inv_freq", "original_inv_freq"):
        table[f"model.rotary_emb.{name}"] = ParameterAxes((whole(head_dim // 2),), buffer=True)
    return table if tied else table | {"lm_head.weight": ParameterAxes((whole(vocab_size), embed))}
