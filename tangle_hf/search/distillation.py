"""Distillation: a net learns the outputs of a frozen teacher, beside the labels or in their place (arXiv:1503.02531)::

    loss = (1 - share) * loss of the labels + share * T^2 KL(p_T || q_T)        p_T = softmax(teacher / T), q_T of the net

The teacher's logits are computed for every batch and not kept. Positions whose label is ignored and padding do not count.
"""

import copy
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers.utils import ModelOutput


IGNORED = -100  # label that transformers leaves out of a loss
TIMED = 20  # forward passes of a teacher that are timed; waiting for a GPU after every one would slow a training down


@dataclass
class TeacherArguments:
    """How much is learned from a teacher.

    Raises:
        ValueError: A value is out of its range.
    """

    teacher_share: float = field(
        default=0.0,
        metadata={
            "group": "teacher",
            "help": "share of the teacher's outputs, as targets beside the labels, in the loss; 1: no labels (distillation)",
        },
    )
    teacher_temperature: float = field(
        default=1.0, metadata={"help": "temperature that softens the outputs of teacher and net alike"}
    )

    def __post_init__(self):
        if not 0 <= self.teacher_share <= 1:
            raise ValueError(f"teacher_share={self.teacher_share} must be between 0 and 1")
        if self.teacher_temperature <= 0:
            raise ValueError(f"teacher_temperature={self.teacher_temperature} must be above 0")


def distillation_loss(
    logits: Tensor,
    teacher_logits: Tensor,
    batch: Mapping[str, Tensor],
    temperature: float = 1.0,
    count: Tensor | float | None = None,
) -> Tensor:
    """Forward Kullback-Leibler divergence of a net's outputs from a teacher's, arXiv:1503.02531, section 2::

        T^2 * mean over predictions of sum_c p_c (log p_c - log q_c),    p = softmax(teacher / T), q = softmax(net / T)

    A language model's prediction at a position is for the next token. It counts if the label of that token is not -100 and
    its attention mask not 0.

    Args:
        logits: The net's, (examples, classes) or (sequences, positions, tokens).
        teacher_logits: The teacher's on the same inputs; no gradient reaches them.
        batch: Arguments of the forward pass: "labels", and of padded text "attention_mask".
        temperature: T, above 0.
        count: Predictions to divide the sum by; None: those that count.

    Returns:
        Nats, a scalar.
    """
    labels = batch["labels"]
    counted = torch.ones(len(logits), dtype=torch.bool, device=logits.device)
    if logits.ndim == 3:
        logits, teacher_logits, counted = logits[:, :-1], teacher_logits[:, :-1], labels[:, 1:] != IGNORED
        if batch.get("attention_mask") is not None:
            counted = counted & (batch["attention_mask"][:, 1:] != 0)
    own = (logits.float() / temperature).log_softmax(-1)
    target = (teacher_logits.detach().float() / temperature).log_softmax(-1)
    divergence = F.kl_div(own, target, reduction="none", log_target=True).sum(-1) * counted.to(own.device)
    count = counted.sum().clamp_min(1) if count is None else count
    return temperature**2 * divergence.sum() / count


class Teacher:
    """A frozen net from whose outputs others learn.

    Args:
        model: A plain net, or a supernet, of which the largest net teaches; from now on frozen and in evaluation mode.
        share: Of the divergence in the loss, above 0 and at most 1.
        temperature: Of the divergence, above 0.
    """

    def __init__(self, model: PreTrainedModel, share: float = 1.0, temperature: float = 1.0):
        self.model, self.share, self.temperature = model.eval().requires_grad_(False), share, temperature
        self._options = {"use_cache": False} if model.can_generate() else {}  # keys and values that nobody reads
        self._passes, self._seconds, self._logit_bytes = 0, 0.0, 0
        self.asks: dict[str, bool] = {}  # arguments of the net's forward pass beside the batch

    def logits(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Its logits on a batch.

        Args:
            batch: Arguments of a forward pass; labels are not read.
        """
        return self.run(batch).logits

    @torch.no_grad()
    def run(self, batch: Mapping[str, Tensor]) -> ModelOutput:
        """Its forward pass over a batch.

        Args:
            batch: Arguments; labels are not read.
        """
        timed = self._passes < TIMED
        inputs = {name: values for name, values in batch.items() if name != "labels"}
        start = _now(timed)
        output = self.model(**inputs, **self._options)
        self._passes += 1
        if timed:
            self._seconds += _now(timed) - start
        self._logit_bytes = max(self._logit_bytes, output.logits.numel() * output.logits.element_size())
        return output

    def loss(
        self,
        output: ModelOutput,
        batch: Mapping[str, Tensor],
        logits: Tensor | None = None,
        count=None,
        scale: float = 1.0,
    ) -> Tensor:
        """What a net is trained on: labels and teacher in their shares.

        Args:
            output: The net's, with its loss on the labels.
            batch: What it was computed from, with labels.
            logits: The teacher's on this batch, if they are known.
            count: See `distillation_loss`.
            scale: What the divergence is multiplied by, where the labels' loss is.
        """
        logits = self.logits(batch) if logits is None else logits
        divergence = scale * distillation_loss(output.logits, logits, batch, self.temperature, count)
        return divergence if self.share == 1 else (1 - self.share) * output.loss + self.share * divergence

    def facts(self) -> dict[str, float]:
        """What it took since the start or the last resume: forward passes, seconds, MiB of weights and of a batch's logits."""
        weights = sum(tensor.numel() * tensor.element_size() for tensor in self.model.state_dict().values())
        return {
            "parameters": self.model.num_parameters(),
            "forward_passes": self._passes,
            "seconds": self._seconds / max(1, min(TIMED, self._passes)) * self._passes,
            "mib": (weights + self._logit_bytes) / 2**20,
        }

    def __str__(self) -> str:
        facts = self.facts()
        return (
            f"teacher: {facts['parameters']:,} parameters, {facts['forward_passes']:,} forward passes in "
            f"{facts['seconds']:.1f} s, {facts['mib']:,.1f} MiB with its logits"
        )


def teacher_of(supernet: PreTrainedModel, settings: TeacherArguments, device: torch.device) -> Teacher | None:
    """A supernet as it is now, as the teacher of its own nets; None where the settings ask for none.

    Raises:
        ValueError: It has no largest net, as its choices are operations.
    """
    if not settings.teacher_share:
        return None
    if not supernet.space.ordered:
        raise ValueError(
            f"teacher_share={settings.teacher_share}: a space of operations has no largest net that could teach; leave it out"
        )
    return Teacher(copy.deepcopy(supernet).to(device), settings.teacher_share, settings.teacher_temperature)


def training_loss(
    output: ModelOutput,
    batch: Mapping[str, Tensor],
    teacher: Teacher | None,
    accelerator: Accelerator,
    logits: Tensor | None = None,
) -> Tensor:
    """The loss of a net on a batch: that of the labels, or with a teacher what `Teacher.loss` says.

    Args:
        output: The net's.
        batch: What it was computed from.
        teacher: The teacher, or None.
        accelerator: The precision in which the teacher runs.
        logits: The teacher's, if they are known.
    """
    if teacher is None:
        return output.loss
    with accelerator.autocast():
        return teacher.loss(output, batch, logits)


def _now(wait: bool) -> float:
    if wait and torch.accelerator.is_available():
        torch.accelerator.synchronize()
    return time.perf_counter()
