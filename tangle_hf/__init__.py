"""Neural architecture search with entangled weights, inside the Hugging Face ecosystem."""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForImageClassification

from .arch_parameters import ArchParameters, Mixture, one_hot
from .cost.counts import expected_flops, expected_num_params, flops, num_params
from .models.cells import (
    ElasticCellsConfig,
    ElasticCellsForImageClassification,
    TangleCellsConfig,
    TangleCellsForImageClassification,
)
from .models.conv_macro import (
    ElasticConvMacroConfig,
    ElasticConvMacroForImageClassification,
    TangleConvMacroConfig,
    TangleConvMacroForImageClassification,
)
from .models.gpt2 import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    TangleGPT2Config,
    TangleGPT2ForCausalLM,
    TangleGPT2Model,
)
from .models.llama import (
    ElasticLlamaConfig,
    ElasticLlamaForCausalLM,
    ElasticMistralConfig,
    ElasticMistralForCausalLM,
    ElasticQwen2Config,
    ElasticQwen2ForCausalLM,
    ElasticQwen3Config,
    ElasticQwen3ForCausalLM,
    TangleLlamaConfig,
    TangleLlamaForCausalLM,
    TangleLlamaModel,
)
from .models.mobilenetv3 import (
    ElasticMobileNetV3Config,
    ElasticMobileNetV3ForImageClassification,
    TangleMobileNetV3Config,
    TangleMobileNetV3ForImageClassification,
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
from .subnets.extraction import extract
from .version import __version__


# With tangle_hf installed, compact checkpoints load through the Auto classes without remote code.
AutoConfig.register("tangle_gpt2", TangleGPT2Config)
AutoModel.register(TangleGPT2Config, TangleGPT2Model)
AutoModelForCausalLM.register(TangleGPT2Config, TangleGPT2ForCausalLM)
AutoConfig.register("tangle_llama", TangleLlamaConfig)
AutoModel.register(TangleLlamaConfig, TangleLlamaModel)
AutoModelForCausalLM.register(TangleLlamaConfig, TangleLlamaForCausalLM)
AutoConfig.register("tangle_vit", TangleViTConfig)
AutoModel.register(TangleViTConfig, TangleViTModel)
AutoModelForImageClassification.register(TangleViTConfig, TangleViTForImageClassification)
for _config, _model in (
    (TangleCellsConfig, TangleCellsForImageClassification),
    (TangleConvMacroConfig, TangleConvMacroForImageClassification),
    (TangleMobileNetV3Config, TangleMobileNetV3ForImageClassification),
):
    AutoConfig.register(_config.model_type, _config)
    AutoModelForImageClassification.register(_config, _model)

__all__ = [
    "__version__",
    "ArchParameters",
    "Architecture",
    "ElasticCellsConfig",
    "ElasticCellsForImageClassification",
    "ElasticConvMacroConfig",
    "ElasticConvMacroForImageClassification",
    "ElasticGPT2Config",
    "ElasticGPT2LMHeadModel",
    "ElasticLlamaConfig",
    "ElasticLlamaForCausalLM",
    "ElasticMistralConfig",
    "ElasticMistralForCausalLM",
    "ElasticMobileNetV3Config",
    "ElasticMobileNetV3ForImageClassification",
    "ElasticQwen2Config",
    "ElasticQwen2ForCausalLM",
    "ElasticQwen3Config",
    "ElasticQwen3ForCausalLM",
    "ElasticViTConfig",
    "ElasticViTForImageClassification",
    "Mixture",
    "PerLayer",
    "SearchSpace",
    "TangleCellsConfig",
    "TangleCellsForImageClassification",
    "TangleConvMacroConfig",
    "TangleConvMacroForImageClassification",
    "TangleGPT2Config",
    "TangleGPT2ForCausalLM",
    "TangleGPT2Model",
    "TangleLlamaConfig",
    "TangleLlamaForCausalLM",
    "TangleLlamaModel",
    "TangleMobileNetV3Config",
    "TangleMobileNetV3ForImageClassification",
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
