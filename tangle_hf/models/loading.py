"""Models from folders or from the Hub, whatever their family."""

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
)

from .checkpoint_errors import first_lines, load_whole, reading_processor
from .supernet import SupernetMixin


def load_supernet(path: str | Path, revision: str = "main") -> PreTrainedModel:
    """Loads a saved supernet, in float32, with the `Elastic*` class whose stock class its config names.

    Args:
        path: What `save_pretrained` of a supernet wrote, or the name of a repository on the Hub.
        revision: Branch, tag or commit of the repository.

    Raises:
        ValueError: There is no config, it has no search space, or no family of this library has its class.
    """
    return supernet_class(path, revision).from_pretrained(path, revision=revision)


def supernet_class(path: str | Path, revision: str = "main") -> type[PreTrainedModel]:
    """The `Elastic*` class of a saved supernet, whose stock class the config names.

    Args:
        path: What `save_pretrained` of a supernet wrote, or the name of a repository on the Hub.
        revision: Branch, tag or commit of the repository.

    Raises:
        ValueError: There is no config, it has no search space, or no family of this library has its class.
    """
    config = read_config(path, revision)
    if not config.get("space"):
        raise ValueError(f"the model in {path} has no search space; give the folder of a supernet, not of a subnet")
    families = _families()
    known = [families[name] for name in config.get("architectures") or () if name in families]
    if not known:
        raise ValueError(
            f"the model in {path} is a {config.get('architectures')}; there are supernets of {sorted(families)}"
        )
    return known[0]


def transformer_families() -> dict[str, type[PreTrainedModel]]:
    """Name of a stock class -> the supernet of it, of families whose layers write to one residual stream."""
    return {name: family for name, family in _families().items() if family.layer_list is not None}


def _families() -> dict[str, type[PreTrainedModel]]:
    """Name of the class that loads an exported largest net -> the supernet of it."""
    return {base.__name__: family for family in _subclasses(SupernetMixin) for base in family.__bases__[1:]}


def _subclasses(base: type) -> list[type]:
    """All subclasses of a class, direct or not."""
    return [found for child in base.__subclasses__() for found in (child, *_subclasses(child))]


def load_model(path: str | Path) -> PreTrainedModel:
    """Loads a language model or image classifier, stock or compact, in float32 and in evaluation mode.

    Raises:
        ValueError: There is no config, it is one of another kind of model, or the checkpoint lacks weights.
    """
    return load_whole(model_class(path)[0].from_pretrained, path, dtype=torch.float32).eval()


def with_loss(model: PreTrainedModel) -> PreTrainedModel:
    """A language model that names its loss; transformers takes the same one for a GPT-2, but warns that it had to guess."""
    if getattr(model, "loss_type", None) is None:
        model.loss_type = "ForCausalLM"
    return model


def model_class(path: str | Path) -> tuple[type, PreTrainedConfig]:
    """The Auto class that loads a language model or image classifier, and its config.

    Raises:
        ValueError: There is no config, or it is one of another kind of model.
    """
    read_config(path)
    try:
        config = AutoConfig.from_pretrained(path, trust_remote_code=False)
    except (OSError, ValueError, StrictDataclassError) as error:
        reason = first_lines(error)
        raise ValueError(f"the model in {path} is none that transformers and this library know: {reason}") from None
    for mapping, auto_class in (
        (MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM),
        (MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, AutoModelForImageClassification),
    ):
        if type(config) in mapping:
            return auto_class, config
    raise ValueError(f"the model in {path} is a {config.model_type}, neither a language model nor an image classifier")


def load_processor(folder: str | Path):
    """The tokenizer or image processor beside a model, or None if there is none.

    Raises:
        ValueError: It is damaged.
    """
    for name, auto in {"tokenizer_config.json": AutoTokenizer, "preprocessor_config.json": AutoImageProcessor}.items():
        if (Path(folder) / name).is_file():
            with reading_processor(folder):
                return auto.from_pretrained(folder)
    return None


def read_config(path: str | Path, revision: str = "main") -> dict[str, Any]:
    """The fields of a model's `config.json`.

    Raises:
        ValueError: There is none, or it is none of a model.
    """
    if Path(path).exists() and not (Path(path) / "config.json").is_file():
        raise ValueError(f"{path} holds no model: config.json is missing; give a folder that save_pretrained wrote")
    try:
        found = PreTrainedConfig.get_config_dict(path, revision=revision)[0]
    except OSError as error:
        reason = str(error).split("\n")[0]
        raise ValueError(f"{path} holds no model, as a folder or on the Hub: {reason}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no model: config.json is a {type(found).__name__}, no object with fields")
    return found
