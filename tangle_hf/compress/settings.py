"""Settings of a compression, with the help texts that the recipe shows."""

import argparse
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from ..cost.kinds import LIMITS
from ..data.images.augmentation_settings import AugmentationArguments
from ..data.images.settings import ImageArguments
from ..data.text_settings import DataArguments
from ..hub.settings import HubArguments
from ..search import SearchArguments
from ..search.distillation import TeacherArguments
from ..settings import at_home, parse, read_config, with_default
from ..training.trainer import TrainingSettings
from .checkpoints import FEW, MANY, family_of


TEXT, IMAGES = (DataArguments,), (ImageArguments, AugmentationArguments)
FREE_ON_RESUME = {"resume", "output_dir", "logging_steps", "save_steps", "dataloader_num_workers"}
FREE_ON_RESUME |= {item.name for item in fields(HubArguments)}
USUAL = "60%"  # parameters that are left where no budget is given
FRONT = ("40%", "80%")  # shares of the cost of a checkpoint between which a front is, unless others are given


@dataclass
class CompressArguments(TrainingSettings, TeacherArguments):
    """Which checkpoint, how small, and how the smaller net is chosen and trained.

    Raises:
        ValueError: A value is out of its range, or budgets of several kinds do not belong together.
    """

    _argument_group_name = "compression"

    checkpoint: str | None = field(
        default=None,
        metadata={"group": "compression", "main": True,
                  "help": "folder or Hub name of the model to compress; default: a small one, trained on the data first"},
    )  # fmt: skip
    max_params: list[str] | None = field(
        default=None,
        metadata={"main": True,
                  "help": "most parameters that are left: a number, 20M, or 60%% of the checkpoint; several values give "
                          "several nets. Default, without any budget: " + USUAL.replace("%", "%%")},
    )  # fmt: skip
    max_params_without_embeddings: list[str] | None = field(
        default=None, metadata={"help": "most parameters without the embedding tables, written like max_params"}
    )
    max_flops: list[str] | None = field(
        default=None, metadata={"help": "most FLOPs of a forward pass over one example (a whole block of text)"}
    )
    max_latency_ms: list[str] | None = field(
        default=None,
        metadata={"help": "most milliseconds of a forward pass over latency_batch_size examples, predicted from times measured "
                          "on this device at the start: 12, or 60%% of the checkpoint"},
    )  # fmt: skip
    pareto: str | None = field(
        default=None,
        metadata={
            "help": "cost of a front of nets, in place of a budget: params, params_without_embeddings, flops or latency_ms"
        },
    )
    pareto_anchors: list[str] | None = field(
        default=None, metadata={"help": "its smallest and its largest share of that cost; default: 40%% 80%%"}
    )
    pareto_points: int = field(default=5, metadata={"help": "its nets, evenly from the smallest to the largest"})
    architecture: str | None = field(
        default=None,
        metadata={
            "main": True,
            "help": "architecture.json of the net that is left, in place of a budget and a choice",
        },
    )
    latency_batch_size: int = field(default=1, metadata={"help": "examples in a forward pass that is timed"})
    latency_table: str | None = field(
        default=None,
        metadata={"help": "file of measured times, latency_table.json of another run; default: measured at the start"},
    )
    standard_only: bool = field(
        default=False, metadata={"help": "find a net that is a stock transformers class: its layers are equal"}
    )
    calibration_examples: int = field(
        default=64, metadata={"help": "training examples by which units are ordered, and layers ranked at most"}
    )
    sensitivity_examples: int = field(
        default=16,
        metadata={
            "help": "of these, examples on which single choices are tried at most, and nets compared before training"
        },
    )
    arch_steps: int = field(
        default=0,
        metadata={
            "help": "architecture steps of a gradient search on the frozen checkpoint, beyond choice_ratio; 0: none"
        },
    )
    hand_cuts: int = field(
        default=4, metadata={"help": "nets with equal layers that are proposed, those that promise most"}
    )
    finalists: int = field(
        default=4, metadata={"help": "nets that sensitivities and gradient search propose, beside the hand cuts"}
    )
    choice_ratio: float = field(
        default=0.0,
        metadata={"help": "share of the cost of the recovery that choosing between nets may cost beside it, sensitivities and "
                          "steps of rivals that are not taken: 0.1 or more. Default: 0, the uniform cut is taken untried"},
    )  # fmt: skip
    finalist_batches: int = field(default=8, metadata={"help": "validation batches by which they are compared"})
    forms: list[str] = field(
        default_factory=list,
        metadata={"group": "what is left", "help": "other forms beside the natural one: padded, onnx, gguf"},
    )
    eval_tasks: list[str] = field(
        default_factory=list,
        metadata={"help": "tasks of lm-evaluation-harness, scored on checkpoint and nets: names, or YAML files"},
    )
    eval_limit: int | None = field(default=None, metadata={"help": "examples of each task at most; default: all"})
    max_steps: int = field(
        default=400, metadata={"group": "training", "main": True, "help": "steps in which the chosen net recovers"}
    )
    per_device_batch_size: int = with_default(TrainingSettings, "per_device_batch_size", 8)
    weight_decay: float = with_default(TrainingSettings, "weight_decay", 0.01)
    learning_rate: float = with_default(
        TrainingSettings,
        "learning_rate",
        1e-3,
        help="peak learning rate, about half of the checkpoint's own; then a cosine",
    )
    teacher_share: float = with_default(
        TeacherArguments, "teacher_share", 0.0,
        help="share of what the checkpoint says, as target beside the labels, wherever smaller nets are trained; 1: no labels",
    )  # fmt: skip
    layer_weight: float | None = field(
        default=None,
        metadata={"help": "weight of the checkpoint's residual stream behind each layer, which is learned beside its outputs; "
                          "0: outputs alone. Default: 1, and 0 with teacher_share 0"},
    )  # fmt: skip
    taught_ratio: float | None = field(
        default=None,
        metadata={"help": "share of the steps, the first ones, in which the checkpoint teaches; then labels alone are "
                          "learned, which costs no passes of it. Default: 1, and 0 with teacher_share 0"},
    )  # fmt: skip
    seed: int = field(default=0, metadata={"group": "run", "help": "seed of data order and draws"})
    output_dir: str = field(default="runs/compress", metadata={"main": True, "help": "folder of the run"})
    resume: bool = field(default=False, metadata={"main": True, "help": "continue the run in output_dir"})

    @property
    def layer_sizes(self) -> int:
        """How many sizes hidden units and heads of a layer may have: few where each of them is tried or timed."""
        return FEW if self.choice_ratio or "max_latency_ms" in self.given() else MANY

    def __post_init__(self):
        super().__post_init__()
        TeacherArguments.__post_init__(self)
        if self.retrain_learning_rate is not None:
            raise ValueError(f"retrain_learning_rate={self.retrain_learning_rate} has no effect; use learning_rate")
        for name in (
            "calibration_examples",
            "sensitivity_examples",
            "hand_cuts",
            "finalist_batches",
            "latency_batch_size",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.eval_limit is not None and (self.eval_limit < 1 or not self.eval_tasks):
            raise ValueError(f"eval_limit={self.eval_limit} must be at least 1, and needs eval_tasks")
        self._check_front()
        if "max_latency_ms" not in self.given() and (self.latency_table is not None or self.latency_batch_size != 1):
            raise ValueError("latency_table and latency_batch_size would have no effect: give max_latency_ms, too")
        for name in ("arch_steps", "finalists"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if self.max_steps < 1:
            raise ValueError(f"max_steps={self.max_steps} must be at least 1")
        if self.layer_weight is None:
            self.layer_weight = 1.0 if self.teacher_share else 0.0
        if self.taught_ratio is None:
            self.taught_ratio = 1.0 if self.teacher_share else 0.0
        if not 0 <= self.taught_ratio <= 1 or bool(self.taught_ratio) != bool(self.teacher_share):
            raise ValueError(
                f"taught_ratio={self.taught_ratio} must be above 0 and at most 1, and 0 with teacher_share 0 only, which is "
                f"{self.teacher_share}"
            )
        if self.layer_weight and not self.teacher_share:
            raise ValueError(
                f"layer_weight={self.layer_weight} would have no effect: teacher_share is 0; leave it out"
            )
        if self.layer_weight < 0:
            raise ValueError(f"layer_weight={self.layer_weight} must not be negative")
        if not 0 <= self.choice_ratio <= 1:
            raise ValueError(f"choice_ratio={self.choice_ratio} must be between 0 and 1")
        usual = {"arch_steps": 0, "hand_cuts": 4, "finalists": 4, "finalist_batches": 8}
        for name in (name for name in usual if getattr(self, name) != usual[name] and self.choice_ratio == 0):
            raise ValueError(
                f"{name}={getattr(self, name)} would have no effect with choice_ratio 0, by which nothing is chosen; use "
                "--choice_ratio 0.1"
            )
        if self.teacher_temperature != 1 and not self.teacher_share:
            raise ValueError(
                f"teacher_temperature={self.teacher_temperature} would have no effect with teacher_share 0; leave it out"
            )
        given = self.given()
        if self.architecture is not None and (given or self.standard_only or self.choice_ratio):
            raise ValueError(
                f"architecture={self.architecture} says what is left: budgets, standard_only and choice_ratio would have no "
                "effect; leave them out"
            )
        if not given and self.architecture is None:
            self.max_params = [USUAL]
        if len({len(values) for values in given.values() if len(values) > 1}) > 1 or not all(given.values()):
            raise ValueError(
                f"{given}: several budgets of one kind belong to those of another one by one; give equally many, or one"
            )

    def given(self) -> dict[str, list[str]]:
        """The budgets that are given, name -> values."""
        values = {name: getattr(self, name, None) for name in LIMITS}
        if self.pareto is not None:
            values[f"max_{self.pareto}"] = self._front()
        return {name: found for name, found in values.items() if found is not None}

    def _check_front(self) -> None:
        if self.pareto is None:
            if self.pareto_anchors is not None or self.pareto_points != 5:
                raise ValueError(
                    "pareto_anchors and pareto_points would have no effect: give the cost of the front with pareto"
                )
            return
        if (name := f"max_{self.pareto}") not in LIMITS:
            allowed = ", ".join(name.removeprefix("max_") for name in LIMITS)
            raise ValueError(f"pareto={self.pareto!r} is not a cost; choose one of {allowed}")
        if getattr(self, name) is not None:
            raise ValueError(f"pareto={self.pareto} and {name} limit the same cost; leave one of them out")
        if self.pareto_points < 2:
            raise ValueError(f"pareto_points={self.pareto_points} must be at least 2; one net needs no front")
        ends = self.pareto_anchors or FRONT
        share = r"\d+(\.\d+)?%"
        if not re.fullmatch(f"{share} {share}", " ".join(ends)) or float(ends[0][:-1]) >= float(ends[1][:-1]):
            raise ValueError(
                f"pareto_anchors={ends} must be two shares of the checkpoint, the smaller one first, as 40% 80%"
            )

    def _front(self) -> list[str]:
        """The budgets of a front, the largest first."""
        least, most = (float(share[:-1]) for share in self.pareto_anchors or FRONT)
        gap = (most - least) / (self.pareto_points - 1)
        return [f"{most - number * gap:.4g}%" for number in range(self.pareto_points)]

    def sizes(self) -> dict[str, dict[str, str]]:
        """The nets that are asked for, name of the net -> its budgets.

        Raises:
            ValueError: Two are the same.
        """
        given, found = self.given(), {}
        if self.architecture is not None:
            return {"architecture": {}}
        count = max(map(len, given.values()))
        for number in range(count):
            budgets = {name: values[number if len(values) > 1 else 0] for name, values in given.items()}
            name = re.sub(r"[^\w.-]+", "", "-".join(budgets.values()).replace("%", "pct"))
            if name in found:
                raise ValueError(f"the budgets {budgets} are given twice; leave one out")
            found[name] = budgets
        return found

    @property
    def taught(self) -> int:
        """Steps of a recovery in which the checkpoint teaches."""
        return math.ceil(self.taught_ratio * self.max_steps)

    def search_settings(self, budgets: dict[str, str], folder: str) -> SearchArguments:
        """The settings of a search from the checkpoint with these budgets: its architecture steps, and its finalists."""
        same = (
            "seed", "per_device_batch_size", "gradient_accumulation_steps", "optimizer", "nesterov", "learning_rate",
            "min_learning_rate", "weight_decay", "adam_beta1", "adam_beta2", "max_grad_norm", "mixed_precision",
            "dataloader_num_workers", "teacher_share", "teacher_temperature", "standard_only", "max_steps",
        )  # fmt: skip
        return SearchArguments(
            finalists=self.finalists if self.architecture is None else 0,
            **{name: getattr(self, name) for name in same},
            **budgets,
            **self._latency(),
            output_dir=folder,
            resume=self.resume,
            start_from=self.checkpoint or "the data",
            warmup_steps=int(self.warmup_ratio * self.max_steps),
            arch_warmup_ratio=0.0,
        )

    def _latency(self) -> dict[str, Any]:
        names = ("latency_table", "latency_batch_size")
        return {} if "max_latency_ms" not in self.given() else {name: getattr(self, name) for name in names}


def parse_for_checkpoint(argv: Sequence[str] | None, description: str) -> tuple:
    """Settings of a command line, whose checkpoint decides whether its data are text or images.

    Args:
        argv: Arguments without the program's name; `sys.argv[1:]` by default.
        description: Text above the options in `--help`: the docstring of the calling script.

    Raises:
        ValueError: An option is unknown or has a wrong value.
    """
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--checkpoint")
    finder.add_argument("--config")
    given = finder.parse_known_args(argv)[0]
    checkpoint = given.checkpoint
    if checkpoint is None and given.config is not None:
        checkpoint = read_config(given.config, CompressArguments, *TEXT, *IMAGES, HubArguments).get("checkpoint")
    images = False
    if checkpoint is not None:
        with suppress(ValueError):  # which is said when the checkpoint is loaded, before anything else is read
            images = family_of(at_home(checkpoint)).main_input_name == "pixel_values"
    return parse(CompressArguments, HubArguments, *(IMAGES if images else TEXT), argv=argv, description=description)
