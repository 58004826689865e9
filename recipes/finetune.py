"""Take a checkpoint that was found to a downstream data set: evaluate it as it is, fine-tune it, train it from scratch.

    accelerate launch recipes/finetune.py vision --checkpoint runs/vit/subnet --mode inherit finetune retrain --seeds 0 1 2
    accelerate launch recipes/finetune.py vision --config recipes/configs/finetune/cifar10.yaml --checkpoint runs/vit/subnet
    accelerate launch recipes/finetune.py language --checkpoint runs/search_gpt/subnet --mode inherit finetune
    accelerate launch recipes/finetune.py language --checkpoint runs/search_gpt/subnet --lora_rank 8

`vision` and `language` have options of their own; put --help after them. Continue a stopped run, or add modes and seeds to
a finished one, with the same command and --resume: what is finished is not repeated.
"""

import json
import shutil
import statistics
import sys
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import image_data
import lora
import text_data
import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from arguments import parse
from finetune_tasks import Task, language_task, vision_task
from hub_arguments import HubArguments, command_line, hub_options
from image_transforms import AugmentationArguments
from run_folder import check_run_folder, write_config, write_json
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.utils.logging import disable_progress_bar

from tangle_hf.analysis import format_table
from tangle_hf.card import write_finetuned_card
from tangle_hf.files import replacing
from tangle_hf.hub import check_target, folder_files, publish


MODES = ("inherit", "finetune", "retrain")
FREE_ON_RESUME = {"resume", "output_dir", "mode", "seeds", "logging_steps", "save_steps", "dataloader_num_workers"}
FREE_ON_RESUME |= {item.name for item in fields(HubArguments)}


@dataclass
class FinetuneArguments:
    """Which checkpoint, what to do with it, and how to train.

    Raises:
        ValueError: A value is out of its range.
    """

    _argument_group_name = "fine-tuning"

    checkpoint: str = field(metadata={"help": "folder or Hub name of the model: stock, or compact with its own code"})
    mode: list[str] = field(
        default_factory=lambda: ["finetune"],
        metadata={"help": "one or several of: inherit (evaluate as cut out; for images, only on the checkpoint's own "
                          "classes), finetune (go on from its weights; other classes get a new head), retrain (the same "
                          "architecture from scratch)"},
    )  # fmt: skip
    seeds: list[int] = field(
        default_factory=lambda: [0],
        metadata={"help": "seeds of finetune and retrain: new weights, data order, augmentation"},
    )
    output_dir: str = field(default="runs/finetune", metadata={"help": "folder of the run"})
    trust_remote_code: bool = field(
        default=False, metadata={"help": "run the Python code that a checkpoint from elsewhere brings"}
    )
    num_train_epochs: float = field(default=3.0, metadata={"help": "passes over the training data"})
    max_steps: int | None = field(default=None, metadata={"help": "steps; overrides num_train_epochs"})
    per_device_batch_size: int = field(default=32, metadata={"help": "examples per process and micro-batch"})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "micro-batches per step"})
    lora_rank: int | None = field(
        default=None,
        metadata={"help": "finetune by low-rank adapters of this rank on all linear layers of the blocks, merged into the "
                          "model at the end and left in its folder adapter/ (needs the extra peft); default: all weights"},
    )  # fmt: skip
    optimizer: str = field(default="adamw", metadata={"help": "adamw, or sgd with momentum 0.9"})
    learning_rate: float = field(default=1e-3, metadata={"help": "peak learning rate, followed by a cosine"})
    retrain_learning_rate: float | None = field(
        default=None, metadata={"help": "the same for retrain; default: learning_rate"}
    )
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
    resume: bool = field(default=False, metadata={"help": "continue the run in output_dir"})

    def __post_init__(self):
        for mode in self.mode:
            if mode not in MODES:
                raise ValueError(f"mode={mode!r} is unknown; choose from {MODES}")
        if not self.mode or not self.seeds:
            raise ValueError(f"mode={self.mode} and seeds={self.seeds} must have at least one entry")
        for name in ("mode", "seeds"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)} names something twice")
        for name in (
            "per_device_batch_size",
            "gradient_accumulation_steps",
            "logging_steps",
            "save_steps",
            "max_steps",
            "lora_rank",
        ):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        for name in ("num_train_epochs", "learning_rate"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0")
        for name in ("min_learning_rate", "warmup_learning_rate", "weight_decay", "max_grad_norm"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}={getattr(self, name)} must not be negative")
        if not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"warmup_ratio={self.warmup_ratio} must be at least 0 and below 1")
        if self.lora_rank is not None and "finetune" not in self.mode:
            raise ValueError(
                f"lora_rank={self.lora_rank} has no effect on mode={self.mode}; add finetune or leave it out"
            )
        if self.optimizer not in ("adamw", "sgd"):
            raise ValueError(f"optimizer={self.optimizer!r} is unknown; choose adamw or sgd")
        if self.mixed_precision not in ("no", "bf16"):
            raise ValueError(f"mixed_precision={self.mixed_precision!r} is not supported; choose no or bf16")


def main(
    settings: FinetuneArguments,
    hub: HubArguments,
    data: text_data.DataArguments | image_data.DataArguments,
    *augmentation: AugmentationArguments,
) -> None:
    """All modes and seeds, one after another, and the table."""
    if data.streaming:
        raise ValueError("a downstream data set is read several times; leave out --streaming")
    # As Trainer will have it: without `cpu`, processes without a GPU would not see each other and all be the main one.
    state, run_dir = PartialState(cpu=not torch.accelerator.is_available()), Path(settings.output_dir)
    resolved = {name: value for part in (settings, hub, data, *augmentation) for name, value in asdict(part).items()}
    check_run_folder(run_dir, resolved, settings.resume, FREE_ON_RESUME)
    # Evaluating draws no random numbers, so that one seed is enough.
    runs = [(mode, seed) for mode in MODES if mode in settings.mode for seed in settings.seeds]
    runs = [(mode, seed) for mode, seed in runs if mode != "inherit" or seed == settings.seeds[0]]
    names = {run: run[0] if run[0] == "inherit" else f"{run[0]}-{run[1]}" for run in runs}
    trained = [name for (mode, _), name in names.items() if mode != "inherit"]
    repo_id, options = hub.hub_model_id or run_dir.resolve().name, hub_options(hub)
    if hub.push_to_hub:
        if len(trained) != 1:
            raise ValueError(f"--push_to_hub publishes one net, these are {trained}; give one mode and one seed")
        if state.is_main_process:  # better now than after hours
            check_target(repo_id, "finetuned", **options)
    disable_progress_bar()  # of loading and saving; training has its own
    with state.main_process_first():
        if augmentation:
            task = vision_task(settings.checkpoint, settings.trust_remote_code, settings.mode, data, *augmentation)
        else:
            task = language_task(settings.checkpoint, settings.trust_remote_code, data)
    if state.is_main_process:
        write_config(run_dir, resolved)
    state.wait_for_everyone()
    for (mode, seed), name in names.items():
        if (run_dir / "rows" / f"{name}.json").is_file():
            state.print(f"{name} is finished already")
            continue
        state.print(f"{name}:")
        set_seed(seed)
        model = task.build(mode).to(state.device)
        if mode == "finetune" and settings.lora_rank is not None:
            model = lora.with_adapters(model, settings.lora_rank)
            state.print("{:,} of {:,} parameters are trained".format(*model.get_nb_trainable_parameters()))
        if mode != "inherit":
            model = train(model, task, settings, mode, seed, run_dir / "checkpoints" / name)
        if state.is_main_process:
            finish(model, task, settings, run_dir, name, {"mode": mode, "seed": None if mode == "inherit" else seed})
        state.wait_for_everyone()
    if state.is_main_process:
        print("\n" + report(task.metric, settings.checkpoint, run_dir))
        for name in trained:
            write_card(run_dir, name, task, resolved, hub.license)
        if hub.push_to_hub:
            files, message = folder_files(run_dir / trained[0]), f"{trained[0]} of {run_dir.name}"
            print(f"published: {publish(files, repo_id, commit_message=message, **options)}")


def write_card(run_dir: Path, name: str, task: Task, resolved: dict, license: str | None) -> None:
    """The model card of a trained net, from its row."""
    row = json.loads((run_dir / "rows" / f"{name}.json").read_text())
    facts = {"pipeline": task.pipeline, "data": task.data, "command": command_line()}
    columns = {"loss": ("test loss", 1), "perplexity": ("perplexity", 1), "accuracy": ("accuracy in %", 100)}
    scores = {columns[key][0]: columns[key][1] * value for key, value in row["test"].items()}
    write_finetuned_card(run_dir / name, resolved, {**row, **facts}, scores, license=license)


class TellEpoch(TrainerCallback):
    """Tells examples with a `set_epoch` which epoch it is; accelerate's loader does not after a resume, or on two processes."""

    def __init__(self, examples: torch.utils.data.Dataset):
        self.examples = examples

    def on_epoch_begin(self, args, state, control, **unused):
        if hasattr(self.examples, "set_epoch"):
            self.examples.set_epoch(int(state.epoch + 1e-6))  # a resumed epoch begins with a fraction


class ResumingTrainer(Trainer):
    """Trainer, which reads the weights of its checkpoints by their names in memory; on disk a ViT has those of transformers 4.

    Trainer itself would only warn and go on from the weights it was given (transformers issue 43701).
    """

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: PreTrainedModel | None = None) -> None:
        if self.is_fsdp_enabled or self.is_deepspeed_enabled or hasattr(self.model, "peft_config"):
            return super()._load_from_checkpoint(resume_from_checkpoint, model)
        model = self.model if model is None else model
        model.load_state_dict(type(model).from_pretrained(resume_from_checkpoint).state_dict())


def train(
    model: PreTrainedModel, task: Task, settings: FinetuneArguments, mode: str, seed: int, folder: Path
) -> PreTrainedModel:
    """Trains with `transformers.Trainer`, from the last whole checkpoint in the folder if there is one."""
    trainer = ResumingTrainer(
        model, training_arguments(settings, mode, seed, folder), train_dataset=task.train_data(seed)
    )
    trainer.add_callback(TellEpoch(trainer.train_dataset))
    trainer.train(resume_from_checkpoint=last_checkpoint(folder))
    return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)


def training_arguments(settings: FinetuneArguments, mode: str, seed: int, folder: Path) -> TrainingArguments:
    """The arguments of `Trainer` for these settings."""
    peak = settings.learning_rate
    if mode == "retrain" and settings.retrain_learning_rate is not None:
        peak = settings.retrain_learning_rate
    return TrainingArguments(
        output_dir=str(folder),
        seed=seed,
        per_device_train_batch_size=settings.per_device_batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        num_train_epochs=settings.num_train_epochs,
        max_steps=settings.max_steps or -1,
        optim="adamw_torch" if settings.optimizer == "adamw" else "sgd",
        optim_args=None if settings.optimizer == "adamw" else "momentum=0.9",
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


def finish(
    model: PreTrainedModel, task: Task, settings: FinetuneArguments, run_dir: Path, name: str, row: dict
) -> None:
    """Scores the model, leaves it in a folder of its own, and then its row; its checkpoints are not needed any more."""
    if row["mode"] != "inherit":
        with replacing(run_dir / name, "config.json") as folder:
            if hasattr(model, "peft_config"):
                model = lora.merge(model, folder / "adapter")
            model.save_pretrained(folder)
            task.processor.save_pretrained(folder)
    scores = {split: task.score(model, split, settings.per_device_batch_size) for split in ("validation", "test")}
    write_json(run_dir / "rows" / f"{name}.json", {**row, "parameters": model.num_parameters(), **scores})
    shutil.rmtree(run_dir / "checkpoints" / name, ignore_errors=True)
    if (run_dir / "checkpoints").is_dir() and not any((run_dir / "checkpoints").iterdir()):
        (run_dir / "checkpoints").rmdir()


def report(metric: str, checkpoint: str, run_dir: Path) -> str:
    """Leaves all finished rows and their summary in `results.json`; the table, with the columns of the paper's table 5.

    The test score of each mode, mean and sample standard deviation over seeds; accuracies in percent.
    """
    rows = [json.loads(path.read_text()) for path in sorted((run_dir / "rows").glob("*.json"))]
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
    write_json(run_dir / "results.json", {"metric": unit, "checkpoint": checkpoint, "test": summary, "rows": rows})
    return f"{format_table([line])}\ntest {unit}; all numbers are in {run_dir / 'results.json'}"


def arguments(argv: list[str]) -> tuple:
    """Settings of the command line, whose first word is the kind of checkpoint.

    Raises:
        ValueError: The first word is neither vision nor language, or as `arguments.parse`.
    """
    kinds = {"vision": (image_data.DataArguments, AugmentationArguments), "language": (text_data.DataArguments,)}
    if not argv or argv[0] not in kinds:
        if argv and argv[0] in ("-h", "--help"):
            print(__doc__)
            raise SystemExit(0)
        raise ValueError(f"the first argument must be vision or language, got {argv[:1]}; as in `finetune.py vision`")
    return parse(FinetuneArguments, HubArguments, *kinds[argv[0]], argv=argv[1:], description=__doc__)


if __name__ == "__main__":
    main(*arguments(sys.argv[1:]))
