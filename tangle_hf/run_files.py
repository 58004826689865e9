"""What a run has left in its folder, read with errors that name the file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


ARCH_PARAMETERS = "arch_parameters.safetensors"  # the logits of a search of one stage


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
