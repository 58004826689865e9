"""Train every architecture of a small space, or a random part of it, and write a table of what they reach.

    tangle-hf make_table --space toy_cell --dataset zalando-datasets/fashion_mnist --num_channels 1 \\
        --num_train_epochs 1 --output_dir runs/toy_table
    tangle-hf make_table --space conv_macro --architectures 100 --seeds 0 1 --output_dir runs/macro_table
    accelerate launch recipes/search_cnn.py --space toy_cell --table runs/toy_table/table.jsonl

A line of `table.jsonl` is an architecture, a seed, its parameters and FLOPs, and validation and test scores: the format that
`tangle_hf.data.trained_tables` describes. Continue a stopped run, or add architectures and seeds, with the same command and
--resume.
"""

import json
import random
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from ..cost.counts import flops
from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.classes import class_names
from ..data.images.loading import load_images, resolve_image_size
from ..data.images.soft_targets import use_soft_targets
from ..data.images.transforms import evaluation_images, image_processor, training_images
from ..errors import readable_errors, writing
from ..evaluation import accuracy
from ..files import to_json
from ..messages import progress_bar
from ..models.space_settings import ConvSpaceArguments
from ..runs.conv_spaces import build_supernet
from ..runs.folder import begun, check_run_folder, defaults_of, settings_of
from ..runs.image_search import ConvImageArguments
from ..settings import parse
from ..space import Architecture, SearchSpace
from ..training.trainer import TrainingSettings, train, training_arguments


FREE_ON_RESUME = {
    "resume",
    "output_dir",
    "architectures",
    "seeds",
    "logging_steps",
    "save_steps",
    "dataloader_num_workers",
}


@dataclass
class TableArguments(TrainingSettings):
    """Which architectures to train, and how.

    Raises:
        ValueError: A value is out of its range.
    """

    _argument_group_name = "table"

    architectures: int | None = field(
        default=None,
        metadata={
            "group": "table",
            "main": True,
            "help": "how many architectures to draw at random; default: all of the space",
        },
    )
    order_seed: int = field(default=0, metadata={"help": "seed of the order in which they are trained"})
    seeds: list[int] = field(
        default_factory=lambda: [0], metadata={"main": True, "help": "seeds that each architecture is trained with"}
    )
    num_train_epochs: float = field(default=1.0, metadata={"main": True, "help": "passes over the training data"})
    max_steps: int | None = field(default=None, metadata={"help": "steps; overrides num_train_epochs"})
    output_dir: str = field(default="runs/table", metadata={"main": True, "help": "folder of the table"})
    resume: bool = field(default=False, metadata={"main": True, "help": "continue the table in output_dir"})

    def __post_init__(self):
        super().__post_init__()
        for name in ("architectures", "max_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds={self.seeds} names one twice")
        if not self.seeds or self.num_train_epochs <= 0:
            raise ValueError(f"seeds={self.seeds} needs one, num_train_epochs={self.num_train_epochs} must be above 0")


def main(
    space: ConvSpaceArguments, data: ConvImageArguments, augmentation: AugmentationArguments, settings: TableArguments
) -> None:
    """Trains one net after the other."""
    run_dir = Path(settings.output_dir)
    parts = (space, data, augmentation, settings)
    resolved = settings_of(*parts)
    check_run_folder(run_dir, resolved, settings.resume, FREE_ON_RESUME, defaults_of(*parts))
    if space.table:
        raise ValueError("table has no effect on nets that are trained from scratch; leave it out")
    disable_progress_bar()
    # The settings of Trainer: without `cpu`, processes without a GPU would not see each other and all be the main one.
    state = PartialState(cpu=not torch.accelerator.is_available())
    with state.main_process_first():
        splits = load_images(data)
    names, image_size = class_names(splits), resolve_image_size(data, splits)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    supernet = build_supernet(space, {"num_channels": data.num_channels, "image_size": image_size, **labels})
    processor = image_processor(data, image_size)
    held_out = {name: evaluation_images(splits[name], data, processor) for name in ("validation", "test")}
    table = run_dir / "table.jsonl"
    chosen = list(architectures(supernet.space, settings.architectures, settings.order_seed))
    pairs = [(arch, seed) for arch in chosen for seed in settings.seeds]
    with writing(run_dir), begun(run_dir, resolved, state.is_main_process), ExitStack() as stack:
        with state.main_process_first():
            done = {(json.dumps(row["arch"]), row["seed"]) for row in whole_rows(table)}
        bar = stack.enter_context(progress_bar(len(pairs), "nets", show=state.is_main_process))
        for number, (arch, seed) in enumerate(pairs):
            bar.update(number - bar.n)
            if (arch.to_json(), seed) in done:
                continue
            set_seed(seed)
            model, folder = plain_net(supernet, arch), run_dir / "checkpoints"
            how = training_arguments(settings, "retrain", seed, folder / f"{arch.id}-{seed}", settings.max_steps,
                                     settings.num_train_epochs)  # fmt: skip
            how.disable_tqdm = True  # the table has a bar of its own
            images = training_images(splits["train"], data, augmentation, processor, image_size, seed)
            model = train(model, images, how)
            if state.is_main_process:
                row = {"arch": arch.to_dict(), "seed": seed, "parameters": model.num_parameters()}
                row["flops"] = flops(supernet.space, arch, supernet.config)
                for split, examples in held_out.items():
                    scores = accuracy(model, examples, settings.per_device_batch_size)
                    row |= {f"{split}_{name}": value for name, value in scores.items()}
                line = to_json(row) + "\n"
                with table.open("a") as file:
                    file.write(line)
                shutil.rmtree(folder)
                bar.set_postfix_str(f"test accuracy {row['test_accuracy']:.4f}", refresh=False)
            state.wait_for_everyone()
        bar.update(len(pairs) - bar.n)
    if state.is_main_process:
        print(f"{len(pairs)} nets in {table}")


def architectures(space: SearchSpace, count: int | None, seed: int) -> Iterator[Architecture]:
    """All architectures in a random order, or the first so many different draws."""
    rng = random.Random(seed)
    if count is None or count >= space.size:
        everything = list(space)
        rng.shuffle(everything)
        return iter(everything)
    return islice(_distinct(space, rng), count)


def _distinct(space: SearchSpace, rng: random.Random) -> Iterator[Architecture]:
    seen = set()
    while True:
        arch = space.sample(rng)
        if arch not in seen:
            seen.add(arch)
            yield arch


def plain_net(supernet: PreTrainedModel, arch: Architecture) -> PreTrainedModel:
    """The net of an architecture with new weights, as it is trained: cells with gains, no batch norm behind pooling."""
    net, config = supernet.subnet_skeleton(supernet.config, arch, "compact")
    if hasattr(config, "norm_affine"):
        config.norm_affine, config.pool_norm = True, False
    model = net(config)
    use_soft_targets(model)
    return model


def whole_rows(path: Path) -> list[dict]:
    """The rows of a table; half a line that a killed process left at its end is cut off."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        partial = path.with_name(f".{path.name}")
        partial.write_text(whole)
        partial.rename(path)
    try:
        return [json.loads(line) for line in whole.splitlines()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it, or choose another --output_dir") from None


if __name__ == "__main__":
    with readable_errors():
        main(
            *parse(ConvSpaceArguments, ConvImageArguments, AugmentationArguments, TableArguments, description=__doc__)
        )
