"""The part of a report with every setting, those that differ from the defaults first."""

from collections.abc import Mapping
from typing import Any

from ..search.methods import METHODS
from ..search.settings import SearchArguments, settings_not_read
from .blocks import Block, Fold, Section, Table, Words
from .run_folder import RunFolder


UNIMPORTANT = ("resume", "dry_run", "output_dir")


def settings_section(run: RunFolder) -> Section:
    """Two tables; of an older run, whose folder does not hold the defaults, those that searches have in common are compared."""
    given = {name: value for name, value in run.settings.items() if name not in UNIMPORTANT}
    usual = defaults(run)
    changed = [
        {"setting": name, "value": text(value), "default": text(usual[name])}
        for name, value in given.items()
        if name in usual and value != usual[name]
    ]
    others = [
        {"setting": name, "value": text(value)}
        for name, value in given.items()
        if name in usual and value == usual[name]
    ]
    unknown = [{"setting": name, "value": text(value)} for name, value in given.items() if name not in usual]
    blocks: list[Block] = []
    if changed:
        blocks.append(Table(changed, "Different from the defaults."))
    elif usual:
        blocks.append(Words("Every setting is as it is by default."))
    if unknown:
        words = "Settings whose defaults this folder does not hold." if usual else ""
        blocks.append(
            Table(unknown, words)
            if len(unknown) <= 12
            else Fold(f"{len(unknown)} more settings", [Table(unknown, words)])
        )
    if others:
        blocks.append(Fold(f"{len(others)} settings at their defaults", [Table(others)]))
    return Section("Settings", blocks)


def defaults(run: RunFolder) -> dict[str, Any]:
    """Setting -> its default, as the run left them or, of an older search, as they are now; {} where nothing is known.

    What is left out on the command line and follows from other settings counts as a default.
    """
    usual = dict(run.about.get("defaults", {}))
    if not usual and run.kind == "search":
        usual = dict(vars(SearchArguments()))
    for name, value in _derived(run.settings).items():
        if name in usual and run.settings.get(name) == value:
            usual[name] = value
    return usual


def _derived(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a search without them would have derived from others."""
    if "min_learning_rate" not in settings or "method" not in settings:
        return {}
    names = ("learning_rate", "max_steps")
    found = SearchArguments(**{name: settings[name] for name in names if name in settings})
    return {"min_learning_rate": found.min_learning_rate, "warmup_steps": found.warmup_steps}


def differing(runs: Mapping[str, RunFolder]) -> list[dict[str, str]]:
    """A row for each setting that is not the same in all of some runs, of those that their methods read."""
    unread = [set(settings_not_read(METHODS[run.settings["method"]])) for run in runs.values()]
    names = dict.fromkeys(name for run in runs.values() for name in run.settings)
    rows = []
    for name in names:
        values = [run.settings.get(name) for run in runs.values()]
        if name in UNIMPORTANT or all(value == values[0] for value in values) or all(name in out for out in unread):
            continue
        rows.append({"setting": name, **{label: text(value) for label, value in zip(runs, values, strict=True)}})
    return rows


def text(value: Any) -> str:
    """A value as it is given on the command line."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={text(inner)}" for name, inner in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "none"
    return str(value)
