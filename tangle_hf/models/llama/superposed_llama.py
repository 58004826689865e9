"""One block of Llama, Mistral, Qwen2 or Qwen3 under a mixture. Stock modules, functions over them."""

from collections.abc import Mapping

from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from ...entangle import masked_linear, nested_widths, share_mask
from ..superposed import BlockMasks, by_layer, in_out, superposed_norm
from .axes_llama import HEADS, HIDDEN, WIDTH


def llama_masks(
    config: PreTrainedConfig, tables: Mapping[str, Tensor], shares: Mapping[str, Tensor]
) -> list[BlockMasks]:
    """The masks of every layer, made for all layers at once.

    Args:
        config: The supernet's.
        tables: Membership of the axes `attention`, (K_groups, K_per_group, Q), and `hidden`, (K_hidden, H).
        shares: The mixture.
    """
    widths = nested_widths(config.space.choices[WIDTH], shares[WIDTH][0])
    attention = share_mask(tables["attention"], *(shares[name] for name in HEADS))
    hidden = share_mask(tables["hidden"], shares[HIDDEN])
    rows = (by_layer(mask, config.num_hidden_layers) for mask in (attention, hidden))
    return [BlockMasks(widths, *row) for row in zip(*rows, strict=True)]


def superposed_block(
    block: nn.Module, hidden: Tensor, masks: BlockMasks, attend: Tensor | None, rotary: tuple[Tensor, Tensor]
) -> Tensor:
    """A block on the residual stream (batch, sequence, E) -> (batch, sequence, E).

    Args:
        block: Stock decoder layer of the largest sizes.
        hidden: The residual stream.
        masks: The mixture as this block sees it.
        attend: Mask (batch, 1, sequence, sequence) for SDPA, or None for plain causal attention.
        rotary: Cosine and sine of the rotary positions, (batch or 1, sequence, head_dim) each.
    """
    normed = superposed_norm(block.input_layernorm, hidden, masks.widths)
    hidden = hidden + _attention(block.self_attn, normed, masks.attention, attend, rotary)
    normed, mlp = superposed_norm(block.post_attention_layernorm, hidden, masks.widths), block.mlp
    gated = mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed)
    return hidden + masked_linear(gated, masks.hidden, *in_out(mlp.down_proj))


def _attention(
    attn: nn.Module, x: Tensor, mask: Tensor, attend: Tensor | None, rotary: tuple[Tensor, Tensor]
) -> Tensor:
    """Heads are whole in every architecture, so one attention serves all, and a mask of its outputs is enough."""
    query, key, value = (p(x).unflatten(-1, (-1, attn.head_dim)) for p in (attn.q_proj, attn.k_proj, attn.v_proj))
    if hasattr(attn, "q_norm"):
        query, key = attn.q_norm(query), attn.k_norm(key)
    query, key = apply_rotary_pos_emb(query.transpose(1, 2), key.transpose(1, 2), *rotary)
    dropout = attn.attention_dropout if attn.training else 0.0
    mixed, _ = sdpa_attention_forward(attn, query, key, value.transpose(1, 2), attend, dropout, attn.scaling)
    return masked_linear(mixed.flatten(2), mask, *in_out(attn.o_proj))
