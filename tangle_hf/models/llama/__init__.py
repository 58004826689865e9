"""Llama, Mistral, Qwen2 and Qwen3: their supernets (`*elastic*`), the compact exported model (`*tangle*`), and what an
architecture owns (axes)."""

from .configuration_elastic_llama import (
    ElasticLlamaConfig,
    ElasticMistralConfig,
    ElasticQwen2Config,
    ElasticQwen3Config,
)
from .configuration_tangle_llama import TangleLlamaConfig
from .modeling_elastic_llama import (
    ElasticLlamaForCausalLM,
    ElasticMistralForCausalLM,
    ElasticQwen2ForCausalLM,
    ElasticQwen3ForCausalLM,
)
from .modeling_tangle_llama import TangleLlamaForCausalLM, TangleLlamaModel


# Whoever saves a compact model ships its two files, so that it loads where this library is not installed.
TangleLlamaConfig.register_for_auto_class()
TangleLlamaModel.register_for_auto_class("AutoModel")
TangleLlamaForCausalLM.register_for_auto_class("AutoModelForCausalLM")

__all__ = [
    "ElasticLlamaConfig",
    "ElasticLlamaForCausalLM",
    "ElasticMistralConfig",
    "ElasticMistralForCausalLM",
    "ElasticQwen2Config",
    "ElasticQwen2ForCausalLM",
    "ElasticQwen3Config",
    "ElasticQwen3ForCausalLM",
    "TangleLlamaConfig",
    "TangleLlamaForCausalLM",
    "TangleLlamaModel",
]
