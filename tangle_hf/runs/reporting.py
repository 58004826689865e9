"""The report of a run that is under way or has just ended: it helps, and a run must not end with it."""

from pathlib import Path

from transformers.utils import logging


logger = logging.get_logger(__name__)


def refresh_report(run_dir: str | Path) -> None:
    """Writes `report.html` into a run folder. What goes wrong is a warning: the run and what it has found are worth more."""
    try:
        from ..report.page import write_report  # loads plotly

        write_report(run_dir)
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        logger.warning(f"{run_dir} has no new report.html ({reason}); write it with: tangle-hf report {run_dir}")
