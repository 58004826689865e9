"""The folder of a run: one run per folder, resumed with the settings it was started with, no half-written files."""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml


def check_run_folder(run_dir: Path, resolved: dict[str, Any], resume: bool, free: Collection[str]) -> None:
    """Refuses to write into another run, and to resume with other settings.

    Args:
        run_dir: The folder, which need not exist.
        resolved: All settings of this run.
        resume: Whether a run is to be continued.
        free: Settings that may change when it is.

    Raises:
        ValueError: It is no folder; it holds a run and `resume` is not given, or the other way round, or settings differ.
    """
    check_is_folder(run_dir)
    stored_path = run_dir / "config.yaml"
    if not stored_path.exists():
        if resume:
            raise ValueError(f"{run_dir} holds no run to resume; start without --resume")
        return
    if not resume:
        raise ValueError(f"{run_dir} holds a run already; continue it with --resume or choose another --output_dir")
    stored = yaml.safe_load(stored_path.read_text())
    changed = [k for k, v in resolved.items() if k not in free and stored.get(k) != v]
    if changed:
        was = ", ".join(f"{k}={stored.get(k)!r} (now {resolved[k]!r})" for k in changed)
        raise ValueError(f"the run in {run_dir} was started with {was}; resume it with the same settings")


def check_is_folder(run_dir: Path) -> None:
    """Refuses a name that a file has, or a folder inside a file.

    Raises:
        ValueError: So.
    """
    for path in (run_dir, *run_dir.parents):
        if path.is_file():
            raise ValueError(f"output_dir={run_dir}: {path} is a file; choose another --output_dir")


def write_config(run_dir: Path, resolved: dict[str, Any]) -> None:
    """Leaves the settings in `config.yaml`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    _write(run_dir / "config.yaml", yaml.safe_dump(resolved, sort_keys=False))


def write_json(path: Path, value: Any) -> None:
    """Leaves a value as JSON; the file appears when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, json.dumps(value, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}")
    partial.write_text(text)
    partial.rename(path)
