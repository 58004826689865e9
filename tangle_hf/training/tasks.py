"""What fine-tuning needs to know of a kind of checkpoint: its data, its models, its score."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ..data.examples import Examples
from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.settings import ImageArguments
from ..data.text_examples import load_text
from ..data.text_settings import DataArguments, of_checkpoint
from ..models.checkpoint_errors import load_whole, reading_checkpoint
from ..models.loading import with_loss
from ..settings import parse


# Kind of checkpoint, the first word of the command line -> what loads it.
AUTO_CLASSES = {"vision": "AutoModelForImageClassification", "language": "AutoModelForCausalLM"}


@dataclass(frozen=True, eq=False)
class Task:
    """A checkpoint together with a downstream data set.

    Args:
        examples: The data.
        build: Mode, "inherit", "finetune" or "retrain" -> model.
        teacher: Folder or Hub name -> a model that can teach these, in float32.
    """

    examples: Examples
    build: Callable[[str], PreTrainedModel]
    teacher: Callable[[str], PreTrainedModel]


def language_task(checkpoint: str, remote_code: bool, data: DataArguments) -> Task:
    """A language model on text; the tokenizer is the checkpoint's unless the data arguments name another.

    Raises:
        ValueError: The text cannot be read; the checkpoint is no language model, has too few positions for a block, or
            lacks a token of the text.
    """
    config = config_of(checkpoint, remote_code, AUTO_CLASSES["language"])
    _check_positions(checkpoint, config, data)
    examples = load_text(of_checkpoint(data, checkpoint, config.vocab_size), config.vocab_size)

    # Precision is a matter of the training, not of the type that a checkpoint was saved in.
    how = {"trust_remote_code": remote_code, "dtype": torch.float32}

    def build(mode: str) -> PreTrainedModel:
        if mode == "retrain":
            return with_loss(AutoModelForCausalLM.from_config(config, **how))
        with reading_checkpoint("checkpoint", checkpoint):
            load = AutoModelForCausalLM.from_pretrained
            return with_loss(load_whole(load, checkpoint, new_head=mode == "finetune", **how))

    def teacher(name: str) -> PreTrainedModel:
        taught = config_of(name, remote_code, AUTO_CLASSES["language"], "teacher")
        _check_positions(name, taught, data)
        with reading_checkpoint("teacher", name):
            model = with_loss(load_whole(AutoModelForCausalLM.from_pretrained, name, **how))
        _check_vocabulary(name, model.config.vocab_size, config.vocab_size, examples.processor)
        return model

    return Task(examples, build, teacher)


def _check_positions(checkpoint: str, config: PreTrainedConfig, data: DataArguments) -> None:
    positions = getattr(config, "max_position_embeddings", None)  # recurrent nets, and those with ALiBi, have none
    if positions is not None and positions < data.block_size:
        raise ValueError(
            f"{checkpoint} has {positions} positions, block_size={data.block_size} is more; use --block_size {positions}"
        )


def _check_vocabulary(teacher: str, size: int, wanted: int, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuses a teacher of another number of tokens, or whose own tokenizer, if it has one, gives them other numbers."""
    try:
        own = AutoTokenizer.from_pretrained(teacher).get_vocab() or None
    except Exception:  # there is none beside it, which is an error of many types; sizes can be compared still
        own = None
    if size != wanted or (own is not None and own != tokenizer.get_vocab()):
        raise ValueError(
            f"teacher {teacher} has another vocabulary ({size:,} tokens) than the net that is to learn from it ({wanted:,}); "
            "give a teacher with the same tokenizer"
        )


def config_of(checkpoint: str, remote_code: bool, auto_class: str, option: str = "checkpoint") -> PreTrainedConfig:
    """The config of a checkpoint that an Auto class loads.

    Args:
        checkpoint: Folder or Hub name.
        remote_code: Whether code that it brings may run.
        auto_class: Name of the Auto class.
        option: The setting that names the checkpoint.

    Raises:
        ValueError: It cannot be read, or is of another kind of model.
    """
    try:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=remote_code)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise ValueError(
            f"{option} {checkpoint!r} could not be loaded ({' '.join(str(error).split())}); give a folder that "
            "save_pretrained wrote or a Hub name, and --trust_remote_code true if it brings its own code that you have read"
        ) from error
    if not _loads(config, auto_class):
        kinds = [kind for kind, name in AUTO_CLASSES.items() if _loads(config, name)]
        what = (
            f"use `finetune.py {kinds[0]}`"
            if kinds
            else f"`finetune.py` takes {' and '.join(AUTO_CLASSES)} models only"
        )
        raise ValueError(f"{checkpoint} is a {config.model_type}, which {auto_class} does not load; {what}")
    return config


def _loads(config: PreTrainedConfig, auto_class: str) -> bool:
    """Whether an Auto class loads models of a config, perhaps with the code that the checkpoint brings."""
    mapping = {
        "AutoModelForImageClassification": MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
        "AutoModelForCausalLM": MODEL_FOR_CAUSAL_LM_MAPPING,
    }[auto_class]
    return type(config) in mapping or auto_class in getattr(config, "auto_map", {})


def parse_for_kind(argv: list[str], script: str, description: str, *own: type) -> tuple:
    """Settings of a command line whose first word is the kind of checkpoint, which decides on the data arguments.

    Args:
        argv: Arguments without the program's name.
        script: The program's name.
        description: Text above the options in `--help`: the docstring of the calling script.
        own: Its dataclasses.

    Raises:
        ValueError: The first word is neither vision nor language, or an option is unknown or has a wrong value.
    """
    kinds = {"vision": (ImageArguments, AugmentationArguments), "language": (DataArguments,)}
    if argv and argv[0] in ("-h", "--help", "--help_all"):
        print(description)
        raise SystemExit(0)
    if not argv or argv[0] not in kinds:
        raise ValueError(f"the first argument must be vision or language, got {argv[:1]}; as in `{script} vision`")
    return parse(*own, *kinds[argv[0]], argv=argv[1:], description=description)
