"""GPT-2: the supernet (`*elastic*`), the compact exported model (`*tangle*`), and what an architecture owns (axes)."""

from .configuration_elastic_gpt2 import ElasticGPT2Config
from .configuration_tangle_gpt2 import TangleGPT2Config
from .modeling_elastic_gpt2 import ElasticGPT2LMHeadModel
from .modeling_tangle_gpt2 import TangleGPT2ForCausalLM, TangleGPT2Model


# Whoever saves a compact model ships its two files, so that it loads where this library is not installed.
TangleGPT2Config.register_for_auto_class()
TangleGPT2Model.register_for_auto_class("AutoModel")
TangleGPT2ForCausalLM.register_for_auto_class("AutoModelForCausalLM")

__all__ = [
    "ElasticGPT2Config",
    "ElasticGPT2LMHeadModel",
    "TangleGPT2Config",
    "TangleGPT2ForCausalLM",
    "TangleGPT2Model",
]
