"""Supernets from folders, whatever their family."""

import json
from pathlib import Path

from transformers import PreTrainedModel

from .supernet import SupernetMixin


def load_supernet(folder: str | Path) -> PreTrainedModel:
    """Loads a saved supernet with the `Elastic*` class whose stock class its config names.

    Args:
        folder: What `save_pretrained` of a supernet wrote.

    Raises:
        ValueError: There is no config, it has no search space, or no family of this library has its class.
    """
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} holds no model: {path.name} is missing; give the folder of a saved supernet")
    config = json.loads(path.read_text())
    if not config.get("space"):
        raise ValueError(f"the model in {folder} has no search space; give the folder of a supernet, not of a subnet")
    families = {base.__name__: family for family in _subclasses(SupernetMixin) for base in family.__bases__[1:]}
    known = [families[name] for name in config.get("architectures") or () if name in families]
    if not known:
        raise ValueError(
            f"the model in {folder} is a {config.get('architectures')}; there are supernets of {sorted(families)}"
        )
    return known[0].from_pretrained(folder)


def _subclasses(base: type) -> list[type]:
    """All classes below one, whatever stands in between."""
    return [found for child in base.__subclasses__() for found in (child, *_subclasses(child))]
