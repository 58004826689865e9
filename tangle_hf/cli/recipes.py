"""The recipes for people without the repository: finds them, copies them, and runs them under accelerate."""

import os
import runpy
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from subprocess import CalledProcessError

from ..errors import STOPPED
from ..settings import CALLED_AS


# Command -> word that stands before the recipe's options -> the recipe.
RECIPES = {
    "search": {"gpt2": "search_gpt", "llama": "search_llama", "vit": "search_vit", "cnn": "search_cnn"},
    "finetune": {"language": "finetune", "vision": "finetune"},
}
ALONE = ("compare", "compress")  # run in the process of the command


def recipe(name: str) -> Path:
    """The file of a recipe: in the package once it is installed, else beside it.

    Raises:
        ValueError: There is no such recipe.
    """
    package = Path(__file__).resolve().parents[1]
    folders = [folder for folder in (package / "recipes", package.parent / "recipes") if folder.is_dir()]
    for folder in folders:
        if (folder / f"{name}.py").is_file():
            return folder / f"{name}.py"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.py")})
    raise ValueError(f"there is no recipe {name!r}; choose one of {known}")


def fork(name: str, target: str | Path) -> None:
    """Writes a copy of a recipe that runs as it is.

    Raises:
        ValueError: There is no such recipe, or the target exists.
    """
    source, target = recipe(name), Path(target).expanduser()
    if target.exists():
        raise ValueError(f"{target} exists; choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    print(f"run it: accelerate launch {shlex.quote(str(target))} --help")


def run_recipe(command: str, words: Sequence[str]) -> None:
    """Runs a recipe with the options that follow it, and ends with its exit code.

    Args:
        command: A key of `RECIPES`, or a recipe that runs in one process.
        words: What comes behind the command. Options before the word that chooses the recipe are for `accelerate launch`.

    Raises:
        ValueError: The word that chooses the recipe is missing.
    """
    if command in ALONE:
        os.environ[CALLED_AS] = f"tangle-hf {command}"
        return _run_here(recipe(command), words)
    kinds = RECIPES[command]
    at = next((n for n, word in enumerate(words) if word in kinds), None)
    if at is None:
        near = [match for word in words for match in get_close_matches(word, kinds, n=1)]
        meant = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(
            f"tangle-hf {command} needs one of {list(kinds)}{meant}, and then the recipe's options, such as --help"
        )
    launcher, kind, options = list(words[:at]), words[at], list(words[at + 1 :])
    if kinds[kind] == command:  # finetune.py reads the word itself
        options, shown = [kind, *options], [command, *launcher]
    else:
        shown = [command, *launcher, kind]
    os.environ[CALLED_AS] = shlex.join(["tangle-hf", *shown])
    path = recipe(kinds[kind])
    if {"-h", "--help", "--help_all"} & set(options):
        return _run_here(path, options)
    _launch(launcher, path, options)


def _run_here(path: Path, options: Sequence[str]) -> None:
    sys.argv = [str(path), *options]
    runpy.run_path(str(path), run_name="__main__")


def _launch(launcher: list[str], path: Path, options: Sequence[str]) -> None:
    """Starts a recipe with `accelerate launch`, without the traceback that it would add to a script's own error message."""
    from accelerate.commands.config.config_args import default_config_file
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    arguments = launch_command_parser().parse_args([*launcher, str(path), *options])
    if arguments.config_file is None and not Path(default_config_file).is_file():
        # What accelerate would take, without its warning.
        usual = {"num_processes": _devices(), "num_machines": 1, "mixed_precision": "no", "dynamo_backend": "no"}
        for name, value in usual.items():
            if getattr(arguments, name) is None:
                setattr(arguments, name, value)
    if (arguments.num_processes or 1) > 1 and not _accelerated():
        # accelerate starts several processes on a CPU as it does on several GPUs; asked for less, it starts one.
        arguments.multi_gpu, arguments.cpu = True, False
        os.environ["ACCELERATE_USE_CPU"] = "true"
    # Ctrl-C is for the recipe, which leaves a checkpoint; this process waits for it.
    signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        launch_command(arguments)
    except CalledProcessError as error:
        sys.exit(error.returncode if error.returncode > 0 else 128 - error.returncode)
    except ChildFailedError as error:
        stopped = all(failure.exitcode == STOPPED for failure in error.failures.values())
        sys.exit(STOPPED if stopped else 1)


def _accelerated() -> bool:
    import torch

    return torch.accelerator.is_available()


def _devices() -> int:
    import torch

    return max(1, torch.accelerator.device_count()) if _accelerated() else 1
