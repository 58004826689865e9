"""The literal sums over zero-padded slices that the superposed layers must equal; slow and plain on purpose."""

import math

import torch
from torch.nn import functional as F


def pad_last(x, size):
    return F.pad(x, (0, size - x.shape[-1]))


def layer_norm(x, weight, bias, shares, widths, eps):
    total = 0
    for share, e in zip(shares, widths, strict=True):
        total = total + share * pad_last(F.layer_norm(x[..., :e], (e,), weight[:e], bias[:e], eps), x.shape[-1])
    return total


def linear(x, weight, bias, terms):
    """terms: (share, owned rows, owned columns) of every combination; weight (in, out)."""
    mixed_weight, mixed_bias = torch.zeros_like(weight), torch.zeros_like(bias)
    for share, rows, columns in terms:
        padded = torch.zeros_like(weight)
        padded[rows[:, None], columns[None]] = weight[rows[:, None], columns[None]]
        padded_bias = torch.zeros_like(bias)
        padded_bias[columns] = bias[columns]
        mixed_weight, mixed_bias = mixed_weight + share * padded, mixed_bias + share * padded_bias
    return x @ mixed_weight + mixed_bias


def head_rows(e, counts, full):
    """Units of q (or k, v) that width e owns at head_dim = n_embd / n_head: the first e/L of each of L = lcm(counts) cells."""
    cells = math.lcm(*counts)
    return torch.cat([torch.arange(j * (full // cells), j * (full // cells) + e // cells) for j in range(cells)])


def block_inputs_form(block, x, embed, heads, ratio, widths, counts, ratios):
    """A GPT-2 block under the `inputs` form, head_dim = n_embd / n_head, no dropout."""
    full = x.shape[-1]
    normed = layer_norm(x, block.ln_1.weight, block.ln_1.bias, embed, widths, block.ln_1.eps)
    q, k, v = block.attn.c_attn(normed).split(full, -1)
    mixed = 0
    for share, h in zip(heads, counts, strict=True):
        mask, scale = torch.zeros(full, dtype=x.dtype), 0
        for a, e in zip(embed, widths, strict=True):
            owned = torch.zeros(full, dtype=x.dtype)
            owned[head_rows(e, counts, full)] = 1
            mask, scale = mask + a * owned, scale + a * (e / h) ** -0.5
        d = full // h
        for j in range(h):
            part = slice(j * d, (j + 1) * d)
            scores = (q[..., part] * mask[part] * scale) @ k[..., part].transpose(-1, -2)
            scores = scores.masked_fill(~torch.ones_like(scores, dtype=torch.bool).tril(), float("-inf"))
            out = torch.zeros_like(x)
            out[..., part] = scores.softmax(-1) @ (v[..., part] * mask[part])
            mixed = mixed + share * out
    x = x + block.attn.c_proj(mixed)
    hidden = block.mlp.act(
        block.mlp.c_fc(layer_norm(x, block.ln_2.weight, block.ln_2.bias, embed, widths, block.ln_2.eps))
    )
    masked = 0
    for a, e in zip(embed, widths, strict=True):
        for b, r in zip(ratio, ratios, strict=True):
            masked = masked + a * b * pad_last(hidden[..., : e * r], hidden.shape[-1])
    return x + block.mlp.c_proj(masked)


def block_weights_form(block, x, embed, heads, ratio, widths, counts, ratios):
    """A GPT-2 block under the `weights` form (arXiv:2312.10440, algorithm 2), head_dim = n_embd / n_head, no dropout."""
    full = x.shape[-1]
    normed = layer_norm(x, block.ln_1.weight, block.ln_1.bias, embed, widths, block.ln_1.eps)
    pairs = [
        (a * b, torch.arange(e), head_rows(e, counts, full))
        for a, e in zip(embed, widths, strict=True)
        for b, h in zip(heads, counts, strict=True)
    ]
    fused = [(s, rows, torch.cat([units, units + full, units + 2 * full])) for s, rows, units in pairs]
    q, k, v = linear(normed, block.attn.c_attn.weight, block.attn.c_attn.bias, fused).split(full, -1)
    mixed = 0
    for share, h in zip(heads, counts, strict=True):
        scale = sum(a * (e / h) ** -0.5 for a, e in zip(embed, widths, strict=True))
        split = [t.unflatten(-1, (h, -1)).transpose(1, 2) for t in (q * scale, k, v)]
        mixed = mixed + share * F.scaled_dot_product_attention(*split, is_causal=True, scale=1.0).transpose(
            1, 2
        ).flatten(2)
    back = [(s, units, rows) for s, rows, units in pairs]
    x = x + linear(mixed, block.attn.c_proj.weight, block.attn.c_proj.bias, back)
    normed = layer_norm(x, block.ln_2.weight, block.ln_2.bias, embed, widths, block.ln_2.eps)
    mlp = [
        (a * b, torch.arange(e), torch.arange(e * r))
        for a, e in zip(embed, widths, strict=True)
        for b, r in zip(ratio, ratios, strict=True)
    ]
    hidden = block.mlp.act(linear(normed, block.mlp.c_fc.weight, block.mlp.c_fc.bias, mlp))
    reverse = [(s, columns, rows) for s, rows, columns in mlp]
    return x + linear(hidden, block.mlp.c_proj.weight, block.mlp.c_proj.bias, reverse)


def rms_norm(x, weight, shares, widths, eps):
    total = 0
    for share, e in zip(shares, widths, strict=True):
        total = total + share * pad_last(F.rms_norm(x[..., :e], (e,), weight[:e], eps), x.shape[-1])
    return total


def turned(heads, theta):
    """Rotary positions: the pair (i, i + d/2) of a head of d units at position p is turned by p * theta^(-2i/d)."""
    length, d = heads.shape[-2:]
    angle = torch.arange(length)[:, None] * theta ** (-torch.arange(0, d, 2) / d).double()
    first, second = heads[..., : d // 2], heads[..., d // 2 :]
    return torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()], dim=-1)


def llama_block(block, x, embed, groups, per_group, hidden, choices, theta):
    """A Llama, Mistral, Qwen2 or Qwen3 block, one query head after the other.

    Args:
        embed, groups, per_group, hidden: shares of hidden_size, num_key_value_heads, num_key_value_groups, intermediate_size.
        choices: the choices of these, in this order.
    """
    widths, group_choices, per_group_choices, hidden_choices = choices
    attn, mlp, d = block.self_attn, block.mlp, block.self_attn.head_dim
    normed = rms_norm(x, block.input_layernorm.weight, embed, widths, block.input_layernorm.variance_epsilon)
    query, key, value = attn.q_proj(normed), attn.k_proj(normed), attn.v_proj(normed)
    future = ~torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
    mixed = torch.zeros_like(query)
    for group in range(group_choices[-1]):
        k, v = (t[..., group * d : (group + 1) * d] for t in (key, value))
        if hasattr(attn, "k_norm"):
            k = F.rms_norm(k, (d,), attn.k_norm.weight, attn.k_norm.variance_epsilon)
        for member in range(per_group_choices[-1]):
            head = group * per_group_choices[-1] + member
            units = slice(head * d, (head + 1) * d)
            q = query[..., units]
            if hasattr(attn, "q_norm"):
                q = F.rms_norm(q, (d,), attn.q_norm.weight, attn.q_norm.variance_epsilon)
            scores = turned(q, theta) @ turned(k, theta).transpose(-1, -2) * d**-0.5
            out = scores.masked_fill(future, float("-inf")).softmax(-1) @ v
            for a, g in zip(groups, group_choices, strict=True):
                for b, r in zip(per_group, per_group_choices, strict=True):
                    if group < g and member < r:  # else this net has no such head
                        mixed[..., units] += a * b * out
    x = x + attn.o_proj(mixed)
    eps = block.post_attention_layernorm.variance_epsilon
    normed = rms_norm(x, block.post_attention_layernorm.weight, embed, widths, eps)
    gated = mlp.act_fn(mlp.gate_proj(normed)) * mlp.up_proj(normed)
    masked = sum(
        share * pad_last(gated[..., :h], gated.shape[-1]) for share, h in zip(hidden, hidden_choices, strict=True)
    )
    return x + mlp.down_proj(masked)
