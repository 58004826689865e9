"""Checkpoints of a run: written beside their final name and renamed when whole; a damaged one is passed over."""

import json
import logging
import shutil
from pathlib import Path

from accelerate import Accelerator
from accelerate.logging import get_logger


logger = get_logger(__name__)

MANIFEST = "manifest.json"


def save_checkpoint(accelerator: Accelerator, run_dir: Path, step: int, keep: int = 2) -> None:
    """Saves everything `accelerator` knows as `checkpoints/step-N`, and drops all but the last `keep` of them."""
    folder = run_dir / "checkpoints"
    final, partial = folder / f"step-{step:08d}", folder / f".partial-step-{step:08d}"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    # accelerate warns that a tied weight is stored once, which is what a tied weight is for.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        sizes = {str(f.relative_to(partial)): f.stat().st_size for f in sorted(partial.rglob("*")) if f.is_file()}
        (partial / MANIFEST).write_text(json.dumps({"step": step, "files": sizes}))
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in sorted(folder.glob("step-*"))[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def latest_checkpoint(run_dir: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint and its step; says so when a newer one is damaged or half-written.

    Returns:
        (folder, step), or None without any whole checkpoint.
    """
    folder = run_dir / "checkpoints"
    for partial in sorted(folder.glob(".partial-step-*")):
        logger.warning(f"{partial} was not written to its end and is not used")
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        damage = _damage(candidate)
        if damage is None:
            return candidate, json.loads((candidate / MANIFEST).read_text())["step"]
        logger.warning(f"{candidate} is damaged ({damage}); the one before it is used")
    return None


def _damage(folder: Path) -> str | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return f"{MANIFEST} is missing or not readable"
    for name, size in manifest["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{name} is missing or has another size"
    return None
