"""The data of a comparison of image classifiers."""

from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel

from .. import evaluation
from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.loading import load_images
from ..data.images.settings import ImageArguments
from ..data.images.splits import split_for_search
from ..data.images.transforms import evaluation_images, training_images
from ..models.image_classifiers import checkpoint_processor
from ..runs.folder import from_settings
from ..subnets.recalibration import batch_norms, recalibrate, still_batches
from .runs import Data, Run, supernet_of


def load_images_of(run: Run) -> Data:
    """The images of a run, as `compare_runs.load_data`."""
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
