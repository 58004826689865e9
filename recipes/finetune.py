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
from dataclasses import dataclass, field, fields
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers import PreTrainedModel
from transformers.utils.logging import disable_progress_bar

from tangle_hf.analysis import format_table
from tangle_hf.data import text as text_data
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.transforms import AugmentationArguments
from tangle_hf.errors import readable_errors
from tangle_hf.files import replacing
from tangle_hf.hub.cards import write_finetuned_card
from tangle_hf.hub.publishing import check_target, folder_files, publish
from tangle_hf.hub.settings import HubArguments, command_line, hub_options
from tangle_hf.runs.folder import begun, check_run_folder, defaults_of, settings_of, write_json
from tangle_hf.training import lora
from tangle_hf.training.tasks import Task, language_task, parse_for_kind, vision_task
from tangle_hf.training.trainer import TrainingSettings, train, training_arguments


MODES = ("inherit", "finetune", "retrain")
FREE_ON_RESUME = {"resume", "output_dir", "mode", "seeds", "logging_steps", "save_steps", "dataloader_num_workers"}
FREE_ON_RESUME |= {item.name for item in fields(HubArguments)}


@dataclass
class FinetuneArguments(TrainingSettings):
    """Which checkpoint, what to do with it, and how to train.

    Raises:
        ValueError: A value is out of its range.
    """

    _argument_group_name = "fine-tuning"

    checkpoint: str = field(
        kw_only=True, metadata={"help": "folder or Hub name of the model: stock, or compact with its own code"}
    )
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
    lora_rank: int | None = field(
        default=None,
        metadata={"help": "finetune by low-rank adapters of this rank on all linear layers of the blocks, merged into the "
                          "model at the end and left in its folder adapter/ (needs the extra peft); default: all weights"},
    )  # fmt: skip
    resume: bool = field(default=False, metadata={"help": "continue the run in output_dir"})

    def __post_init__(self):
        super().__post_init__()
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
        if self.lora_rank is not None and "finetune" not in self.mode:
            raise ValueError(
                f"lora_rank={self.lora_rank} has no effect on mode={self.mode}; add finetune or leave it out"
            )


def main(
    settings: FinetuneArguments,
    hub: HubArguments,
    data: text_data.DataArguments | ImageArguments,
    *augmentation: AugmentationArguments,
) -> None:
    """All modes and seeds, one after another, and the table."""
    if data.streaming:
        raise ValueError("a downstream data set is read several times; leave out --streaming")
    # As Trainer will have it: without `cpu`, processes without a GPU would not see each other and all be the main one.
    state, run_dir = PartialState(cpu=not torch.accelerator.is_available()), Path(settings.output_dir)
    parts = (settings, hub, data, *augmentation)
    resolved = settings_of(*parts)
    check_run_folder(run_dir, resolved, settings.resume, FREE_ON_RESUME, defaults_of(*parts))
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
    with begun(run_dir, resolved, state.is_main_process):
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
                length = (settings.max_steps, settings.num_train_epochs)
                folder = run_dir / "checkpoints" / name
                model = train(model, task.train_data(seed), training_arguments(settings, mode, seed, folder, *length))
            if state.is_main_process:
                finish(
                    model, task, settings, run_dir, name, {"mode": mode, "seed": None if mode == "inherit" else seed}
                )
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
    """Settings of the command line, as `parse_for_kind`."""
    return parse_for_kind(argv, "finetune.py", __doc__, FinetuneArguments, HubArguments)


if __name__ == "__main__":
    with readable_errors(Path(__file__).parent):
        main(*arguments(sys.argv[1:]))
