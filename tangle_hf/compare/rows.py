"""Rows of a comparison: one net trained or evaluated once, whole or not at all, claimed by one process at a time.

A finished row is a JSON file that appears when it is whole. A process that works on a row holds a lock, which the system
releases when the process ends, however it ends. So several processes can share one folder, and no lock is left behind.
"""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate.utils import set_seed
from filelock import FileLock, Timeout
from transformers import PreTrainedModel

from ..data.examples import Examples
from ..data.images.soft_targets import use_soft_targets
from ..files import replacing
from ..models.generation import with_pad_token
from ..run_files import read_results
from ..runs.folder import write_json
from ..space import Architecture
from ..subnets.extraction import extract, new_subnet
from ..subnets.recalibration import batch_norms
from ..training.trainer import TrainingSettings, train, training_arguments
from .runs import Run, supernet_of


@dataclass(frozen=True)
class Row:
    """What is measured once.

    Args:
        mode: "rank": validation loss of an architecture in a supernet; "inherit": validation and test scores of what a run
            found, in its supernet; "finetune": the same after training on from there; "retrain": after training from scratch.
        arch: The architecture.
        run: Name of the run whose supernet it is of; None for "retrain".
        horizon: Length of the training, in multiples of the search's steps; None where nothing is trained.
        seed: Seed of new weights, data order and augmentation; None where nothing is trained.
    """

    mode: str
    arch: Architecture
    run: str | None = None
    horizon: float | None = None
    seed: int | None = None

    @property
    def name(self) -> str:
        """The name of its file; equal architectures trained from scratch are one row, whoever found them."""
        what = {"rank": f"{self.run}-{self.arch.id}", "retrain": self.arch.id}.get(self.mode, self.run)
        how = "" if self.horizon is None else f"-x{self.horizon:g}-seed{self.seed}"
        return f"{self.mode}-{what}{how}"


def read_row(folder: Path, row: Row) -> dict | None:
    """A finished row, None if it is not finished.

    Raises:
        ValueError: The file is of another architecture: a run of this name was searched again.
    """
    path = folder / "rows" / f"{row.name}.json"
    if not path.is_file():
        return None
    stored = read_results(path)
    if Architecture(stored["arch"]) != row.arch:
        raise ValueError(
            f"{path} is of {Architecture(stored['arch'])}, the run {row.run} has found {row.arch} by now; use another "
            "--output_dir for other runs of the same name"
        )
    return stored


@contextmanager
def claim(folder: Path, row: Row, wait: bool = False) -> Iterator[bool]:
    """Whether this process is to work on a row: it is not finished, and no other process works on it.

    Args:
        folder: Folder of the comparison.
        row: Which row.
        wait: Wait for the other process, which finishes the row or dies.
    """
    path = folder / "rows" / ".locks" / row.name
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        pass
    try:
        yield lock.is_locked and read_row(folder, row) is None
        if lock.is_locked and read_row(folder, row) is not None:
            path.unlink(missing_ok=True)  # whoever has it open already will find the row finished
    finally:
        lock.release()


def work(
    row: Row,
    runs: Mapping[str, Run],
    reference: Run,
    data: Examples,
    settings: TrainingSettings,
    max_steps: int,
    folder: Path,
    *,
    rank_batches: int | None = None,
    keep_models: bool = True,
) -> dict:
    """Trains or evaluates a row and leaves its file; the test data are read once, when the net is ready.

    Args:
        row: What to do.
        runs: Name -> run.
        reference: The run whose config a new net has.
        data: Data.
        settings: How all nets are trained.
        max_steps: Training steps of a horizon of 1.
        folder: Folder of the comparison.
        rank_batches: Most validation batches of a "rank" row.
        keep_models: Leave trained nets in `models/`.
    """
    start, batch_size, device = time.process_time(), settings.per_device_batch_size, _device()
    stored = {"mode": row.mode, "run": row.run, "arch": row.arch.to_dict(), "horizon": row.horizon, "seed": row.seed}
    if row.mode in ("rank", "inherit"):
        model, chosen = supernet_of(runs[row.run].folder).to(device), {"arch": row.arch}
        batches = rank_batches if row.mode == "rank" else None
        splits = ("validation",) if row.mode == "rank" else ("validation", "test")
        if batch_norms(model):  # the statistics of the supernet are another net's
            model, chosen = extract(model, row.arch), {}
            data.settle(model, batch_size, batches)
        stored |= {name: data.score(model, getattr(data, name), batch_size, batches, **chosen) for name in splits}
    else:
        stored["steps"] = round(row.horizon * max_steps)
        supernet = supernet_of((reference if row.mode == "retrain" else runs[row.run]).folder)
        set_seed(row.seed)  # after loading: that draws random numbers or not, as it likes
        model = build(supernet, row).to(device)
        arguments = training_arguments(
            settings, row.mode, row.seed, folder / "checkpoints" / row.name, stored["steps"]
        )
        model = train(model.train(), data.training(row.seed), arguments)
        stored |= {name: data.score(model, getattr(data, name), batch_size) for name in ("validation", "test")}
        if keep_models:
            with replacing(folder / "models" / row.name, "config.json") as whole:
                model.save_pretrained(whole)
                with_pad_token(data.processor).save_pretrained(whole)
    stored["cpu_seconds"] = time.process_time() - start
    write_json(folder / "rows" / f"{row.name}.json", stored)
    shutil.rmtree(folder / "checkpoints" / row.name, ignore_errors=True)
    return stored


def build(supernet: PreTrainedModel, row: Row) -> PreTrainedModel:
    """The net of a row before it is trained: with new weights, or with those of the supernet."""
    model = new_subnet(supernet, row.arch) if row.mode == "retrain" else extract(supernet, row.arch)
    if model.main_input_name == "pixel_values":
        use_soft_targets(model)
    return model


def _device() -> torch.device:
    return torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
