"""The short training of one finalist: plain weight steps on one process, in legs that continue from what the last one left."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from ...errors import writing
from ...space import Architecture
from ...subnets.extraction import extract
from ..batches import Batches
from ..distillation import Teacher, training_loss
from ..loop import finite, step_size, weight_optimizer, weight_scheduler
from ..settings import SearchArguments


@dataclass(frozen=True)
class _Alone:
    """What `Batches` asks an accelerator for, where one process trains by itself."""

    device: torch.device
    process_index: int = 0
    num_processes: int = 1


class ShortTraining:
    """Trains nets cut from one supernet, all with the same steps, learning rates and order of data.

    New weights are those of one supernet, from which all nets of a seed are cut, so that they start alike where they are alike.
    Most of what a short training from weights of its own says of a net is chance; nets that start alike share it (measured in
    docs/results.md, "One set of new weights for all finalists").

    What is random is a function of seed and step, so that a training in legs, or resumed, is the same. A step has as many
    examples as one of the search, on however many processes that ran.

    Args:
        supernet: After the search; it stays as it is.
        data: Training examples.
        settings: Those of the search: batch, optimizer, learning rate, from what to start.
        accelerator: Device and precision.
        horizon: Steps of the whole training; its schedule of learning rates has this length.
        folder: Where legs leave what the next one goes on from.
        teacher: From whose outputs they learn beside the labels; None: from the labels alone.
        start: The supernet as it was before the search, for `finalist_start="checkpoint"`.
        step: Examples of a step, a multiple of a micro-batch; None: as many as one of the search on these processes.
    """

    def __init__(
        self,
        supernet: PreTrainedModel,
        data,
        settings: SearchArguments,
        accelerator: Accelerator,
        horizon: int,
        folder: Path,
        teacher: Teacher | None = None,
        start: PreTrainedModel | None = None,
        step: int | None = None,
    ):
        self.supernet = start if settings.resolved_finalist_start == "checkpoint" else supernet
        self.micro = (step or step_size(settings, accelerator)) // settings.per_device_batch_size
        self._new: tuple[int, PreTrainedModel] | None = None  # a seed and a supernet with its new weights
        self.data, self.accelerator, self.folder, self.teacher = data, accelerator, folder, teacher
        # With a tenth some nets and not others met spikes at the peak rate, which say nothing of the nets.
        warmup = min(settings.warmup_steps, horizon // 4)
        self.settings = replace(settings, max_steps=horizon, warmup_steps=warmup)

    def train(self, arch: Architecture, seed: int, steps: int) -> PreTrainedModel:
        """A net after so many steps.

        Args:
            arch: Its architecture.
            seed: Of the new weights, of the order of the data, and of dropout.
            steps: Steps from the start, at most the horizon.

        Returns:
            The net in evaluation mode.

        Raises:
            FloatingPointError: Its loss or its gradient is not finite.
            WriteError: What the next leg goes on from cannot be written.
        """
        settings, path = self.settings, self.folder / f"{arch.id}-{seed}.pt"
        with self._random_numbers(seed):
            model = extract(self._source(seed), arch)
        optimizer = weight_optimizer(model, settings)
        scheduler = weight_scheduler(optimizer, settings)
        alone = _Alone(self.accelerator.device)
        batches = Batches(alone, self.data, settings.per_device_batch_size, seed, settings.dataloader_num_workers)
        parts, done = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "batches": batches}, 0
        if path.is_file():
            state = torch.load(path, map_location="cpu", weights_only=True)
            if state["step"] <= steps:
                done = state["step"]
                for name, part in parts.items():
                    part.load_state_dict(state[name])
        examples, model = iter(batches), model.train()
        for step in range(done, steps):
            with self._random_numbers(hash((seed, step))):
                for _ in range(self.micro):
                    batch = next(examples)
                    with self.accelerator.autocast():
                        loss = training_loss(model(**batch), batch, self.teacher, self.accelerator) / self.micro
                    finite(loss.detach(), "training loss", step)
                    loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm or math.inf)
            finite(norm, "norm of the training gradient", step)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        if steps < settings.max_steps:
            self._save({"step": steps} | {name: part.state_dict() for name, part in parts.items()}, path)
        return model.eval()

    def _source(self, seed: int) -> PreTrainedModel:
        """What the nets of a seed are cut from; called with the random numbers of the seed."""
        if self.settings.resolved_finalist_start != "new":
            return self.supernet
        if self._new is None or self._new[0] != seed:
            new = type(self.supernet)(self.supernet.config).to(self.supernet.device, self.supernet.dtype)
            new.loss_type = self.supernet.loss_type
            self._new = seed, new
        return self._new[1]

    def forget(self, arch: Architecture) -> None:
        """Removes what the legs of a net have left."""
        for path in self.folder.glob(f"{arch.id}-*.pt"):
            path.unlink(missing_ok=True)

    def _save(self, state: dict, path: Path) -> None:
        partial = path.with_name(f".{path.name}")
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.save(state, partial)
            partial.rename(path)

    @contextmanager
    def _random_numbers(self, seed: int) -> Iterator[None]:
        """Random numbers of a seed; those of the search go on where they were."""
        device = self.accelerator.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed % 2**63)
            yield
