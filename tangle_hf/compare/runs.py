"""What a comparison reads: finished run folders of one space and one data set, and that data set."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor
from transformers import PreTrainedModel

from .. import evaluation
from ..data import text as text_data
from ..data.images.loading import load_images
from ..data.images.settings import ImageArguments
from ..data.images.splits import split_for_search
from ..data.images.transforms import AugmentationArguments, evaluation_images, training_images, use_soft_targets
from ..models.image_classifiers import checkpoint_processor
from ..models.loading import load_supernet
from ..runs.folder import from_settings
from ..space import Architecture
from ..subnets.recalibration import batch_norms, recalibrate, still_batches


# What supernets of a comparison may differ in: it changes neither their subnets nor how those are trained.
FREE_IN_CONFIG = {"superposition", "sampled_heads", "drop_path_rate", "dtype", "transformers_version"}
FREE_IN_DATA = {"preprocessing_workers", "num_workers"}


@dataclass(frozen=True, eq=False)
class Run:
    """A finished search.

    Args:
        method: What it is called in tables; the runs of one method are its repetitions.
        folder: Its folder, whose name is the run's.
        settings: Its `config.yaml`.
        results: Its `results.json`.
        arch: What it found; None if it trained weights only.
    """

    method: str
    folder: Path
    settings: dict[str, Any]
    results: dict[str, Any]
    arch: Architecture | None

    @property
    def name(self) -> str:
        """Its name in rows."""
        return self.folder.name


@dataclass(frozen=True)
class Data:
    """The data set that all nets are trained and scored on.

    Args:
        metric: Key of the scores that is reported, "loss" or "accuracy".
        example: What FLOPs are counted for: "token" or "image".
        processor: Tokenizer or image processor, to save along.
        train_data: Seed -> training examples.
        score: Model, split, batch size, most batches, `arch=` for a supernet -> scores.
        settle: Net that was cut out, batch size, most batches: gives its batch norms statistics of its own, if it has any.
        sample: Number of batches, batch size -> arguments of forward passes on validation examples.
        sequence_length: Tokens of an example of text.
    """

    metric: str
    example: str
    processor: object
    train_data: Callable[[int], torch.utils.data.Dataset]
    score: Callable[..., dict[str, float]]
    sample: Callable[[int, int], list[dict[str, Tensor]]]
    sequence_length: int | None = None
    settle: Callable[[PreTrainedModel, int, int | None], None] = lambda model, batch_size, most=None: None


def read_runs(given: Sequence[str]) -> list[Run]:
    """Run folders, each as `folder` or `method=folder`.

    Raises:
        ValueError: A folder holds no finished run, two have one name, or they are not of one space and one data set.
    """
    runs = [_read_run(text) for text in given]
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"runs are told apart by the names of their folders, {twice} occur twice; rename one of each")
    for kind, read in {"supernet": _structure, "data": data_settings, "tokenizer": _tokenizer}.items():
        for run in runs[1:]:
            if differing := _differences(read(runs[0]), read(run)):
                raise ValueError(
                    f"{runs[0].folder} and {run.folder} differ in their {kind} ({differing}); compare runs of one space and "
                    "one data set"
                )
    return runs


@lru_cache(maxsize=1)  # one at a time: rows are sorted by run
def supernet_of(folder: Path) -> PreTrainedModel:
    """The supernet of a run, in evaluation mode, its loss fit for soft labels if it classifies images."""
    supernet = load_supernet(folder / "supernet").eval()
    if supernet.main_input_name == "pixel_values":
        use_soft_targets(supernet)
    return supernet


def load_data(run: Run) -> Data:
    """The data of a run, cut into training, validation and test data as its search had them.

    Raises:
        ValueError: As the data modules; the run read a stream.
    """
    if run.settings["streaming"]:
        raise ValueError(f"{run.folder} read a stream; a comparison reads its data many times and needs them at hand")
    if supernet_of(run.folder).main_input_name == "pixel_values":
        return _images(run)
    data = from_settings(text_data.DataArguments, run.settings)
    texts = text_data.load_texts(data)
    data.tokenizer, data.vocab_size = str(run.folder / "supernet"), 0  # the one that the search trained or was given
    tokenizer = text_data.load_tokenizer(data, texts)
    blocks = {name: text_data.pack(text, tokenizer, data, name) for name, text in texts.items()}

    def score(model, split: str, batch_size: int, max_batches: int | None = None, **chosen) -> dict[str, float]:
        return evaluation.perplexity(model, blocks[split], batch_size, max_batches, **chosen)

    def sample(count: int, batch_size: int) -> list[dict[str, Tensor]]:
        loader = torch.utils.data.DataLoader(blocks["validation"], batch_size)
        return [{"input_ids": batch["input_ids"]} for batch in islice(loader, count)]

    return Data("loss", "token", tokenizer, lambda seed: blocks["train"], score, sample, data.block_size)


def data_settings(run: Run) -> dict[str, Any]:
    """Which data a run was of, and how they were made examples."""
    kinds = (ImageArguments, AugmentationArguments, text_data.DataArguments)
    names = {field.name for kind in kinds for field in fields(kind)} - FREE_IN_DATA
    return {name: value for name, value in run.settings.items() if name in names}


def _images(run: Run) -> Data:
    data, augmentation = (from_settings(kind, run.settings) for kind in (ImageArguments, AugmentationArguments))
    size = supernet_of(run.folder).config.image_size
    splits = load_images(data)
    processor = checkpoint_processor(str(run.folder / "supernet"), data, size)
    held_out = {name: evaluation_images(splits[name], data, processor) for name in ("validation", "test")}

    def score(model, split: str, batch_size: int, max_batches: int | None = None, **chosen) -> dict[str, float]:
        return evaluation.accuracy(model, held_out[split], batch_size, max_batches, **chosen)

    def sample(count: int, batch_size: int) -> list[dict[str, Tensor]]:
        loader = torch.utils.data.DataLoader(held_out["validation"], batch_size)
        return [{"pixel_values": batch["pixel_values"]} for batch in islice(loader, count)]

    def train_data(seed: int) -> torch.utils.data.Dataset:
        return training_images(splits["train"], data, augmentation, processor, size, seed)

    def settle(model: PreTrainedModel, batch_size: int, most: int | None = None) -> None:
        if batch_norms(model):
            weights, _ = split_for_search(splits["train"], run.settings["train_portion"], run.settings["seed"])
            count = run.settings["recalibration_batches"]
            own = evaluation_images(weights, data, processor)
            batches = still_batches(own, batch_size, min(count, most or count), run.settings["seed"])
            recalibrate(model, batches)

    return Data("accuracy", "image", processor, train_data, score, sample, settle=settle)


def _read_run(text: str) -> Run:
    label, separator, path = ("", "", text) if Path(text).is_dir() else text.partition("=")
    folder = Path(path or text)
    missing = [name for name in ("config.yaml", "results.json", "supernet") if not (folder / name).exists()]
    if missing:
        raise ValueError(
            f"{folder} is not a finished run: {', '.join(missing)} missing; give a run folder, or method=folder"
        )
    settings = yaml.safe_load((folder / "config.yaml").read_text())
    results = json.loads((folder / "results.json").read_text())
    if not separator:
        form = settings.get("superposition", "inputs")  # convolutional nets have no other
        label = settings["method"] + ("" if form == "inputs" else f" {form}")
    file = folder / "architecture.json"
    arch = Architecture.from_json(file.read_text()) if file.is_file() else None
    return Run(label, folder, settings, results, arch)


def _structure(run: Run) -> dict[str, Any]:
    config = json.loads((run.folder / "supernet" / "config.json").read_text())
    return {name: value for name, value in config.items() if name not in FREE_IN_CONFIG}


def _tokenizer(run: Run) -> dict[str, Any]:
    file = run.folder / "supernet" / "tokenizer.json"
    return {"tokenizer.json": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None}


def _differences(first: dict[str, Any], second: dict[str, Any]) -> str:
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return ", ".join(f"{name}: {first.get(name)!r} and {second.get(name)!r}" for name in names)
