"""What a comparison reads: finished run folders of one space and one data set, and that data set."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..data.examples import Examples
from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.settings import ImageArguments
from ..data.images.soft_targets import use_soft_targets
from ..data.text_settings import DataArguments
from ..models.loading import load_supernet
from ..run_files import read_results, read_settings
from ..runs.data_of_runs import examples_of
from ..space import Architecture
from ..subnets.exports import read_architecture


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
        return self.folder.resolve().name


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


def load_data(run: Run) -> Examples:
    """The data of a run, cut into training, validation and test data as its search had them.

    Raises:
        ValueError: The data cannot be read, or the run read a stream.
    """
    if run.settings["streaming"]:
        raise ValueError(f"{run.folder} read a stream; a comparison reads its data many times and needs them at hand")
    return examples_of(run.folder, run.settings, supernet_of(run.folder))


def data_settings(run: Run) -> dict[str, Any]:
    """Which data a run was of, and how they were made examples."""
    kinds = (ImageArguments, AugmentationArguments, DataArguments)
    names = {field.name for kind in kinds for field in fields(kind)} - FREE_IN_DATA
    return {name: value for name, value in run.settings.items() if name in names}


def _read_run(text: str) -> Run:
    label, separator, path = ("", "", text) if Path(text).is_dir() else text.partition("=")
    folder = Path(path or text)
    missing = [name for name in ("config.yaml", "results.json", "supernet") if not (folder / name).exists()]
    if missing:
        raise ValueError(
            f"{folder} is not a finished run: {', '.join(missing)} missing; give a run folder, or method=folder"
        )
    settings, results = read_settings(folder), read_results(folder / "results.json")
    if not separator:
        form = settings.get("superposition", "inputs")  # convolutional nets have no other
        label = settings["method"] + ("" if form == "inputs" else f" {form}")
    file = folder / "architecture.json"
    arch = read_architecture(file) if file.is_file() else None
    return Run(label, folder, settings, results, arch)


def _structure(run: Run) -> dict[str, Any]:
    config = read_results(run.folder / "supernet" / "config.json")
    return {name: value for name, value in config.items() if name not in FREE_IN_CONFIG}


def _tokenizer(run: Run) -> dict[str, Any]:
    file = run.folder / "supernet" / "tokenizer.json"
    return {"tokenizer.json": hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None}


def _differences(first: dict[str, Any], second: dict[str, Any]) -> str:
    names = [name for name in {**first, **second} if first.get(name) != second.get(name)]
    return ", ".join(f"{name}: {first.get(name)!r} and {second.get(name)!r}" for name in names)
