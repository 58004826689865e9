"""Arguments of a comparison."""

from dataclasses import dataclass, field

from ..values import check_learning_rates, check_values


MODES = ("retrain", "finetune", "inherit")
BASELINES = ("largest", "uniform", "random", "most_parameters")
PROTOCOLS = ("every_run", "paper")


@dataclass
class CompareArguments:
    """What to compare, and how to train it.

    Raises:
        ValueError: A value is out of its range.
    """

    _argument_group_name = "comparison"

    runs: list[str] = field(
        metadata={
            "group": "what is compared",
            "main": True,
            "help": "folders of finished searches, as folder or method=folder; runs of one method are its repetitions",
        }
    )
    architectures: list[str] = field(
        default_factory=list,
        metadata={"main": True, "help": "other nets of the space: name=architecture.json, trained from scratch only"},
    )
    output_dir: str = field(default="runs/compare", metadata={"main": True, "help": "folder of the comparison"})
    modes: list[str] = field(
        default_factory=lambda: list(MODES),
        metadata={
            "main": True,
            "aliases": "--mode",  # as in fine-tuning
            "help": "retrain (from scratch), finetune (from the weights of the run's supernet), inherit (evaluate these)",
        },
    )
    seeds: list[int] | None = field(
        default=None,
        metadata={"main": True, "help": "seeds of every training; default: 0, and 0 1 2 3 with --protocol paper"},
    )
    baseline_seeds: list[int] | None = field(default=None, metadata={"help": "seeds of the baselines; default: seeds"})
    horizons: list[float] = field(
        default_factory=lambda: [1.0],
        metadata={"main": True, "help": "lengths of the training, in multiples of max_steps, as in 1 3"},
    )
    protocol: str = field(
        default="every_run",
        metadata={"main": True,
                  "help": "every_run: train what each run found; paper: of four runs of a method train only the one whose net "
                          "inherits the best validation loss, with four seeds (arXiv:2312.10440, appendix E.4)"},
    )  # fmt: skip
    baselines: list[str] = field(
        default_factory=list,
        metadata={"main": True,
                  "help": "nets to compare with: largest (the largest net), uniform (the hand cuts: nets with equal layers "
                          "at the budget) and, of equal cost, random, most_parameters (of 200 random nets the one with "
                          "the most)"},
    )  # fmt: skip
    random_count: int = field(default=8, metadata={"help": "how many nets the baseline random has"})
    random_seed: int = field(default=0, metadata={"help": "seed of the random baselines"})
    max_params: str | None = field(
        default=None,
        metadata={
            "group": "budget of the baselines",
            "main": True,
            "help": "budget of the baselines, written as in a search; default: the budgets of the runs",
        },
    )
    max_params_without_embeddings: str | None = field(
        default=None, metadata={"help": "budget of parameters without the embedding tables"}
    )
    max_flops: str | None = field(default=None, metadata={"help": "budget of FLOPs"})
    max_latency_ms: str | None = field(
        default=None, metadata={"help": "budget of milliseconds, by the latency table of the first run"}
    )
    max_steps: int | None = field(
        default=None,
        metadata={"group": "training", "main": True, "help": "steps of horizon 1; default: those of the first run"},
    )
    per_device_batch_size: int | None = field(
        default=None, metadata={"help": "examples of a step; default: the first run's"}
    )
    learning_rate: float | None = field(
        default=None, metadata={"help": "peak learning rate; default: the first run's"}
    )
    min_learning_rate: float | None = field(
        default=None, metadata={"help": "learning rate at the end; default: the first run's share of the peak"}
    )
    finetune_learning_rate: float | None = field(
        default=None, metadata={"help": "peak learning rate of finetune; default: learning_rate"}
    )
    warmup_ratio: float = field(default=0.05, metadata={"help": "share of the steps in which the learning rate rises"})
    mixed_precision: str = field(default="no", metadata={"help": "no or bf16"})
    save_steps: int = field(default=500, metadata={"help": "steps between checkpoints of a row under way"})
    table: str | None = field(
        default=None,
        metadata={"group": "table of trained nets",
                  "help": "table of trained architectures (.jsonl, .json, .csv), for regret and percentile of every net; "
                          "default: the table of the runs, if they have one"},
    )  # fmt: skip
    table_metric: str | None = field(
        default=None,
        metadata={"help": "its metric, of which more is better; default: test_accuracy, else accuracy"},
    )
    rank_batches: int = field(
        default=50,
        metadata={"group": "measurements",
                  "help": "validation batches on which every net is scored in every supernet, for rank correlations, any-time "
                          "curves and to choose among runs; 0: none of these"},
    )  # fmt: skip
    cka_batches: int = field(default=4, metadata={"help": "validation batches for the similarity of layers; 0: none"})
    latency_rounds: int = field(default=20, metadata={"help": "forward passes of every net, timed in turns; 0: none"})
    generate_tokens: int = field(default=0, metadata={"help": "tokens whose generation is timed; 0: none"})
    keep_models: bool = field(
        default=True, metadata={"help": "keep trained nets in models/, which the similarity of layers needs"}
    )

    def __post_init__(self):
        check_values(self)
        check_learning_rates(
            {name: getattr(self, name) for name in ("learning_rate", "finetune_learning_rate")},
            {"min_learning_rate": self.min_learning_rate},
        )
        for name, allowed in {"modes": MODES, "baselines": BASELINES}.items():
            if unknown := [value for value in getattr(self, name) if value not in allowed]:
                raise ValueError(f"{name}={unknown} are unknown; choose from {allowed}")
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol={self.protocol!r} is unknown; choose from {PROTOCOLS}")
        if self.seeds is None:
            self.seeds = [0, 1, 2, 3] if self.protocol == "paper" else [0]
        if self.baseline_seeds is None:
            self.baseline_seeds = self.seeds
        for name in ("runs", "seeds", "baseline_seeds", "horizons", "modes"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"{name}={values} must have at least one entry and none twice")
        if min(self.horizons) <= 0:
            raise ValueError(f"horizons={self.horizons} must be above 0")
        for name in ("random_count", "max_steps", "per_device_batch_size", "save_steps"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("rank_batches", "cka_batches", "latency_rounds", "generate_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.protocol == "paper" and not self.rank_batches:
            raise ValueError(
                "protocol=paper chooses runs by validation loss, which rank_batches=0 does not measure; give at least 1"
            )
