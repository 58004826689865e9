"""What a run folder says of its run beside the settings: command, versions, device, defaults, and what is searched."""

import platform
from collections.abc import Mapping
from dataclasses import MISSING, fields, replace
from importlib.metadata import version
from typing import Any

from ..hub.settings import command_line
from ..space import SearchSpace
from ..version import __version__


LIBRARIES = ("torch", "transformers", "accelerate")


def about(*parts: Any, device: str | None = None, space: SearchSpace | None = None) -> dict[str, Any]:
    """What `run.json` holds.

    Args:
        *parts: The dataclasses with the settings.
        device: What it runs on, in words.
        space: What is searched.
    """
    facts = {"command": command_line(), "versions": versions(), "defaults": usual_settings(*parts)}
    return facts | ({"device": device} if device else {}) | ({"space": space.to_dict()} if space else {})


def versions() -> dict[str, str]:
    """Name -> version, of this library and of those that decide what a run computes."""
    return {
        "tangle_hf": __version__,
        "Python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
    }


def usual_settings(*parts: Any) -> Mapping[str, Any]:
    """The value that each setting would have if it alone were left out: its default, or what follows from the others."""
    usual = {}
    for part in parts:
        for item in fields(part):
            if item.default is None and getattr(part, item.name) is not None:
                try:
                    usual[item.name] = getattr(replace(part, **{item.name: None}), item.name)
                except ValueError:  # others have no meaning without it
                    usual[item.name] = None
            elif item.default is not MISSING:
                usual[item.name] = item.default
            elif item.default_factory is not MISSING:
                usual[item.name] = item.default_factory()
    return usual
