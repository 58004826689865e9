"""Take a checkpoint that was found to a downstream data set: evaluate it as it is, fine-tune it, train it from scratch.

    accelerate launch recipes/finetune.py vision --checkpoint runs/vit/subnet --mode inherit finetune retrain --seeds 0 1 2
    accelerate launch recipes/finetune.py vision --config recipes/configs/finetune/cifar10.yaml --checkpoint runs/vit/subnet
    accelerate launch recipes/finetune.py language --checkpoint runs/search_gpt/subnet --mode inherit finetune
    accelerate launch recipes/finetune.py language --checkpoint runs/search_gpt/subnet --lora_rank 8
    accelerate launch recipes/finetune.py language --checkpoint runs/small/subnet --teacher runs/large/finetune-0

`vision` and `language` have options of their own; put --help after them. Continue a stopped run, or add modes and seeds to
a finished one, with the same command and --resume: what is finished is not repeated.
"""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import set_seed
from transformers.utils.logging import disable_progress_bar

from tangle_hf.data.images.augmentation_settings import AugmentationArguments
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.errors import check_extra, readable_errors, writing
from tangle_hf.hub.cards import write_card
from tangle_hf.hub.publishing import check_target, folder_files, publish
from tangle_hf.hub.settings import HubArguments, hub_options
from tangle_hf.runs.about import about
from tangle_hf.runs.folder import begun, check_run_folder, defaults_of, settings_of
from tangle_hf.runs.reporting import refresh_report
from tangle_hf.search.distillation import Teacher
from tangle_hf.training import lora
from tangle_hf.training.finetuning import FREE_ON_RESUME, MODES, FinetuneArguments, finish, report
from tangle_hf.training.tasks import language_task, parse_for_kind
from tangle_hf.training.trainer import check_whole_weights, train, training_arguments


def main(
    settings: FinetuneArguments,
    hub: HubArguments,
    data: DataArguments | ImageArguments,
    *augmentation: AugmentationArguments,
) -> None:
    """All modes and seeds, one after another, and the table."""
    check_whole_weights()
    if augmentation:
        from tangle_hf.training.image_tasks import vision_task  # needs the extra vision
    if settings.lora_rank is not None:
        check_extra("peft", "peft")
    if data.streaming:
        raise ValueError("a downstream data set is read several times; leave out --streaming")
    # The settings of Trainer: without `cpu`, processes without a GPU would not see each other and all be the main one.
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
        teacher = None if settings.teacher is None else task.teacher(settings.teacher).to(state.device)
    with writing(run_dir), begun(run_dir, resolved, state.is_main_process, about(*parts)):
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
            taught = None
            if teacher is not None and mode != "inherit":
                taught = Teacher(teacher, settings.teacher_share, settings.teacher_temperature)
            if mode != "inherit":
                length = (settings.max_steps, settings.num_train_epochs)
                folder = run_dir / "checkpoints" / name
                model = train(
                    model,
                    task.examples.training(seed),
                    training_arguments(settings, mode, seed, folder, *length),
                    taught,
                )
            if state.is_main_process:
                row = {"mode": mode, "seed": None if mode == "inherit" else seed}
                if taught is not None:
                    row["teacher"] = taught.facts()
                    print(taught)
                finish(model, task, settings, run_dir, name, row)
                refresh_report(run_dir)
            state.wait_for_everyone()
    if state.is_main_process:
        print(report(task, settings.checkpoint, run_dir))
        for name in trained:
            write_card(run_dir, run_dir / name, license=hub.license)
        refresh_report(run_dir)
        if hub.push_to_hub:
            files, message = folder_files(run_dir / trained[0]), f"{trained[0]} of {run_dir.resolve().name}"
            print(f"published: {publish(files, repo_id, commit_message=message, **options)}")


def arguments(argv: list[str]) -> tuple:
    """The settings of a command line, whose first word, vision or language, decides which options there are."""
    return parse_for_kind(argv, "finetune.py", __doc__, FinetuneArguments, HubArguments)


if __name__ == "__main__":
    with readable_errors():
        main(*arguments(sys.argv[1:]))
