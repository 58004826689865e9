"""Neural architecture search with entangled weights, inside the Hugging Face ecosystem."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageClassification

from .arch import ArchParameters, Mixture, one_hot
from .cost import expected_flops, expected_num_params, flops, num_params
from .extract import extract
from .models.gpt2 import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    TangleGPT2Config,
    TangleGPT2ForCausalLM,
    TangleGPT2Model,
)
from .models.vit import (
    ElasticViTConfig,
    ElasticViTForImageClassification,
    TangleViTConfig,
    TangleViTForImageClassification,
    TangleViTModel,
)
from .samplers import sampler
from .space import Architecture, PerLayer, SearchSpace
from .version import __version__


# With tangle_hf installed, compact checkpoints load through the Auto classes without remote code.
AutoConfig.register("tangle_gpt2", TangleGPT2Config)
AutoModel.register(TangleGPT2Config, TangleGPT2Model)
AutoModelForCausalLM.register(TangleGPT2Config, TangleGPT2ForCausalLM)
AutoConfig.register("tangle_vit", TangleViTConfig)
AutoModel.register(TangleViTConfig, TangleViTModel)
AutoModelForImageClassification.register(TangleViTConfig, TangleViTForImageClassification)

__all__ = [
    "__version__",
    "ArchParameters",
    "Architecture",
    "ElasticGPT2Config",
    "ElasticGPT2LMHeadModel",
    "ElasticViTConfig",
    "ElasticViTForImageClassification",
    "Mixture",
    "PerLayer",
    "SearchSpace",
    "TangleGPT2Config",
    "TangleGPT2ForCausalLM",
    "TangleGPT2Model",
    "TangleViTConfig",
    "TangleViTForImageClassification",
    "TangleViTModel",
    "expected_flops",
    "expected_num_params",
    "extract",
    "flops",
    "num_params",
    "one_hot",
    "sampler",
]
