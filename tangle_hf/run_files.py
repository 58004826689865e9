"""What a run has left in its folder, read with errors that name the file."""

import json
from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import yaml


ARCH_PARAMETERS = "arch_parameters.safetensors"  # the logits of a search of one stage
# Settings of every recipe with data that say which these are.
DATA_OPTIONS = ("dataset", "dataset_config", "train_file", "validation_file", "test_file", "text_column", "train_split",
                "validation_split", "test_split", "image_column", "label_column", "classes", "streaming")  # fmt: skip


def supernet_folder(run_dir: str | Path) -> Path:
    """Where the supernet is: `supernet/` of a run, or the folder itself if it is a supernet that was published."""
    run_dir = Path(run_dir)
    return run_dir / "supernet" if (run_dir / "supernet").is_dir() else run_dir


def run_kind(run_dir: str | Path, settings: Mapping[str, Any]) -> str:
    """ "search", "finetune", "compress", "compare", or "table" of trained nets.

    Args:
        run_dir: The run.
        settings: Its `config.yaml`.
    """
    if "method" in settings:
        return "search"
    if "checkpoint" in settings:
        return "compress" if "calibration_examples" in settings else "finetune"
    return "compare" if (Path(run_dir) / "rows").is_dir() else "table"


def data_options(settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> str:
    """The options that give another command the data of a run, with a space in front; nothing for the default data.

    Args:
        settings: Its `config.yaml`.
        defaults: Its `run.json`'s, by which what was not given is left out.
    """
    words = []
    for name in DATA_OPTIONS:
        value = settings.get(name)
        if value in (None, False, []) or value == defaults.get(name):
            continue
        values = [] if value is True else value if isinstance(value, list) else [value]
        words += [f"--{name}", *(quote(str(each)) for each in values)]
    return "".join(f" {word}" for word in words)


def read_settings(run_dir: str | Path) -> dict[str, Any]:
    """The settings of a run, from its `config.yaml`.

    Raises:
        ValueError: It has none, or not one that a run has written.
    """
    path = Path(run_dir) / "config.yaml"
    return _read(path, yaml.safe_load, yaml.YAMLError)


def read_results(path: str | Path) -> dict[str, Any]:
    """What a run has left as JSON, `results.json` and the like.

    Raises:
        ValueError: There is no such file, or not one that a run has written.
    """
    return _read(Path(path), json.loads, json.JSONDecodeError)


def _read(path: Path, parse, damaged: type[Exception]) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"{path.parent} has no {path.name}; give the folder of a run")
    try:
        found = parse(path.read_text(encoding="utf-8"))
    except (damaged, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path} is damaged ({' '.join(str(error).split())}); restore it, or begin again in another folder"
        ) from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is empty or cut off; restore it, or begin again in another folder")
    return _Left(path, found)


class _Left(dict):
    """What a file holds; of a field that it lacks it says which file that is."""

    def __init__(self, path: Path, found: dict[str, Any]):
        super().__init__(found)
        self._path = path

    def __missing__(self, name: str) -> Any:
        raise ValueError(f"{self._path} has no {name!r}; restore it, or begin again in another folder")

    def __reduce__(self):  # copies and other processes
        return _Left, (self._path, dict(self))
