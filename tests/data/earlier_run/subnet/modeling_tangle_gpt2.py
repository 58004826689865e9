"""The compact GPT-2: stock modules whose sizes come from `config.per_layer_config[i]`.

Travels with checkpoints as remote code, so it imports nothing but torch, transformers and its own configuration.
"""

import math

from torch import nn
from transformers import GPT2LMHeadModel, GPT2Model
from transformers import initialization as init
from transformers.models.gpt2.modeling_gpt2 import GPT2MLP, GPT2Attention, GPT2Block, GPT2PreTrainedModel
from transformers.pytorch_utils import Conv1D

from .configuration_tangle_gpt2 import TangleGPT2Config


class TangleGPT2Attention(GPT2Attention):
    """Attention with `n_head` heads of width `head_dim`; their product need not be `n_embd`. Its forward is GPT-2's."""

    def __init__(self, config, layer_idx):
        nn.Module.__init__(self)
        layer = config.per_layer_config[layer_idx]
        # The shared config, not the layer's snapshot: `set_attn_implementation` changes this object only.
        self.config = config
        self.layer_idx = layer_idx
        self.embed_dim = config.n_embd
        self.num_heads, self.head_dim = layer.n_head, layer.head_dim
        self.split_size = self.num_heads * self.head_dim
        self.scaling = self.head_dim**-0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scaling /= layer_idx + 1
        self.reorder_and_upcast_attn = config.reorder_and_upcast_attn
        self.is_cross_attention, self.is_causal = False, True
        self.c_attn = Conv1D(3 * self.split_size, self.embed_dim)
        self.c_proj = Conv1D(self.embed_dim, self.split_size)
        self.attn_dropout = nn.Dropout(config.attn_pdrop)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)


class TangleGPT2Block(GPT2Block):
    """A GPT-2 block with the sizes of its layer."""

    def __init__(self, config, layer_idx):
        super(GPT2Block, self).__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.attn = TangleGPT2Attention(config, layer_idx)
        self.ln_2 = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.mlp = GPT2MLP(config.per_layer_config[layer_idx].n_inner or 4 * config.n_embd, config)
        for part in (self.attn, self.mlp):
            part.c_proj.ends_residual_path = True


class TangleGPT2PreTrainedModel(GPT2PreTrainedModel):
    config: TangleGPT2Config
    _no_split_modules = ["TangleGPT2Block"]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # GPT-2 scales these when it comes to the attention or MLP around them. In custom code, transformers leaves modules out
        # that have no parameters of their own.
        if getattr(module, "ends_residual_path", False):
            std = self.config.initializer_range / math.sqrt(2 * self.config.n_layer)
            init.normal_(module.weight, mean=0.0, std=std)


class TangleGPT2Model(TangleGPT2PreTrainedModel, GPT2Model):
    """GPT-2's transformer over `TangleGPT2Block`s."""

    def __init__(self, config: TangleGPT2Config):
        GPT2PreTrainedModel.__init__(self, config)
        self.embed_dim = config.n_embd
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList([TangleGPT2Block(config, layer) for layer in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self.post_init()


class TangleGPT2ForCausalLM(TangleGPT2PreTrainedModel, GPT2LMHeadModel):
    """GPT-2 language model with layers of different sizes."""

    def __init__(self, config: TangleGPT2Config):
        GPT2PreTrainedModel.__init__(self, config)
        self.transformer = TangleGPT2Model(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()


__all__ = ["TangleGPT2ForCausalLM", "TangleGPT2Model", "TangleGPT2PreTrainedModel"]
