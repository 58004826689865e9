"""GGUF, the net: which architecture of llama.cpp computes it, its sizes, and its tensors under llama.cpp's names."""

from dataclasses import dataclass
from typing import NoReturn

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.pytorch_utils import Conv1D


GPT2 = ("gpt2", "tangle_gpt2")
LLAMA = ("llama", "mistral", "qwen2", "qwen3", "tangle_llama")
INTERLEAVED = ("llama", "deci")  # these rotate channels 2i and 2i + 1 together, transformers i and i + head_dim / 2


@dataclass(frozen=True)
class GgufNet:
    """A net as llama.cpp sees it.

    Args:
        kind: llama.cpp's name of the architecture, `general.architecture` of a file.
        heads: Query heads of each layer.
        groups: Key-value heads of each layer.
        hidden: Hidden units of the MLP of each layer.
        head_dim: Width of a head.
        tensors: llama.cpp's names -> tensors; a tied output matrix is not among them.
    """

    kind: str
    heads: tuple[int, ...]
    groups: tuple[int, ...]
    hidden: tuple[int, ...]
    head_dim: int
    tensors: dict[str, Tensor]


@torch.no_grad()
def gguf_net(model: PreTrainedModel) -> GgufNet:
    """A language model's architecture, sizes and tensors in llama.cpp.

    Equal layers are `gpt2`, `llama` (Llama and Mistral), `qwen2` or `qwen3`. Layers that differ are `deci`, which computes a
    Llama or a Qwen2, or `openelm`, which computes a Qwen3.

    Args:
        model: A GPT-2, Llama, Mistral, Qwen2 or Qwen3 for causal language modelling, stock or compact.

    Raises:
        ValueError: No architecture of llama.cpp computes this net; the message says why.
    """
    if model.config.model_type in GPT2:
        return _gpt2(model)
    if model.config.model_type in LLAMA:
        return _llama(model)
    _refuse(f"llama.cpp reads {', '.join(GPT2 + LLAMA)} from here, and this is a {model.config.model_type}")


def add_sizes(writer, net: GgufNet, model: PreTrainedModel) -> None:
    """Writes the fields that say how large a net is and what it computes.

    Args:
        writer: A `gguf.GGUFWriter` of `net.kind`.
        net: What is written.
        model: Where it comes from.
    """
    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(len(net.hidden))
    writer.add_vocab_size(config.vocab_size)
    writer.add_head_count(_one_or_all(net.heads))
    writer.add_head_count_kv(_one_or_all(net.groups))
    writer.add_feed_forward_length(_one_or_all(net.hidden))
    if net.kind == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(net.head_dim)
    writer.add_value_length(net.head_dim)
    writer.add_rope_dimension_count(net.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])


def _gpt2(model: PreTrainedModel) -> GgufNet:
    config, blocks = model.config, model.transformer.h
    heads = tuple(block.attn.num_heads for block in blocks)
    head_dims = tuple(block.attn.head_dim for block in blocks)
    hidden = tuple(block.mlp.c_fc.nf for block in blocks)
    if len({*zip(heads, head_dims, hidden, strict=True)}) > 1:
        _refuse(
            f"layers differ (n_head {list(heads)}, hidden units {list(hidden)}), and llama.cpp's gpt2 has equal ones; "
            "write the padded form, where the architecture has one, and take its folder"
        )
    if heads[0] * head_dims[0] != config.n_embd:
        _refuse(
            f"llama.cpp's gpt2 wants n_head * head_dim = {heads[0]} * {head_dims[0]} to be n_embd = {config.n_embd}"
        )
    if config.activation_function not in ("gelu_new", "gelu_pytorch_tanh"):
        _refuse(f"llama.cpp's gpt2 has the activation gelu_new, this net {config.activation_function}")
    if not config.scale_attn_weights or config.scale_attn_by_inverse_layer_idx:
        _refuse("llama.cpp's gpt2 scales attention by head_dim^-0.5 in every layer, and this net does not")
    parameters = dict(model.named_parameters())  # what is tied is among them once
    for name, module in model.named_modules():
        if isinstance(module, Conv1D):
            parameters[f"{name}.weight"] = module.weight.T
    return GgufNet("gpt2", heads, heads, hidden, head_dims[0], _renamed("gpt2", len(blocks), parameters))


def _llama(model: PreTrainedModel) -> GgufNet:
    config, layers = model.config, model.model.layers
    parameters = dict(model.named_parameters())
    head_dim = layers[0].self_attn.head_dim
    heads = tuple(layer.self_attn.q_proj.out_features // head_dim for layer in layers)
    groups = tuple(layer.self_attn.k_proj.out_features // head_dim for layer in layers)
    hidden = tuple(layer.mlp.gate_proj.out_features for layer in layers)
    equal = len({*zip(heads, groups, hidden, strict=True)}) == 1
    normed = any(name.endswith("q_norm.weight") for name in parameters)
    biased = sorted({name.split(".")[-2] for name in parameters if name.endswith(".bias")})
    if normed:
        kind = "qwen3" if equal else "openelm"
    elif not equal:
        kind = "deci"
    else:  # llama has all biases and any head_dim, qwen2 is what others expect of a Qwen2
        own = biased == ["k_proj", "q_proj", "v_proj"] and heads[0] * head_dim == config.hidden_size
        kind = "qwen2" if own else "llama"
    window = getattr(config, "sliding_window", None)
    if window is not None and window < config.max_position_embeddings:
        _refuse(f"llama.cpp's {kind} has no sliding window, and sliding_window={window} is shorter than the context")
    if 0 in hidden:
        _refuse("an MLP has no hidden units, and llama.cpp would leave out the attention of that layer, too")
    if config.hidden_act not in ("silu", "swish"):
        _refuse(f"llama.cpp's {kind} has the activation silu, this net {config.hidden_act}")
    if normed and biased:
        _refuse(f"llama.cpp's {kind}, which has the norms of q and k, reads no biases ({', '.join(biased)})")
    if kind == "openelm":
        if "lm_head.weight" in parameters:
            _refuse(
                "layers differ and have norms of q and k, which only llama.cpp's openelm computes, and that ties the "
                "embedding to the output matrix; write the padded form and take its folder"
            )
        for layer in range(len(layers)):
            parts = [parameters.pop(f"model.layers.{layer}.self_attn.{part}_proj.weight") for part in "qkv"]
            parameters[f"transformer.layers.{layer}.attn.qkv_proj.weight"] = torch.cat(parts)  # as OpenELM names it
    if kind in INTERLEAVED:
        for name, tensor in parameters.items():
            if name.split(".")[-2] in ("q_proj", "k_proj"):
                halves = tensor.view(-1, 2, head_dim // 2, *tensor.shape[1:])
                parameters[name] = halves.transpose(1, 2).reshape(tensor.shape)
    tensors = _renamed(kind, len(layers), parameters)
    if (factors := _rotary_factors(config, head_dim)) is not None:
        if kind not in INTERLEAVED:
            _refuse(f"llama.cpp's {kind} reads no rotary scaling {config.rope_parameters['rope_type']!r}")
        tensors["rope_freqs.weight"] = factors
    return GgufNet(kind, heads, groups, hidden, head_dim, tensors)


def _rotary_factors(config: PreTrainedConfig, head_dim: int) -> Tensor | None:
    """What the rotary frequencies theta^(-2i/d) are divided by, of shape (head_dim / 2,); None where it is one.

    From the config: the frequencies of a model in half precision may be rounded.
    """
    given = config.rope_parameters
    kind = given["rope_type"]
    if kind not in ("default", "linear", "llama3") or given.get("partial_rotary_factor", 1.0) != 1.0:
        _refuse(
            f"rotary positions {given} are not among those that are written: default, linear and llama3, of all channels"
        )
    if kind == "default":
        return None
    frequencies, _ = ROPE_INIT_FUNCTIONS[kind](config, torch.device("cpu"))
    return given["rope_theta"] ** (-torch.arange(0, head_dim, 2) / head_dim) / frequencies


def _renamed(kind: str, layers: int, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Parameters under the names that gguf-py has for them.

    Raises:
        ValueError: It has none, so llama.cpp would leave the parameter out.
    """
    import gguf

    number = next(number for number, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    names = gguf.get_tensor_name_map(number, layers)
    renamed = {name: names.get_name(name, (".weight", ".bias")) for name in parameters}
    if unknown := [name for name, new in renamed.items() if new is None]:
        _refuse(f"llama.cpp's {kind} has no place for {', '.join(unknown)}")
    return {renamed[name]: tensor for name, tensor in parameters.items()}


def _one_or_all(sizes: tuple[int, ...]) -> int | list[int]:
    """One number where all layers agree."""
    return sizes[0] if len({*sizes}) == 1 else list(sizes)


def _refuse(reason: str) -> NoReturn:
    raise ValueError(f"this net has no GGUF form: {reason}")
