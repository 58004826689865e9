"""Training with `transformers.Trainer`: the settings that recipes share, exact resume, models that are saved whole."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments


@dataclass
class TrainingSettings:
    """How to train a plain model.

    Raises:
        ValueError: A value is out of its range.
    """

    _argument_group_name = "training"

    per_device_batch_size: int = field(default=32, metadata={"help": "examples per process and micro-batch"})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "micro-batches per step"})
    optimizer: str = field(default="adamw", metadata={"help": "adamw, or sgd with momentum 0.9"})
    nesterov: bool = field(default=False, metadata={"help": "Nesterov's form of the momentum of sgd"})
    learning_rate: float = field(default=1e-3, metadata={"help": "peak learning rate, followed by a cosine"})
    retrain_learning_rate: float | None = field(
        default=None, metadata={"help": "the same for retrain; default: learning_rate"}
    )
    adam_beta1: float = field(default=0.9, metadata={"help": "AdamW beta1"})
    adam_beta2: float = field(default=0.999, metadata={"help": "AdamW beta2"})
    min_learning_rate: float = field(default=1e-5, metadata={"help": "learning rate at the end"})
    warmup_learning_rate: float = field(default=1e-6, metadata={"help": "learning rate at the start of the warm-up"})
    warmup_ratio: float = field(
        default=0.05, metadata={"help": "share of the steps in which the learning rate rises linearly"}
    )
    weight_decay: float = field(default=0.05, metadata={"help": "weight decay, not of biases and norms"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "gradient clipping; 0 for none"})
    mixed_precision: str = field(default="no", metadata={"help": "no or bf16"})
    logging_steps: int = field(default=50, metadata={"help": "steps between printed losses"})
    save_steps: int = field(default=500, metadata={"help": "steps between checkpoints; the last two are kept"})
    dataloader_num_workers: int = field(default=0, metadata={"help": "worker processes that load and augment"})

    def __post_init__(self):
        for name in (
            "per_device_batch_size",
            "gradient_accumulation_steps",
            "logging_steps",
            "save_steps",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("learning_rate", "retrain_learning_rate"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name in ("min_learning_rate", "warmup_learning_rate", "weight_decay", "max_grad_norm"):
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


class TellEpoch(TrainerCallback):
    """Tells examples with a `set_epoch` which epoch it is; accelerate's loader does not after a resume, or on two processes."""

    def __init__(self, examples: torch.utils.data.Dataset):
        self.examples = examples

    def on_epoch_begin(self, args, state, control, **unused):
        if hasattr(self.examples, "set_epoch"):
            self.examples.set_epoch(int(state.epoch + 1e-6))  # a resumed epoch begins with a fraction


class RaiseDropPath(TrainerCallback):
    """Drop path that grows linearly over training up to what the config says, as in DARTS (arXiv:1806.09055, A.2.1)."""

    def on_step_begin(self, args, state, control, model=None, **unused):
        plain = getattr(model, "module", model)
        plain.drop_path_rate = plain.config.drop_path_rate * state.global_step / state.max_steps


class ResumingTrainer(Trainer):
    """Trainer, which reads the weights of its checkpoints by their names in memory; on disk a ViT has those of transformers 4.

    Trainer itself would only warn and go on from the weights it was given (transformers issue 43701).
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: PreTrainedModel | None = None) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or hasattr(self.model, "peft_config"):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        model = self.model if model is None else model
        model.load_state_dict(type(model).from_pretrained(resume_from_checkpoint).state_dict())


def train(model: PreTrainedModel, examples: torch.utils.data.Dataset, arguments: TrainingArguments) -> PreTrainedModel:
    """Trains with `transformers.Trainer`, from the last whole checkpoint in the output folder if there is one."""
    trainer = ResumingTrainer(model, arguments, train_dataset=examples)
    trainer.add_callback(TellEpoch(trainer.train_dataset))
    if hasattr(model, "drop_path_rate"):
        trainer.add_callback(RaiseDropPath())
    trainer.train(resume_from_checkpoint=last_checkpoint(Path(arguments.output_dir)))
    return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)


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
        seed: Of the data order, and of what is random in the model.
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
    """The newest checkpoint of `Trainer` that was written to its end; its state is written last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if _is_json(path)]
    return str(max(whole, key=lambda path: int(path.name.split("-")[1]))) if whole else None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text())
    except ValueError:
        return False
    return True
