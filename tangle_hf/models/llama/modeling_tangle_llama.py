"""The compact Llama, Mistral, Qwen2 or Qwen3: stock modules whose sizes come from `config.per_layer_config[i]`.

Travels with checkpoints as remote code, so it imports nothing but torch, transformers and its own configuration. Parameters
have the names of all four stock models, which agree.
"""

from torch import nn
from transformers import LlamaForCausalLM, LlamaModel
from transformers.models.llama.modeling_llama import (
    LlamaDecoderLayer,
    LlamaMLP,
    LlamaPreTrainedModel,
    LlamaRMSNorm,
    LlamaRotaryEmbedding,
)
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

from .configuration_tangle_llama import TangleLlamaConfig


class TangleLlamaAttention(Qwen3Attention):
    """Attention with the head counts of its layer. Its forward is Qwen3's, which without norms of q and k is Llama's."""

    def __init__(self, config, layer_idx):
        nn.Module.__init__(self)
        layer, width, bias = config.per_layer_config[layer_idx], config.hidden_size, config.attention_bias
        heads, groups, self.head_dim = layer.num_attention_heads, layer.num_key_value_heads, config.head_dim
        # The shared config, not the layer's snapshot: `set_attn_implementation` changes this object only.
        self.config = config
        self.layer_idx = layer_idx
        self.num_key_value_groups = heads // groups
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_dropout
        self.is_causal, self.sliding_window = True, None
        self.q_proj = nn.Linear(width, heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(width, groups * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(width, groups * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * self.head_dim, width, bias=config.attention_output_bias)
        for name in ("q_norm", "k_norm"):
            normed = config.query_key_norm
            setattr(self, name, LlamaRMSNorm(self.head_dim, eps=config.rms_norm_eps) if normed else nn.Identity())


class TangleLlamaDecoderLayer(LlamaDecoderLayer):
    """A Llama layer with the sizes of its own."""

    def __init__(self, config, layer_idx):
        super(LlamaDecoderLayer, self).__init__()
        self.hidden_size = config.hidden_size
        self.self_attn = TangleLlamaAttention(config, layer_idx)
        self.mlp = LlamaMLP(config.per_layer_config[layer_idx])
        self.mlp.config = config
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)


class TangleLlamaPreTrainedModel(LlamaPreTrainedModel):
    config: TangleLlamaConfig
    _no_split_modules = ["TangleLlamaDecoderLayer"]
    _can_record_outputs = {"hidden_states": TangleLlamaDecoderLayer, "attentions": TangleLlamaAttention}


class TangleLlamaModel(TangleLlamaPreTrainedModel, LlamaModel):
    """Llama's transformer over `TangleLlamaDecoderLayer`s."""

    def __init__(self, config: TangleLlamaConfig):
        LlamaPreTrainedModel.__init__(self, config)
        self.padding_idx = config.pad_token_id
        self.vocab_size = config.vocab_size
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size, self.padding_idx)
        self.layers = nn.ModuleList([TangleLlamaDecoderLayer(config, i) for i in range(config.num_hidden_layers)])
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        # YaRN reads the number of heads before `head_dim`, which makes it unneeded: any layer's will do.
        self.rotary_emb = LlamaRotaryEmbedding(config=config.per_layer_config[0])
        self.gradient_checkpointing = False
        self.post_init()


class TangleLlamaForCausalLM(TangleLlamaPreTrainedModel, LlamaForCausalLM):
    """Llama, Mistral, Qwen2 or Qwen3 language model with layers of different sizes."""

    def __init__(self, config: TangleLlamaConfig):
        LlamaPreTrainedModel.__init__(self, config)
        self.model = TangleLlamaModel(config)
        self.vocab_size = config.vocab_size
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


__all__ = ["TangleLlamaForCausalLM", "TangleLlamaModel", "TangleLlamaPreTrainedModel"]
