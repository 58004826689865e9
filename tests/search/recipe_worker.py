"""A recipe as its command starts it, for the tests that run it on two processes."""

import runpy
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

from accelerate import PartialState
from accelerate.state import AcceleratorState


RECIPES = Path(__file__).parents[2] / "recipes"


def run(folder: Path, recipe: str, argv: list[str]) -> None:
    """Runs it; what a process prints is in `NAME-RANK.out` and `NAME-RANK.err` beside the folder.

    Args:
        folder: Of the run.
        recipe: Its file.
        argv: Its options, without the folder.
    """
    AcceleratorState._reset_state()  # the run before may have been of another precision
    folder.parent.mkdir(parents=True, exist_ok=True)
    printed = [
        folder.parent / f"{folder.name}-{PartialState(cpu=True).process_index}.{kind}" for kind in ("out", "err")
    ]
    command = [recipe, *argv, "--output_dir", str(folder)]
    # The processes go on with other runs, so that they stay in touch.
    with (
        printed[0].open("w") as out,
        printed[1].open("w") as err,
        redirect_stdout(out),
        redirect_stderr(err),
        patch("torch.distributed.destroy_process_group"),
        patch.object(sys, "argv", command),
    ):
        runpy.run_path(str(RECIPES / recipe), run_name="__main__")
    AcceleratorState._reset_state()
