"""The report of a run that is under way or has just ended: it helps, and a run must not end with it."""

from pathlib import Path

from accelerate import Accelerator
from transformers.utils import logging


logger = logging.get_logger(__name__)

TENSORBOARD = "tensorboard"  # keeps no files
TAKE_FILES = ("wandb", "trackio")  # trackers whose runs have `log_artifact`


def refresh_report(run_dir: str | Path) -> None:
    """Writes `report.html` into a run folder. What goes wrong is a warning: the run and what it has found are worth more."""
    try:
        from ..report.page import write_report  # loads plotly

        write_report(run_dir)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        logger.warning(f"{run_dir} has no new report.html ({reason}); write it with: tangle-hf report {run_dir}")


def track_report(run_dir: str | Path, accelerator: Accelerator) -> None:
    """Gives the report to the trackers: as the artifact "report", to TensorBoard its address; a failure is a warning."""
    path = Path(run_dir) / "report.html"
    for tracker in accelerator.trackers if path.is_file() else ():
        if tracker.name in (*TAKE_FILES, TENSORBOARD):
            try:
                if tracker.name == TENSORBOARD:
                    tracker.tracker.add_text("report", path.resolve().as_uri())
                else:
                    tracker.tracker.log_artifact(str(path), name="report", type="report")
            except Exception as error:
                reason = " ".join(str(error).split()) or type(error).__name__
                logger.warning(f"{tracker.name} did not take {path} ({reason}); it lies there")
