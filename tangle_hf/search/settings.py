"""Settings of a search, with the help texts that recipes show."""

from dataclasses import MISSING, dataclass, field, fields
from importlib.util import find_spec

from ..values import check_learning_rates, check_values, share_of_peak
from .finalists.settings import USUAL, FinalistArguments
from .limit_settings import LimitArguments
from .methods import METHODS, Method
from .start_settings import StartArguments
from .two_stage.settings import TwoStageArguments


OPTIMIZERS = ("adamw", "sgd")
TRACKERS = ("none", "trackio", "tensorboard", "wandb", "aim", "comet_ml", "mlflow", "clearml", "dvclive", "swanlab")


@dataclass
class SearchArguments(TwoStageArguments, FinalistArguments, LimitArguments, StartArguments):
    """First-order bi-level search (arXiv:1806.09055, section 2.3; TangleNAS, arXiv:2312.10440, algorithm 1), or two stages.

    Raises:
        ValueError: A value is out of its range; the message says which values are allowed.
    """

    _argument_group_name = "search"

    output_dir: str = field(
        default="runs/search_gpt", metadata={"group": "run", "main": True, "help": "folder of the run"}
    )
    seed: int = field(
        default=0, metadata={"help": "seed of weights, architecture parameters, data order and sampling"}
    )
    method: str = field(
        default="drnas",
        metadata={
            "main": True,
            "help": "how weights are trained and the architecture is chosen: " + ", ".join(METHODS),
        },
    )
    max_steps: int = field(
        default=400, metadata={"main": True, "help": "weight steps; each has an architecture step before it"}
    )
    per_device_batch_size: int = field(
        default=16, metadata={"group": "training of the weights", "help": "examples per process and micro-batch"}
    )
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "micro-batches per step, of both levels"})
    optimizer: str = field(
        default="adamw",
        metadata={"help": "optimizer of the weights: adamw, or sgd with momentum, usual for convolutional nets"},
    )
    nesterov: bool = field(default=True, metadata={"help": "Nesterov's form of the momentum of sgd"})
    sgd_momentum: float = field(default=0.9, metadata={"help": "momentum of sgd, in [0, 1)"})
    min_learning_rate: float | None = field(
        default=None, metadata={"help": "learning rate at the end, at most the peak; default: a tenth of it"}
    )
    warmup_steps: int | None = field(
        default=None,
        metadata={
            "help": "steps of linear learning-rate warm-up, below max_steps; default: 20, at most a tenth of max_steps"
        },
    )
    weight_decay: float = field(
        default=0.1, metadata={"help": "weight decay of matrices, kernels and token embeddings"}
    )
    adam_beta1: float = field(default=0.9, metadata={"help": "AdamW beta1 of the weights"})
    adam_beta2: float = field(default=0.99, metadata={"help": "AdamW beta2 of the weights"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "gradient clipping of the weights; 0 for none"})
    arch_learning_rate: float | None = field(
        default=None,
        metadata={
            "group": "training of the architecture",
            "help": "Adam learning rate of the logits; default: 10 / architecture steps, at most 0.05",
        },
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
    arch_max_grad_norm: float = field(default=5.0, metadata={"help": "gradient clipping of the logits; 0 for none"})
    arch_warmup_ratio: float = field(
        default=0.2, metadata={"help": "share of the steps that train weights only, before architecture steps begin"}
    )
    unrolled: bool = field(
        default=False,
        metadata={
            "help": "second-order architecture steps: through one step of the weights (DARTS), five times the cost"
        },
    )
    arch_start_from: str | None = field(
        default=None, metadata={"help": "file of logits of an earlier search of the same space to start from"}
    )
    train_portion: float = field(
        default=0.8, metadata={"help": "share of the training data for weights; the rest is for the architecture"}
    )
    early_stop_evals: int | None = field(
        default=None,
        metadata={
            "group": "early stop",
            "help": "stop when this many evaluations in a row have found the same architecture and none of its rows is "
            "undecided; go on with --resume and another value",
        },
    )
    undecided_entropy: float = field(
        default=0.95,
        metadata={"help": "entropy of a row, relative to uniform, above which it counts as undecided"},
    )
    logging_steps: int = field(
        default=10, metadata={"group": "progress and checkpoints", "help": "steps between lines of metrics.jsonl"}
    )
    eval_steps: int = field(
        default=100, metadata={"help": "steps between evaluations of the current best architecture"}
    )
    eval_batches: int = field(default=10, metadata={"help": "validation batches of such an evaluation"})
    save_steps: int = field(default=100, metadata={"help": "steps between checkpoints; the last two are kept"})
    mixed_precision: str | None = field(
        default=None,
        metadata={"group": "speed and memory", "help": "no or bf16; default: what accelerate launch says"},
    )
    activation_checkpointing: bool = field(
        default=False, metadata={"help": "recompute activations in the backward pass: less memory, more time"}
    )
    compile_blocks: bool = field(
        default=False,
        metadata={
            "help": "compile the block under a mixture, one program for all blocks: faster, once the first steps have "
            "compiled it, which takes a minute or two"
        },
    )
    dataloader_num_workers: int = field(
        default=0, metadata={"help": "worker processes that load and augment, for each level; 0 with streaming"}
    )
    resume: bool = field(
        default=False,
        metadata={"group": "run", "main": True, "help": "continue the run in output_dir from its last checkpoint"},
    )
    report_to: str = field(
        default="none", metadata={"help": f"one of {', '.join(TRACKERS)}; install its package yourself"}
    )
    dry_run: bool = field(
        default=False,
        metadata={
            "help": "take two steps on synthetic data, then print parameters, memory, time per step and projected hours"
        },
    )

    def __post_init__(self):
        if self.method not in METHODS:
            raise ValueError(f"method={self.method!r} is unknown; choose one of {list(METHODS)}")
        if METHODS[self.method].choice == "es" and self.num_mutations + self.num_crossovers > self.population_size:
            raise ValueError(
                f"num_mutations={self.num_mutations} and num_crossovers={self.num_crossovers} are more than "
                f"population_size={self.population_size}; make them smaller or the population larger"
            )
        if METHODS[self.method].choice == "nsga2" and find_spec("pymoo") is None:
            raise ValueError(f"method={self.method} needs pymoo; install it with: pip install 'tangle_hf[search]'")
        for kind in (TwoStageArguments, FinalistArguments, LimitArguments, StartArguments):
            kind.__post_init__(self)
        check_values(self, infinite=("max_grad_norm", "arch_max_grad_norm"))
        counts = ("max_steps", "per_device_batch_size", "gradient_accumulation_steps")
        counts += ("logging_steps", "eval_steps", "eval_batches", "save_steps", "early_stop_evals")
        for name in counts:
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer={self.optimizer!r} is unknown; choose one of {OPTIMIZERS}")
        if not 0 <= self.sgd_momentum < 1:
            raise ValueError(f"sgd_momentum={self.sgd_momentum} must be at least 0 and below 1")
        check_learning_rates({"learning_rate": self.learning_rate}, {"min_learning_rate": self.min_learning_rate})
        check_learning_rates({"arch_learning_rate": self.arch_learning_rate}, {})
        for name in (
            "weight_decay",
            "warmup_steps",
            "max_grad_norm",
            "arch_max_grad_norm",
            "arch_weight_decay",
            "arch_kl_scale",
            "dataloader_num_workers",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        for name in ("adam_beta1", "adam_beta2", "arch_adam_beta1", "arch_adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and below 1")
        if self.min_learning_rate is None:
            self.min_learning_rate = share_of_peak(self.learning_rate, 10)
        if self.warmup_steps is None:
            self.warmup_steps = min(20, self.max_steps // 10)
        if self.warmup_steps and self.warmup_steps >= self.max_steps:
            raise ValueError(
                f"warmup_steps={self.warmup_steps} leaves none of max_steps={self.max_steps} for the peak learning rate; make "
                "it smaller, or leave it out for a tenth of the steps"
            )
        if self.report_to not in TRACKERS:
            raise ValueError(f"report_to={self.report_to!r} is unknown; choose one of {TRACKERS}")
        if not 0 <= self.arch_warmup_ratio < 1:
            raise ValueError(f"arch_warmup_ratio={self.arch_warmup_ratio} must be at least 0 and below 1")
        if not 0 < self.train_portion < 1:
            raise ValueError(f"train_portion={self.train_portion} must be between 0 and 1; both parts need data")
        if self.arch_kl_scale and self.method != "drnas":
            raise ValueError(
                f"arch_kl_scale={self.arch_kl_scale} is for the Dirichlet of method=drnas; with method={self.method} use "
                "arch_weight_decay"
            )
        if self.mixed_precision not in (None, "no", "bf16"):
            raise ValueError(f"mixed_precision={self.mixed_precision!r} is not supported; choose no or bf16")
        if not 0 < self.undecided_entropy <= 1:
            raise ValueError(
                f"undecided_entropy={self.undecided_entropy} must be above 0 and at most 1, which is uniform"
            )
        self._check_method()
        self._check_finalists()

    def _check_method(self) -> None:
        if self.distillation and self.teacher_share:
            raise ValueError(
                f"distillation={self.distillation} and teacher_share={self.teacher_share}: the largest net and the checkpoint "
                "would both teach; leave one out"
            )
        if self.nsga2_cost == "latency_ms" and not self.asks_for_latency:
            raise ValueError("nsga2_cost=latency_ms needs times of this device; give max_latency_ms or latency_table")
        if self.path_sampling == "budget" and not self.given_limits():
            raise ValueError(
                "path_sampling=budget needs a budget; give max_params, max_flops or another, or use uniform"
            )
        one_stage = [name for name in ("pareto", "early_stop_evals") if getattr(self, name) is not None]
        if one_stage and self.resolved_method.two_stage:
            raise ValueError(
                f"{', '.join(one_stage)} would have no effect: method={self.method} has no architecture parameters; choose "
                "a method of one stage or leave it out"
            )

    def _check_finalists(self) -> None:
        if self.finalist_start == "checkpoint" and self.start_from is None:
            raise ValueError(
                "finalist_start=checkpoint needs a checkpoint; give start_from, or choose new or supernet"
            )
        if not self.finalists and not self.random_finalists:
            return
        if self.pareto is not None and not self.finalists:
            raise ValueError(
                f"random_finalists={self.random_finalists} would have no effect: a front has finalists on request only; give "
                "finalists, too"
            )
        if not self.given_limits() and self.pareto is None and not self.finalists:
            raise ValueError(
                f"random_finalists={self.random_finalists} would have no effect: without a budget there are finalists on "
                "request only; give finalists, too"
            )

    @property
    def proposed_finalists(self) -> int:
        """How many finalists the search proposes; 0: it ends without finalists."""
        if self.finalists is not None:
            return self.finalists
        return USUAL if self.given_limits() and self.pareto is None else 0

    @property
    def resolved_finalist_start(self) -> str:
        """What finalists are trained from: where none is said the checkpoint that the search starts from, or new weights."""
        return self.finalist_start or ("new" if self.start_from is None else "checkpoint")

    @property
    def resolved_method(self) -> Method:
        """What `method` stands for."""
        return METHODS[self.method]

    @property
    def sampler(self) -> str:
        """The sampler of a one-stage method."""
        if self.resolved_method.two_stage:
            raise ValueError(f"method={self.method} trains weights on single paths and has no sampler of mixtures")
        return self.resolved_method.weights

    def settings_without_effect(self) -> dict[str, str]:
        """Settings that differ from their defaults and that nothing reads, each with the reason in a few words."""
        unread = dict.fromkeys(settings_not_read(self.resolved_method), f"with method={self.method}")
        budget = bool(self.given_limits()) or self.pareto is not None
        finalists = ("finalist_ratio", "finalist_start", "finalist_seeds", "finalist_batches")
        for read, names, reason in (
            (self.pareto is not None, ("pareto_points",), "without pareto"),
            (budget, ("budget_mode", "budget_parts"), "without a budget"),
            (budget or self.standard_only, ("budget_candidates",), "without a budget"),
            (
                budget or self.standard_only or self.resolved_method.two_stage,
                ("candidate_batches",),
                "without a budget",
            ),
            (self.teacher_share, ("teacher_temperature",), "without teacher_share"),
            (self.proposed_finalists, finalists, "without finalists"),
            (self.optimizer == "sgd", ("sgd_momentum", "nesterov"), f"with optimizer={self.optimizer}"),
            (self.optimizer != "sgd", ("adam_beta1", "adam_beta2"), f"with optimizer={self.optimizer}"),
        ):
            for name in () if read else names:
                unread.setdefault(name, reason)
        defaults = {f.name: f.default if f.default is not MISSING else f.default_factory() for f in fields(self)}
        return {name: reason for name, reason in unread.items() if getattr(self, name) != defaults[name]}

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


def settings_not_read(method: Method) -> list[str]:
    """Names of the settings that are for other methods."""
    names = []
    if method.two_stage:
        names += [f.name for f in fields(SearchArguments) if f.name.startswith("arch_")]
        names += ["budget_candidates", "budget_parts", "undecided_entropy", "unrolled", "compile_blocks"]
    else:
        names += [f.name for f in fields(TwoStageArguments) if f.name != "candidate_batches"]
    if method.weights == "spos":
        names += ["sandwich_paths", "distillation"]
    if method.two_stage and method.choice != "es":
        names += ["num_mutations", "num_crossovers"]
    if method.choice == "rs":
        names += ["mutation_prob", "whole_mutation_prob"]
    if method.two_stage:
        names.append("budget_mode" if method.choice == "nsga2" else "nsga2_cost")
    return names
