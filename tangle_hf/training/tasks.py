"""What fine-tuning needs to know of a kind of checkpoint: its data, its models, its score."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from .. import evaluation
from ..data import text as text_data
from ..data.images.classes import class_names
from ..data.images.loading import load_images
from ..data.images.settings import ImageArguments, describe
from ..data.images.transforms import AugmentationArguments, evaluation_images, training_images, use_soft_targets
from ..models.checkpoint_errors import reading_checkpoint
from ..models.image_classifiers import (
    check_patches,
    checkpoint_processor,
    from_scratch,
    names_of,
    set_classes,
    set_image_size,
)
from ..settings import parse


# Kind of checkpoint, the first word of the command line -> what loads it.
AUTO_CLASSES = {"vision": "AutoModelForImageClassification", "language": "AutoModelForCausalLM"}


@dataclass(frozen=True)
class Task:
    """A checkpoint together with a downstream data set.

    Args:
        pipeline: Name of the transformers pipeline that runs the result.
        data: What the data are, in a few words for the model card.
        metric: "accuracy" or "perplexity", a key of the scores.
        processor: Image processor or tokenizer, to save along.
        train_data: Seed -> training examples.
        build: Mode, "inherit", "finetune" or "retrain" -> model.
        score: Model, "validation" or "test", batch size -> scores.
    """

    pipeline: str
    data: str
    metric: str
    processor: object
    train_data: Callable[[int], torch.utils.data.Dataset]
    build: Callable[[str], PreTrainedModel]
    score: Callable[[PreTrainedModel, str, int], dict[str, float]]


def vision_task(
    checkpoint: str,
    remote_code: bool,
    modes: list[str],
    data: ImageArguments,
    augmentation: AugmentationArguments,
) -> Task:
    """An image classifier on images.

    Raises:
        ValueError: As the data; the checkpoint is no image classifier, has another number of channels, or is to be
            evaluated as it is on other classes than its own.
    """
    config = _config(checkpoint, remote_code, AUTO_CLASSES["vision"])
    if config.num_channels != data.num_channels:
        raise ValueError(
            f"{checkpoint} takes {config.num_channels} channels, num_channels={data.num_channels}; use --num_channels "
            f"{config.num_channels}"
        )
    splits = load_images(data)
    names, size = class_names(splits), data.image_size or config.image_size
    if "inherit" in modes and names_of(config) != names:
        raise ValueError(
            f"{checkpoint} has classes {names_of(config)[:10]}, the data {names[:10]} ({config.num_labels} and "
            f"{len(names)} in all): as it was cut out it can only tell its own classes apart, in their own order; leave "
            "inherit out of --mode"
        )
    check_patches(size, getattr(config, "patch_size", 1))  # convolutional nets have no patches
    processor = checkpoint_processor(checkpoint, data, size)
    held_out = {name: evaluation_images(splits[name], data, processor) for name in ("validation", "test")}

    def build(mode: str) -> PreTrainedModel:
        if mode == "retrain":
            model = from_scratch(config, names, size, remote_code)
        else:
            with reading_checkpoint("checkpoint", checkpoint):
                model = AutoModelForImageClassification.from_pretrained(checkpoint, trust_remote_code=remote_code)
            set_image_size(model, size)
            set_classes(model, names)
        use_soft_targets(model)
        return model

    return Task(
        "image-classification",
        describe(data),
        "accuracy",
        processor,
        lambda seed: training_images(splits["train"], data, augmentation, processor, size, seed),
        build,
        lambda model, split, batch_size: evaluation.accuracy(model, held_out[split], batch_size),
    )


def language_task(checkpoint: str, remote_code: bool, data: text_data.DataArguments) -> Task:
    """A language model on text; the tokenizer is the checkpoint's unless the data arguments name another.

    Raises:
        ValueError: As the data; the checkpoint is no language model, or has too few positions for a block.
    """
    config = _config(checkpoint, remote_code, AUTO_CLASSES["language"])
    if config.max_position_embeddings < data.block_size:
        raise ValueError(
            f"{checkpoint} has {config.max_position_embeddings} positions, block_size={data.block_size} is more; use "
            f"--block_size {config.max_position_embeddings}"
        )
    data = replace(data, tokenizer=data.tokenizer or checkpoint, vocab_size=config.vocab_size)
    texts = text_data.load_texts(data)
    tokenizer = text_data.load_tokenizer(data, texts)
    blocks = {name: text_data.pack(text, tokenizer, data, name) for name, text in texts.items()}

    def build(mode: str) -> PreTrainedModel:
        if mode == "retrain":
            return AutoModelForCausalLM.from_config(config, trust_remote_code=remote_code)
        with reading_checkpoint("checkpoint", checkpoint):
            return AutoModelForCausalLM.from_pretrained(checkpoint, trust_remote_code=remote_code)

    return Task(
        "text-generation",
        text_data.describe(data),
        "perplexity",
        tokenizer,
        lambda seed: blocks["train"],
        build,
        lambda model, split, batch_size: evaluation.perplexity(model, blocks[split], batch_size),
    )


def _config(checkpoint: str, remote_code: bool, auto_class: str) -> PreTrainedConfig:
    try:
        config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=remote_code)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"checkpoint {checkpoint!r} could not be loaded ({' '.join(str(error).split())}); give a folder that "
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
        ValueError: The first word is neither vision nor language, or as `arguments.parse`.
    """
    kinds = {"vision": (ImageArguments, AugmentationArguments), "language": (text_data.DataArguments,)}
    if argv and argv[0] in ("-h", "--help"):
        print(description)
        raise SystemExit(0)
    if not argv or argv[0] not in kinds:
        raise ValueError(f"the first argument must be vision or language, got {argv[:1]}; as in `{script} vision`")
    return parse(*own, *kinds[argv[0]], argv=argv[1:], description=description)
