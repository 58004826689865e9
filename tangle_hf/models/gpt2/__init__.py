"""GPT-2: the supernet (`*elastic*`), the compact exported model (`*tangle*`), and what an architecture owns (axes)."""

from .configuration_elastic_gpt2 import ElasticGPT2Config
from .configuration_tangle_gpt2 import TangleGPT2Config
from .modeling_elastic_gpt2 import ElasticGPT2LMHeadModel
from .modeling_tangle_gpt2 import TangleGPT2ForCausalLM, TangleGPT2Model


__all__ = [
    "ElasticGPT2Config",
    "ElasticGPT2LMHeadModel",
    "TangleGPT2Config",
    "TangleGPT2ForCausalLM",
    "TangleGPT2Model",
]
