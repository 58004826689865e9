"""Supernets from folders, whatever their family."""

import json
from pathlib import Path

from transformers import PreTrainedModel

from .supernet import SupernetMixin


def supernet_class(folder: str | Path) -> type[PreTrainedModel]:
    """The `Elastic*` class of a saved supernet: the one whose stock class its config names.

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
    families = {base.__name__: family for family in SupernetMixin.__subclasses__() for base in family.__bases__[1:]}
    known = [families[name] for name in config.get("architectures") or () if name in families]
    if not known:
        raise ValueError(
            f"the model in {folder} is a {config.get('architectures')}; there are supernets of {sorted(families)}"
        )
    return known[0]


def load_supernet(folder: str | Path) -> PreTrainedModel:
    """Loads a saved supernet.

    Raises:
        ValueError: As `supernet_class`.
    """
    return supernet_class(folder).from_pretrained(folder)
