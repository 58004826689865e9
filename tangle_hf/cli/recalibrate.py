"""Give a net that was cut out of a run's supernet batch-norm statistics of its own, from the run's training images.

    tangle-hf export runs/front --point 2
    tangle-hf recalibrate --run runs/front --checkpoint runs/front/subnet-2-compact
    tangle-hf recalibrate --run runs/mobilenetv3 --checkpoint runs/mobilenetv3/subnet-max_params-40percent

A search does this for what it finds. `tangle-hf export` and `tangle-hf resolve` have no images: what they cut out keeps the
statistics of the saved supernet, which belong to the net that was found. The folder's weights are replaced; test scores before
and after are printed.
"""

from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import BaseImageProcessor, PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from ..analysis import format_table
from ..data.images.loading import load_images
from ..data.images.settings import ImageArguments
from ..data.images.splits import split_for_search
from ..data.images.transforms import evaluation_images
from ..errors import readable_errors
from ..evaluation import accuracy
from ..models.loading import load_model, load_processor
from ..run_files import read_settings
from ..runs.folder import from_settings
from ..settings import parse
from ..subnets.recalibration import batch_norms, recalibrate, still_batches


WEIGHTS = "model.safetensors"


@dataclass
class RecalibrateArguments:
    """Which net, of which run.

    Raises:
        ValueError: There would be no batches.
    """

    _argument_group_name = "recalibration"

    run: str = field(metadata={"main": True, "help": "folder of the search, whose config.yaml names the images"})
    checkpoint: str = field(
        metadata={"main": True, "help": "folder of the net, as tangle-hf export or resolve wrote it"}
    )
    batches: int | None = field(
        default=None, metadata={"main": True, "help": "training batches; default: as in the search"}
    )

    def __post_init__(self):
        if self.batches is not None and self.batches < 1:
            raise ValueError(f"batches={self.batches} must be at least 1")


def main(arguments: RecalibrateArguments) -> None:
    """Replaces the statistics of the checkpoint."""
    run, folder = Path(arguments.run), Path(arguments.checkpoint)
    disable_progress_bar()
    settings = read_settings(run)
    if "recalibration_batches" not in settings:
        raise ValueError(f"{run} is no search of search_cnn.py; other nets have no batch norms")
    if not (folder / WEIGHTS).is_file():
        raise ValueError(f"{folder} has no {WEIGHTS}; give a folder that tangle-hf export or resolve wrote")
    model = load_model(folder)
    if not batch_norms(model):
        raise ValueError(f"{folder} has no batch norms, and needs no statistics")
    # First, so that a folder that cannot be written is refused before images are read.
    with TemporaryDirectory(prefix=".recalibrated-", dir=folder) as partial:
        rows, count = _replace_statistics(model, settings, arguments.batches, load_processor(folder))
        model.save_pretrained(partial)
        (Path(partial) / WEIGHTS).replace(folder / WEIGHTS)
    print(f"{format_table(rows)}\ntest data; the statistics of up to {count} batches are in {folder}")


def _replace_statistics(
    model: PreTrainedModel, settings: dict[str, Any], batches: int | None, processor: BaseImageProcessor
) -> tuple[list[dict[str, Any]], int]:
    """Test scores before and after, and how many batches there were at most."""
    data = from_settings(ImageArguments, settings)
    splits = load_images(data)
    weights, _ = split_for_search(splits["train"], settings["train_portion"], settings["seed"])
    own, tested = (evaluation_images(images, data, processor) for images in (weights, splits["test"]))
    batch_size, count = settings["per_device_batch_size"], batches or settings["recalibration_batches"]
    rows = [{"statistics": "before", **accuracy(model, tested, batch_size)}]
    recalibrate(model, still_batches(own, batch_size, count, settings["seed"]))
    return [*rows, {"statistics": "its own", **accuracy(model, tested, batch_size)}], count


if __name__ == "__main__":
    with readable_errors():
        main(*parse(RecalibrateArguments, description=__doc__))
