"""The folder of a run: one run per folder, resumed with the settings it was started with, no half-written files."""

import os
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

import yaml

from ..errors import WriteError, writing
from ..files import to_json
from ..run_files import read_settings


try:
    import fcntl
except ImportError:  # Windows, where nobody can tell whether a run goes on
    fcntl = None

# What a run can go on from, or whose loss would hurt.
KEPT = ("checkpoints", "rows", "table.jsonl", "finalists.jsonl")
LEFT = ("results.json", "candidates.jsonl")  # of a run that has come further, also where its checkpoints were deleted
PARTIAL = ".partial-step-"  # a checkpoint that was being written


def settings_of(*parts: Any) -> dict[str, Any]:
    """The settings of several dataclasses, name -> value."""
    return {name: value for part in parts for name, value in asdict(part).items()}


def defaults_of(*parts: Any) -> dict[str, Any]:
    """The defaults of several dataclasses, name -> value; those without one are left out."""
    defaults = {}
    for item in (item for part in parts for item in fields(part)):
        if item.default is not MISSING:
            defaults[item.name] = item.default
        elif item.default_factory is not MISSING:
            defaults[item.name] = item.default_factory()
    return defaults


def from_settings(kind: type, settings: Mapping[str, Any]) -> Any:
    """A dataclass of the settings of a run; a field that came with an update since then has its default."""
    return kind(**{item.name: settings[item.name] for item in fields(kind) if item.init and item.name in settings})


def check_run_folder(
    run_dir: Path,
    resolved: dict[str, Any],
    resume: bool,
    free: Collection[str],
    defaults: Mapping[str, Any],
    other: str = "--output_dir",
) -> None:
    """Refuses to write into another run, and to resume with other settings.

    A run that was killed before it kept anything gives its folder to a new one: there is nothing to resume.

    Args:
        run_dir: The folder, which need not exist.
        resolved: All settings of this run.
        resume: Whether a run is to be continued.
        free: Settings that may change when it is.
        defaults: Default of each setting, for settings that came with an update after the run was started.
        other: The option that names another folder.

    Raises:
        ValueError: It is no folder; it holds a run and `resume` is not given, or the other way round, or settings differ; or a
            run that still goes on has kept nothing yet.
    """
    check_is_folder(run_dir)
    stored_path = run_dir / "config.yaml"
    if not stored_path.exists():
        if resume:
            raise ValueError(f"{run_dir} holds no run to resume; start without --resume")
        return
    if not resume and kept_nothing(run_dir):
        if under_way(run_dir):
            raise ValueError(f"{run_dir} holds a run that may be under way; wait for it, or choose another {other}")
        return
    if not resume:
        raise ValueError(f"{run_dir} holds a run already; continue it with --resume or choose another {other}")
    stored = {**defaults, **read_settings(run_dir)}
    changed = [k for k, v in resolved.items() if k not in free and stored.get(k) != v]
    if changed:
        was = ", ".join(f"{k}={stored.get(k)!r} (now {resolved[k]!r})" for k in changed)
        raise ValueError(f"the run in {run_dir} was started with {was}; resume it with the same settings")


def kept_nothing(run_dir: Path) -> bool:
    """Whether a folder holds a run that has left nothing to go on from: no whole checkpoint, no weights, no results.

    A run is known by its `run.json`; without one, `config.yaml` may be anybody's.
    """
    if not (run_dir / "run.json").is_file():
        return False
    inside = [path.relative_to(run_dir) for path in run_dir.rglob("*") if path.is_file()]
    inside = [path for path in inside if not any(part.startswith(PARTIAL) for part in path.parts)]
    return not any(path.parts[0] in KEPT + LEFT or path.suffix == ".safetensors" for path in inside)


def under_way(run_dir: Path) -> bool:
    """Whether the process of a run may still hold its folder; the system lets go of it however the process ends."""
    if fcntl is None:
        return True
    with (run_dir / "config.yaml").open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:  # it is held, or the file system has no locks
            return True
    return False


@contextmanager
def _held(run_dir: Path) -> Iterator[None]:
    with (run_dir / "config.yaml").open("r+") as file:
        if fcntl is not None:
            with suppress(OSError):  # of a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def check_is_folder(run_dir: Path) -> None:
    """Refuses a name that a file has, a folder inside a file, and one that cannot be written.

    Raises:
        ValueError: The name is that of a file, is inside a file, or cannot be written.
    """
    for path in (run_dir, *run_dir.parents):
        if path.is_file():
            raise ValueError(f"output_dir={run_dir}: {path} is a file; choose another --output_dir")
    existing = next(path for path in (run_dir.absolute(), *run_dir.absolute().parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ValueError(f"output_dir={run_dir}: {existing} cannot be written; choose another --output_dir")


@contextmanager
def begun(
    run_dir: Path,
    resolved: dict[str, Any],
    main_process: bool,
    about: Mapping[str, Any] | None = None,
    made: Collection[str] = (),
) -> Iterator[None]:
    """Writes the settings to `config.yaml` and what is known of the run to `run.json`; an error of the user takes both back.

    Until the end the main process holds the folder, so that no other run takes it over. Settings of a new run are removed if it
    has kept nothing: otherwise the corrected command would be refused, since the folder would hold a run with other settings. A
    resumed run that is refused has the settings that it had.

    Args:
        run_dir: The folder of the run.
        resolved: All settings of the run.
        main_process: Whether this process writes.
        about: What `run.json` is to hold; None writes none.
        made: Names of what else the run makes, or has made before this; of a new run that has kept nothing they go, too.
    """
    files = [run_dir / name for name in ("config.yaml", "run.json")]
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    new = before[files[0]] is None
    if main_process:
        if kept_nothing(run_dir):  # what a killed run has left is no part of this one
            for name in ("metrics.jsonl", "report.html"):
                (run_dir / name).unlink(missing_ok=True)
            shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
        write_config(run_dir, resolved)
        if about is not None:
            write_json(run_dir / "run.json", about)
    try:
        with _held(run_dir) if main_process else nullcontext():
            yield
    except (ValueError, FloatingPointError, WriteError) as error:
        if main_process and not new and isinstance(error, ValueError):
            for path, content in before.items():
                if content is None:
                    path.unlink(missing_ok=True)
                else:
                    path.write_bytes(content)
        if main_process and new and not any(_holds_files(run_dir / name) for name in KEPT):
            # Of `checkpoints` only empty folders are left.
            for path in (
                run_dir / name for name in ("config.yaml", "run.json", "metrics.jsonl", "checkpoints", *made)
            ):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            with suppress(OSError):  # of a folder that holds something else
                run_dir.rmdir()
        raise


def _holds_files(path: Path) -> bool:
    return path.is_file() or any(inside.is_file() for inside in path.rglob("*"))


def write_config(run_dir: Path, resolved: dict[str, Any]) -> None:
    """Leaves the settings in `config.yaml`."""
    _write(run_dir / "config.yaml", yaml.safe_dump(resolved, sort_keys=False))


def write_json(path: Path, value: Any) -> None:
    """Leaves a value as JSON; the file appears when it is whole."""
    _write(path, to_json(value, indent=2) + "\n")


def _write(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}")
    try:
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(text)
            partial.rename(path)
    except WriteError:
        partial.unlink(missing_ok=True)
        raise
