"""Settings of the bi-level trainer, with the help texts that recipes show."""

from dataclasses import dataclass, field

from ..budgets import parse_amount
from ..samplers import SAMPLERS


BUDGET_MODES = ("equal", "at_most")
OPTIMIZERS = ("adamw", "sgd")


@dataclass
class SearchArguments:
    """First-order bi-level search (arXiv:1806.09055, section 2.3; TangleNAS, arXiv:2312.10440, algorithm 1).

    Raises:
        ValueError: A value is out of its range; the message says which values are allowed.
    """

    _argument_group_name = "search"

    output_dir: str = field(default="runs/search_gpt", metadata={"help": "folder of the run"})
    seed: int = field(
        default=0, metadata={"help": "seed of weights, architecture parameters, data order and sampling"}
    )
    sampler: str = field(
        default="drnas",
        metadata={"help": f"how logits become shares: {', '.join(sorted(SAMPLERS))} (spos trains weights only)"},
    )
    max_steps: int = field(default=400, metadata={"help": "weight steps; each has an architecture step before it"})
    per_device_batch_size: int = field(default=16, metadata={"help": "examples per process and micro-batch"})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "micro-batches per step, of both levels"})
    optimizer: str = field(
        default="adamw",
        metadata={"help": "of the weights: adamw, or sgd with momentum as in convolutional nets"},
    )
    nesterov: bool = field(default=True, metadata={"help": "Nesterov's form of the momentum of sgd"})
    sgd_momentum: float = field(default=0.9, metadata={"help": "momentum of sgd, in [0, 1)"})
    learning_rate: float = field(default=3e-3, metadata={"help": "peak learning rate of the weights (cosine)"})
    min_learning_rate: float = field(default=3e-4, metadata={"help": "learning rate at the end"})
    warmup_steps: int = field(default=20, metadata={"help": "steps of linear learning-rate warm-up"})
    weight_decay: float = field(default=0.1, metadata={"help": "weight decay of matrices and kernels"})
    adam_beta1: float = field(default=0.9, metadata={"help": "AdamW beta1 of the weights"})
    adam_beta2: float = field(default=0.99, metadata={"help": "AdamW beta2 of the weights"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "gradient clipping of the weights"})
    arch_learning_rate: float | None = field(
        default=None,
        metadata={"help": "Adam learning rate of the logits; default: 10 / architecture steps, at most 0.05"},
    )
    arch_adam_beta1: float = field(default=0.5, metadata={"help": "Adam beta1 of the logits"})
    arch_adam_beta2: float = field(default=0.999, metadata={"help": "Adam beta2 of the logits"})
    arch_weight_decay: float = field(default=0.0, metadata={"help": "L2 regularisation of the logits"})
    arch_kl_scale: float = field(
        default=0.0,
        metadata={
            "help": "weight of the divergence of DrNAS's Dirichlet from the flat one, instead of L2; only for drnas"
        },
    )
    arch_max_grad_norm: float = field(default=5.0, metadata={"help": "gradient clipping of the logits"})
    arch_warmup_ratio: float = field(
        default=0.2, metadata={"help": "share of the steps that train weights only, before architecture steps begin"}
    )
    unrolled: bool = field(
        default=False,
        metadata={
            "help": "second-order architecture steps: through one step of the weights (DARTS), four times the cost"
        },
    )
    arch_start_from: str | None = field(
        default=None, metadata={"help": "file of logits of an earlier search of the same space to start from"}
    )
    train_portion: float = field(
        default=0.8, metadata={"help": "share of the training data for weights; the rest is for the architecture"}
    )
    max_params: str | None = field(
        default=None,
        metadata={"help": "most parameters of the net: a number, 20M, or 50%% of the largest"},
    )
    max_params_without_embeddings: str | None = field(
        default=None, metadata={"help": "most parameters without the embedding tables, written like max_params"}
    )
    max_flops: str | None = field(
        default=None,
        metadata={"help": "most FLOPs of a forward pass over one example (a whole block of text): 1.5G, or 50%%"},
    )
    standard_only: bool = field(
        default=False, metadata={"help": "find a net that is a stock transformers class: its layers are equal"}
    )
    budget_mode: str = field(
        default="equal",
        metadata={"help": "equal: the expected cost stays on the budget; at_most: the budget is a ceiling only"},
    )
    budget_candidates: int = field(
        default=5,
        metadata={
            "help": "most likely nets within the limits, of which the one with the best inherited loss is taken"
        },
    )
    logging_steps: int = field(default=10, metadata={"help": "steps between lines of metrics.jsonl"})
    eval_steps: int = field(
        default=100, metadata={"help": "steps between evaluations of the current best architecture"}
    )
    eval_batches: int = field(default=10, metadata={"help": "validation batches of such an evaluation"})
    save_steps: int = field(default=100, metadata={"help": "steps between checkpoints; the last two are kept"})
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no or bf16; default: what accelerate launch says"}
    )
    activation_checkpointing: bool = field(
        default=False, metadata={"help": "recompute activations in the backward pass: less memory, more time"}
    )
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "worker processes that load and augment, for each level; 0 with streaming"}
    )
    resume: bool = field(default=False, metadata={"help": "continue the run in output_dir from its last checkpoint"})
    report_to: str = field(default="none", metadata={"help": "none, trackio, tensorboard or wandb"})
    dry_run: bool = field(
        default=False,
        metadata={"help": "two steps on synthetic data, then parameters, memory, time per step and hours"},
    )

    def __post_init__(self):
        if self.sampler not in SAMPLERS:
            raise ValueError(f"sampler={self.sampler!r} is unknown; choose one of {sorted(SAMPLERS)}")
        counts = ("max_steps", "per_device_batch_size", "gradient_accumulation_steps")
        for name in (*counts, "logging_steps", "eval_steps", "eval_batches", "save_steps", "budget_candidates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={self.optimizer!r} is unknown; choose one of {OPTIMIZERS}")
        if not 0 <= self.sgd_momentum < 1:
            raise ValueError(f"sgd_momentum={self.sgd_momentum} must be at least 0 and below 1")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate={self.learning_rate} must be above 0")
        for name in (
            "min_learning_rate",
            "weight_decay",
            "warmup_steps",
            "arch_weight_decay",
            "arch_kl_scale",
            "dataloader_num_workers",
        ):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if not 0 <= self.arch_warmup_ratio < 1:
            raise ValueError(f"arch_warmup_ratio={self.arch_warmup_ratio} must be at least 0 and below 1")
        if not 0 < self.train_portion < 1:
            raise ValueError(f"train_portion={self.train_portion} must be between 0 and 1; both parts need data")
        if self.arch_kl_scale and self.sampler != "drnas":
            raise ValueError(
                f"arch_kl_scale={self.arch_kl_scale} is for the Dirichlet of sampler=drnas; with sampler={self.sampler} use "
                "arch_weight_decay"
            )
        if self.mixed_precision not in (None, "no", "bf16"):
            raise ValueError(f"mixed_precision={self.mixed_precision!r} is not supported; choose no or bf16")
        self._check_limits()

    def _check_limits(self) -> None:
        given = [
            n for n in ("max_params", "max_params_without_embeddings", "max_flops") if getattr(self, n) is not None
        ]
        for name in given:
            try:
                parse_amount(getattr(self, name), largest=10**12)
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        if self.budget_mode not in BUDGET_MODES:
            raise ValueError(f"budget_mode={self.budget_mode!r} is unknown; choose one of {BUDGET_MODES}")
        limits = given + ["standard_only"] * self.standard_only
        if limits and SAMPLERS[self.sampler].single_path:
            raise ValueError(
                f"{', '.join(limits)} would have no effect: sampler={self.sampler} trains weights and chooses nothing; "
                "choose another sampler or leave it out"
            )

    @property
    def arch_warmup_steps(self) -> int:
        """Steps without an architecture step."""
        return round(self.arch_warmup_ratio * self.max_steps)

    @property
    def resolved_arch_learning_rate(self) -> float:
        """The given rate, or one with which Adam can move a logit by about 10 in the whole search."""
        if self.arch_learning_rate is not None:
            return self.arch_learning_rate
        return min(0.05, 10 / max(1, self.max_steps - self.arch_warmup_steps))
