"""Checkpoints of a run: written beside their final name and renamed when whole; a damaged one is passed over.

A checkpoint from elsewhere runs no code: what is read of it are tensors, numbers and text.
"""

import hashlib
import json
import logging
import os
import pickle
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import load
from safetensors import SafetensorError, safe_open

from ..errors import WriteError, writing
from ..messages import get_logger


logger = get_logger(__name__)

MANIFEST = "manifest.json"
PICKLES = (".bin", ".pkl", ".pt", ".pth")
SHARDS = ".metadata"  # where torch.distributed.checkpoint says which tensors lie where: a pickle of its own classes
OF_SHARDS = "torch.distributed.checkpoint.metadata"
BESIDE_THESE = (
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    ("torch.serialization", "_get_layout"),
    ("torch", "Size"),
    ("pathlib", "PosixPath"),
)


def save_checkpoint(accelerator: Accelerator, run_dir: Path, step: int, keep: int = 2) -> None:
    """Saves everything `accelerator` knows as `checkpoints/step-N`, and drops all but the last `keep` of them.

    Raises:
        WriteError: The disk is full, or the folder cannot be written; the checkpoints before are as they were.
    """
    folder = run_dir / "checkpoints"
    final, partial = folder / f"step-{step:08d}", folder / f".partial-step-{step:08d}"
    if accelerator.is_main_process:
        shutil.rmtree(partial, ignore_errors=True)
    accelerator.wait_for_everyone()
    # accelerate warns that a tied weight is stored once, which is what a tied weight is for.
    logging.getLogger("accelerate.utils.other").setLevel(logging.ERROR)
    try:
        with writing(folder):
            accelerator.save_state(str(partial))
            accelerator.wait_for_everyone()
            if accelerator.is_main_process:
                _finish(partial, final, step, accelerator.num_processes)
    except WriteError:
        shutil.rmtree(partial, ignore_errors=True)  # room for whoever else writes there
        raise
    if accelerator.is_main_process:
        for old in sorted(folder.glob("step-*"))[:-keep]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()


def _finish(partial: Path, final: Path, step: int, num_processes: int) -> None:
    """Says what the checkpoint holds, and gives it its name."""
    files = {str(f.relative_to(partial)): f for f in sorted(partial.rglob("*")) if f.is_file()}
    sizes = {name: file.stat().st_size for name, file in files.items()}
    sums = {name: checksum(file) for name, file in files.items()}
    about = {"step": step, "num_processes": num_processes, "files": sizes, "sha256": sums}
    (partial / MANIFEST).write_text(json.dumps(about))
    shutil.rmtree(final, ignore_errors=True)
    partial.rename(final)


def latest_checkpoint(run_dir: Path) -> tuple[Path, int] | None:
    """The newest whole checkpoint and its step; says so when a newer one is damaged or half-written.

    Returns:
        (folder, step), or None without any whole checkpoint.
    """
    folder = run_dir / "checkpoints"
    for partial in sorted(folder.glob(".partial-step-*")):
        logger.warning(f"{partial} was not written to its end and is not used")
    candidates = sorted(folder.glob("step-*"), reverse=True)
    for number, candidate in enumerate(candidates, 1):
        damage = _damage(candidate)
        if damage is None:
            return candidate, json.loads((candidate / MANIFEST).read_text())["step"]
        before = candidates[number : number + 1]
        other = f"{before[0]}, the one before it, is tried" if before else "there is none before it"
        logger.warning(f"{candidate} is damaged ({damage}); {other}")
    return None


def load_checkpoint(accelerator: Accelerator, folder: Path) -> None:
    """Loads a checkpoint that `latest_checkpoint` has found.

    accelerate reads what is registered with it by a plain unpickler, which runs whatever code a file holds. Here torch is told
    to take tensors and plain values only, whoever asks.

    Raises:
        ValueError: It was left on another number of processes, which would make other steps in another order and of another
            cost, or the optimizer's parameter groups are others.
    """
    now = accelerator.num_processes
    before = json.loads((folder / MANIFEST).read_text()).get("num_processes", now)  # older ones do not say it
    if before != now:
        raise ValueError(
            f"the run of {folder} was searched on {before} process{'es' if before > 1 else ''}, now {now}; resume it on as "
            "many, or begin again in another folder"
        )
    with _tensors_only(), same_groups(folder):
        accelerator.load_state(str(folder))


@contextmanager
def same_groups(folder: Path) -> Iterator[None]:
    """Inside, an optimizer whose parameter groups are not those of a checkpoint raises an error that says what to do.

    Raises:
        ValueError: The parameter groups differ.
    """
    try:
        yield
    except ValueError as error:
        if "parameter group" not in str(error):
            raise
        raise ValueError(
            f"the optimizer in {folder} has other parameter groups: another version chose what weight decay is applied to. "
            "Finish this run with the version that began it, or begin again in another folder"
        ) from None


def unreadable(path: Path) -> str | None:
    """Why a file of tensors cannot be read, or must not be; None if it can, or is of another kind."""
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                file.keys()
        elif path.name == SHARDS:
            with path.open("rb") as file:
                _ShardsUnpickler(file).load()
        elif path.suffix in PICKLES:
            load(path, map_location="cpu")  # of accelerate: tensors, numbers and the states of random generators
    except (SafetensorError, OSError, EOFError) as error:
        return f"{path.name} cannot be read: {' '.join(str(error).split()) or 'it is empty'}"
    except Exception:  # torch and its unpickler raise errors of many types for bytes that they do not understand
        return f"{path.name} is damaged, or holds something else than tensors and plain values"
    return None


class _ShardsUnpickler(pickle.Unpickler):
    """Makes nothing but what torch.distributed.checkpoint writes, which would load the file without a look at it."""

    def find_class(self, module: str, name: str):
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if module != OF_SHARDS and (module, name) not in BESIDE_THESE and not dtype:
            raise pickle.UnpicklingError(f"{module}.{name} describes no tensor")
        found = super().find_class(module, name)
        if module == OF_SHARDS and getattr(found, "__module__", None) != OF_SHARDS:  # what that file imports
            raise pickle.UnpicklingError(f"{module}.{name} describes no tensor")
        return found


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextmanager
def _tensors_only() -> Iterator[None]:
    names = (
        "TORCH_FORCE_WEIGHTS_ONLY_LOAD",
        "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD",
    )  # both together are an error of torch's
    before = {name: os.environ.pop(name, None) for name in names}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update({name: value for name, value in before.items() if value is not None})


def _damage(folder: Path) -> str | None:
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        int(manifest["step"])
        sizes, sums = dict(manifest["files"]), dict(manifest.get("sha256", {}))  # older ones have no checksums
    except (OSError, ValueError, KeyError, TypeError):
        return f"{MANIFEST} is missing or not readable"
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != size:
            return f"{name} is missing or has another size"
        if name in sums and checksum(path) != sums[name]:
            return f"{name} has other content than was written"
    # Also what the manifest does not name: it would be read all the same.
    found = (unreadable(path) for path in sorted(folder.rglob("*")) if path.is_file())
    return next((reason for reason in found if reason is not None), None)
