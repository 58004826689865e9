"""Fine-tuning: its settings, what it leaves of every net, and its table."""

import shutil
import statistics
from dataclasses import dataclass, field, fields
from pathlib import Path

from transformers import PreTrainedModel

from ..analysis import format_table
from ..files import replacing
from ..hub.settings import HubArguments, command_line
from ..messages import format_lines
from ..models.generation import with_pad_token
from ..run_files import read_results
from ..runs.closing import next_steps_of_trained
from ..runs.folder import write_json
from ..search.distillation import TeacherArguments
from ..settings import with_default
from . import lora
from .tasks import Task
from .trainer import TrainingSettings


MODES = ("inherit", "finetune", "retrain")
FREE_ON_RESUME = {"resume", "output_dir", "mode", "seeds", "logging_steps", "save_steps", "dataloader_num_workers"}
FREE_ON_RESUME |= {item.name for item in fields(HubArguments)}


@dataclass
class FinetuneArguments(TrainingSettings, TeacherArguments):
    """Which checkpoint, what to do with it, and how to train.

    Raises:
        ValueError: A value is out of its range.
    """

    _argument_group_name = "fine-tuning"

    checkpoint: str = field(
        kw_only=True,
        metadata={
            "group": "run",
            "main": True,
            "help": "folder or Hub name of the model: stock, or compact with its own code",
        },
    )
    mode: list[str] = field(
        default_factory=lambda: ["finetune"],
        metadata={"main": True, "aliases": "--modes",  # as in comparisons
                  "help": "one or several of: inherit (evaluate as cut out; for images, only on the checkpoint's own "
                          "classes), finetune (go on from its weights; other classes get a new head), retrain (the same "
                          "architecture from scratch)"},
    )  # fmt: skip
    seeds: list[int] = field(
        default_factory=lambda: [0],
        metadata={"main": True, "help": "seeds of finetune and retrain: new weights, data order, augmentation"},
    )
    output_dir: str = field(default="runs/finetune", metadata={"main": True, "help": "folder of the run"})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "run the Python code that a checkpoint from elsewhere brings"}
    )
    num_train_epochs: float = field(
        default=3.0, metadata={"group": "training", "main": True, "help": "passes over the training data"}
    )
    max_steps: int | None = field(default=None, metadata={"help": "steps; overrides num_train_epochs"})
    lora_rank: int | None = field(
        default=None,
        metadata={"main": True,
                  "help": "finetune by low-rank adapters of this rank on all linear layers of the blocks, merged into the "
                          "model at the end and left in its folder adapter/ (needs the extra peft); default: all weights"},
    )  # fmt: skip
    teacher: str | None = field(
        default=None,
        metadata={"group": "teacher",
                  "help": "folder or Hub name of a model whose outputs are learned, with the same vocabulary or classes "
                          "(distillation); default: none, the labels are learned"},
    )  # fmt: skip
    teacher_share: float = with_default(TeacherArguments, "teacher_share", 1.0)
    resume: bool = field(
        default=False, metadata={"group": "run", "main": True, "help": "continue the run in output_dir"}
    )

    def __post_init__(self):
        super().__post_init__()
        TeacherArguments.__post_init__(self)
        for mode in self.mode:
            if mode not in MODES:
                raise ValueError(f"mode={mode!r} is unknown; choose from {MODES}")
        if not self.mode or not self.seeds:
            raise ValueError(f"mode={self.mode} and seeds={self.seeds} must have at least one entry")
        for name in ("mode", "seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)} names something twice")
        for name in ("max_steps", "lora_rank"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.num_train_epochs <= 0:
            raise ValueError(f"num_train_epochs={self.num_train_epochs} must be above 0")
        for name, usual in (("teacher_share", 1.0), ("teacher_temperature", 1.0)):
            if self.teacher is None and getattr(self, name) != usual:
                raise ValueError(
                    f"{name}={getattr(self, name)} has no effect without a teacher; name one with --teacher, or leave it out"
                )
        if self.teacher is not None and not self.teacher_share:
            raise ValueError(
                f"teacher={self.teacher} has no effect with teacher_share=0; leave it out, or give a share"
            )
        if self.teacher is not None and self.mode == ["inherit"]:
            raise ValueError(
                f"teacher={self.teacher} has no effect on mode={self.mode}; add finetune or retrain, or leave it out"
            )
        if self.lora_rank is not None and "finetune" not in self.mode:
            raise ValueError(
                f"lora_rank={self.lora_rank} has no effect on mode={self.mode}; add finetune or leave it out"
            )


def finish(
    model: PreTrainedModel, task: Task, settings: FinetuneArguments, run_dir: Path, name: str, row: dict
) -> None:
    """Scores the model, leaves it in a folder of its own, and then its row; its checkpoints are not needed any more."""
    if row["mode"] != "inherit":
        with replacing(run_dir / name, "config.json") as folder:
            if hasattr(model, "peft_config"):
                model = lora.merge(model, folder / "adapter")
            model.save_pretrained(folder)
            with_pad_token(task.examples.processor).save_pretrained(folder)
    examples, batch_size = task.examples, settings.per_device_batch_size
    parts = {"validation": examples.validation, "test": examples.test}
    scores = {name: examples.score(model, part, batch_size) for name, part in parts.items()}
    facts = {"parameters": model.num_parameters(), "command": command_line()}
    write_json(run_dir / "rows" / f"{name}.json", {**row, **facts, **scores})
    shutil.rmtree(run_dir / "checkpoints" / name, ignore_errors=True)
    if (run_dir / "checkpoints").is_dir() and not any((run_dir / "checkpoints").iterdir()):
        (run_dir / "checkpoints").rmdir()


def report(task: Task, checkpoint: str, run_dir: Path) -> str:
    """Leaves all finished rows, their summary and what cards show in `results.json`; the table, as the paper's table 5.

    The test score of each mode, mean and sample standard deviation over seeds; accuracies in percent.
    """
    rows = [read_results(path) for path in sorted((run_dir / "rows").glob("*.json"))]
    metric = task.examples.metric
    scale = 100 if metric == "accuracy" else 1
    line, summary = {"checkpoint": checkpoint}, {}
    for mode in MODES:
        values = [scale * row["test"][metric] for row in rows if row["mode"] == mode]
        line[mode] = "-"
        if values:
            deviation = statistics.stdev(values) if len(values) > 1 else None
            summary[mode] = {"mean": statistics.mean(values), "deviation": deviation, "seeds": len(values)}
            spread = "" if deviation is None else f" ± {deviation:.2f} ({len(values)} seeds)"
            line[mode] = f"{statistics.mean(values):.2f}{spread}"
    # A new head or another image size changes the count: that of the last mode is the model that will be used.
    line["parameters"] = next(row["parameters"] for mode in reversed(MODES) for row in rows if row["mode"] == mode)
    unit = "accuracy in percent" if metric == "accuracy" else "perplexity per token"
    facts = {"pipeline": task.examples.pipeline, "data": task.examples.description, "command": command_line()}
    results = {"metric": unit, "checkpoint": checkpoint, "test": summary, "rows": rows}
    write_json(run_dir / "results.json", {**results, **facts})
    names = [path.stem for path in sorted((run_dir / "rows").glob("*.json"))]
    nets = [run_dir / name for name in names if (run_dir / name / "config.json").is_file()]
    closing = format_lines(next_steps_of_trained(run_dir, nets, task.examples.pipeline))
    return f"{format_table([line])}\ntest {unit}; all numbers are in {run_dir / 'results.json'}\n{closing}"
