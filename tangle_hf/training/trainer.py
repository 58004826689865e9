"""Training with `transformers.Trainer`: the settings that recipes share, exact resume, models that are saved whole."""

import json
import logging
import math
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate.utils import parse_flag_from_env
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerState,
    TrainingArguments,
)

from ..errors import WriteError, writing
from ..search.checkpoints import same_groups, unreadable
from ..search.distillation import Teacher
from ..search.weight_decay import decays
from ..values import check_learning_rates, check_values, share_of_peak
from .callbacks import ADVICE, RaiseDropPath, ShowProgress, StopAt, StopUnlessFinite, TellEpoch


logger = logging.getLogger(__name__)


@dataclass
class TrainingSettings:
    """How to train a plain model.

    Raises:
        ValueError: A value is out of its range.
    """

    _argument_group_name = "training"

    per_device_batch_size: int = field(
        default=32, metadata={"group": "training", "main": True, "help": "examples per process and micro-batch"}
    )
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "micro-batches per step"})
    optimizer: str = field(default="adamw", metadata={"help": "adamw, or sgd with momentum 0.9"})
    nesterov: bool = field(default=False, metadata={"help": "Nesterov's form of the momentum of sgd"})
    learning_rate: float = field(
        default=1e-3, metadata={"main": True, "help": "peak learning rate, followed by a cosine"}
    )
    retrain_learning_rate: float | None = field(
        default=None, metadata={"help": "peak learning rate of retrain; default: learning_rate"}
    )
    adam_beta1: float = field(default=0.9, metadata={"help": "AdamW beta1"})
    adam_beta2: float = field(default=0.999, metadata={"help": "AdamW beta2"})
    min_learning_rate: float | None = field(
        default=None, metadata={"help": "learning rate at the end, at most the peak; default: a hundredth of it"}
    )
    warmup_learning_rate: float | None = field(
        default=None,
        metadata={"help": "learning rate at the start of the warm-up, at most the peak; default: a thousandth of it"},
    )
    warmup_ratio: float = field(
        default=0.05, metadata={"help": "share of the steps in which the learning rate rises linearly"}
    )
    weight_decay: float = field(
        default=0.05, metadata={"help": "weight decay; biases, norms, positions and class tokens have none"}
    )
    max_grad_norm: float = field(default=1.0, metadata={"help": "gradient clipping; 0 for none"})
    mixed_precision: str = field(default="no", metadata={"group": "speed and memory", "help": "no or bf16"})
    logging_steps: int = field(
        default=50, metadata={"group": "progress and checkpoints", "help": "steps between printed losses"}
    )
    save_steps: int = field(default=500, metadata={"help": "steps between checkpoints; the last two are kept"})
    dataloader_num_workers: int = field(
        default=0, metadata={"group": "speed and memory", "help": "worker processes that load and augment"}
    )

    def __post_init__(self):
        check_values(self, infinite=("max_grad_norm",))
        for name in (
            "per_device_batch_size",
            "gradient_accumulation_steps",
            "logging_steps",
            "save_steps",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        peaks = {name: getattr(self, name) for name in ("learning_rate", "retrain_learning_rate")}
        ends = {name: getattr(self, name) for name in ("min_learning_rate", "warmup_learning_rate")}
        check_learning_rates(peaks, ends)
        peak = min(value for value in peaks.values() if value is not None)
        if self.min_learning_rate is None:
            self.min_learning_rate = share_of_peak(peak, 100)
        if self.warmup_learning_rate is None:
            self.warmup_learning_rate = share_of_peak(peak, 1000)
        for name in ("weight_decay", "max_grad_norm", "dataloader_num_workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and below 1")
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"warmup_ratio={self.warmup_ratio} must be at least 0 and below 1")
        if self.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"optimizer={self.optimizer!r} is unknown; choose adamw or sgd")
        if self.mixed_precision not in ("no", "bf16"):
            raise ValueError(f"mixed_precision={self.mixed_precision!r} is not supported; choose no or bf16")


class ResumingTrainer(Trainer):
    """Trainer with the weight decay of searches, a teacher, and with checkpoints whose weights are found on resume.

    On disk a ViT has the parameter names of transformers 4. `Trainer` would not find these, only warn, and go on from the
    weights that it was given (transformers issue 43701); here `from_pretrained` reads them, which knows both kinds of names.
    """

    teacher: Teacher | None = None
    taught: float = math.inf  # steps, the first ones, in which there is a teacher

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The loss of `Trainer`, or with a teacher what `Teacher.loss` says, summed and divided as that of the labels is."""
        if self.teacher is None or self.state.global_step >= self.taught:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        inputs = {**inputs, **self.teacher.asks}
        loss, output = super().compute_loss(model, inputs, True, num_items_in_batch)
        count = num_items_in_batch if self.model_accepts_loss_kwargs else None
        averaged = count is not None and self.args.average_tokens_across_devices
        output["loss"] = loss
        with self.accelerator.autocast():
            scale = self.accelerator.num_processes if averaged else 1
            loss = self.teacher.loss(output, inputs, count=count, scale=scale)
        return (loss, output) if return_outputs else loss

    def training_step(self, *args, **kwargs) -> torch.Tensor:
        """One step of `Trainer`, whose loss must be finite.

        Raises:
            FloatingPointError: The loss is not finite.
        """
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss.item()} at step {self.state.global_step}; {ADVICE}")
        return loss

    def _save_checkpoint(self, model: torch.nn.Module, trial=None) -> None:
        """Saves a checkpoint as `Trainer` does; on a full disk the half-written one is deleted.

        Raises:
            WriteError: The disk is full, or the folder cannot be written.
        """
        folder = Path(self.args.output_dir)
        try:
            with writing(folder):
                super()._save_checkpoint(model, trial)
        except WriteError:
            shutil.rmtree(folder / f"checkpoint-{self.state.global_step}", ignore_errors=True)
            raise

    def get_decay_parameter_names(self, model: torch.nn.Module) -> list[str]:
        return [name for name, parameter in model.named_parameters() if decays(name, parameter)]

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: PreTrainedModel | None = None) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or hasattr(self.model, "peft_config"):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        model = self.model if model is None else model
        model.load_state_dict(type(model).from_pretrained(resume_from_checkpoint).state_dict())


def train(
    model: PreTrainedModel,
    examples: torch.utils.data.Dataset,
    arguments: TrainingArguments,
    teacher: Teacher | None = None,
    until: int | None = None,
    name: str = "training",
    taught: int | None = None,
) -> PreTrainedModel:
    """Trains with `transformers.Trainer`, from the last whole checkpoint in the output folder if there is one.

    Args:
        model: The model; trained in place.
        examples: Training examples.
        arguments: How to train, and where checkpoints go.
        teacher: From whose outputs the model learns beside the labels, or None.
        until: Stop after this step with a checkpoint, so that the same call with a later one goes on; None: at the end.
        name: What the progress is called.
        taught: Steps, the first ones, in which there is a teacher, before labels alone are learned; None: all.

    Raises:
        FloatingPointError: A loss, a gradient or a weight is not finite; the last checkpoint before is kept.
        ValueError: The checkpoint is of a version with another rule of weight decay.
    """
    cache = getattr(model.config, "use_cache", None)
    trainer = ResumingTrainer(model, arguments, train_dataset=examples)
    trainer.teacher, trainer.taught = teacher, math.inf if taught is None else taught
    trainer.add_callback(TellEpoch(trainer.train_dataset))
    trainer.add_callback(StopUnlessFinite())
    for printing in (ProgressCallback, PrinterCallback):
        trainer.remove_callback(printing)
    if not arguments.disable_tqdm:
        trainer.add_callback(ShowProgress(until, name))
    if hasattr(model, "drop_path_rate"):
        trainer.add_callback(RaiseDropPath())
    if until is not None:
        trainer.add_callback(StopAt(until))
    checkpoint = last_checkpoint(Path(arguments.output_dir))
    if checkpoint is not None and steps_of(checkpoint) >= (until or _all_steps(checkpoint)):
        trainer._load_from_checkpoint(checkpoint)  # Trainer would make one step more
    else:
        with same_groups(Path(checkpoint or arguments.output_dir)):
            trainer.train(resume_from_checkpoint=checkpoint)
    trained = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if cache is not None:  # Trainer turned it off, and the net would be saved so
        trained.config.use_cache = cache
    return trained


def check_whole_weights() -> None:
    """Refuses processes that are to share the weights of a net, where one of them scores and saves it.

    Raises:
        ValueError: They are started with FSDP.
    """
    if parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError(
            "nets are scored and saved by one process, which cannot have their weights where FSDP shards them; leave FSDP out: "
            "with DDP every process has whole weights"
        )


def training_arguments(
    settings: TrainingSettings,
    mode: str,
    seed: int,
    folder: Path,
    max_steps: int | None,
    num_train_epochs: float = 1.0,
) -> TrainingArguments:
    """The arguments of `Trainer` for these settings.

    Args:
        settings: Settings.
        mode: "retrain" has a peak learning rate of its own.
        seed: Seed of the data order, and of what is random in the model.
        folder: Where checkpoints go.
        max_steps: Steps; overrides `num_train_epochs`.
        num_train_epochs: Passes over the training data.
    """
    peak = settings.learning_rate
    if mode == "retrain" and settings.retrain_learning_rate is not None:
        peak = settings.retrain_learning_rate
    return TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        per_device_train_batch_size=settings.per_device_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        num_train_epochs=num_train_epochs,
        max_steps=max_steps or -1,
        optim="adamw_torch" if settings.optimizer == "adamw" else "sgd",
        optim_args=None if settings.optimizer == "adamw" else f"momentum=0.9,nesterov={settings.nesterov}",
        adam_beta1=settings.adam_beta1,
        adam_beta2=settings.adam_beta2,
        learning_rate=peak,
        lr_scheduler_type="cosine_warmup_with_min_lr",
        lr_scheduler_kwargs={
            "min_lr_rate": settings.min_learning_rate / peak,
            "warmup_lr_rate": settings.warmup_learning_rate / peak,
        },
        warmup_steps=settings.warmup_ratio,  # below 1, Trainer takes it for a share
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        use_cpu=not torch.accelerator.is_available(),  # must be said for bf16
        bf16=settings.mixed_precision == "bf16",
        logging_nan_inf_filter=False,  # such a loss ends the training
        logging_steps=settings.logging_steps,
        save_steps=settings.save_steps,
        save_total_limit=2,
        dataloader_num_workers=settings.dataloader_num_workers,
        dataloader_pin_memory=torch.accelerator.is_available(),
        ddp_find_unused_parameters=False,
        remove_unused_columns=False,
        report_to="none",
    )


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint of `Trainer` that is whole; says so when a newer one is damaged."""
    found = sorted(folder.glob("checkpoint-*/trainer_state.json"), key=lambda path: steps_of(path.parent))
    for state in reversed(found):
        damage = _damage(state.parent)
        if damage is None:
            return str(state.parent)
        logger.warning(f"{state.parent} is damaged ({damage}) and is not used")
    return None


def steps_of(checkpoint: str | Path) -> int:
    """Steps behind a checkpoint of `Trainer`, by its name."""
    return int(Path(checkpoint).name.split("-")[1])


def _all_steps(checkpoint: str) -> int:
    """Steps of the whole training that left a checkpoint."""
    return TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json")).max_steps


def _damage(checkpoint: Path) -> str | None:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text())  # it is written last
    except ValueError:
        return "trainer_state.json was not written to its end"
    # Trainer never reads this one again, a pickle of its settings.
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file() and path.name != "training_args.bin")
    reasons = (unreadable(path) for path in files)
    return next((reason for reason in reasons if reason is not None), None)
