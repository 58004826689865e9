"""Make a trained checkpoint smaller: cut it to a budget and let it recover.

    accelerate launch recipes/compress.py                                      # a small net on embedded text, minutes on a CPU
    accelerate launch recipes/compress.py --checkpoint runs/austen/supernet --max_params 60% \\
        --train_file austen/train.txt --validation_file austen/validation.txt --test_file austen/test.txt
    accelerate launch recipes/compress.py --checkpoint openai-community/gpt2 --max_params 80% 60% 40%
    accelerate launch recipes/compress.py --checkpoint runs/search_vit/supernet --max_flops 50% --output_dir runs/half

GPT-2, ViT, Llama, Mistral, Qwen2 and Qwen3, stock or a supernet's. The units of every layer are ordered by what they matter on
the data, and the uniform cut is trained on; --choice_ratio 0.1 tries other cuts beside it. Continue a stopped run with the same
command and --resume.
"""

from pathlib import Path

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import set_seed
from transformers.utils.logging import disable_progress_bar

from tangle_hf.analysis import format_table
from tangle_hf.compress.checkpoints import load_teacher
from tangle_hf.compress.choice import nets_to_try, plan_of
from tangle_hf.compress.data import examples_of, small_checkpoint
from tangle_hf.compress.forms import check_forms, leave_forms
from tangle_hf.compress.layerwise import LayerwiseTeacher
from tangle_hf.compress.preparation import FOUND, cut, prepare
from tangle_hf.compress.recovery import recover
from tangle_hf.compress.results import compare_nets, leave_row, report, save_net, tried_rows
from tangle_hf.compress.settings import FREE_ON_RESUME, CompressArguments, parse_for_checkpoint
from tangle_hf.compress.sizes import TABLE, sizes_of
from tangle_hf.compress.tasks import check_tasks, with_task_scores
from tangle_hf.data.images.augmentation_settings import AugmentationArguments
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.errors import readable_errors, writing
from tangle_hf.hub.cards import write_card
from tangle_hf.hub.publishing import check_target, folder_files, publish
from tangle_hf.hub.settings import HubArguments, hub_options
from tangle_hf.runs.about import about
from tangle_hf.runs.folder import begun, check_run_folder, defaults_of, settings_of
from tangle_hf.runs.reporting import refresh_report
from tangle_hf.runs.run import WAITING, device_name
from tangle_hf.search.choice import budget_use
from tangle_hf.search.loop import step_size
from tangle_hf.search.search_cost import SearchCost
from tangle_hf.training.trainer import check_whole_weights, training_arguments


TEACHER = "teacher"  # folder of the checkpoint that is trained where none is given


def main(
    settings: CompressArguments,
    hub: HubArguments,
    data: DataArguments | ImageArguments,
    *augmentation: AugmentationArguments,
) -> None:
    """The whole run: checkpoint, order, and for every budget a choice, a recovery, and what is left of it."""
    check_whole_weights()
    accelerator = Accelerator(
        cpu=not torch.accelerator.is_available(),
        mixed_precision=settings.mixed_precision,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=WAITING)],
    )
    run_dir, main_process = Path(settings.output_dir), accelerator.is_main_process
    parts = (settings, hub, data, *augmentation)
    resolved = settings_of(*parts)
    check_run_folder(run_dir, resolved, settings.resume, FREE_ON_RESUME, defaults_of(*parts))
    accelerator.wait_for_everyone()  # all have looked at the folder before the main process writes into it
    check_forms(settings.forms, text=not augmentation)
    check_tasks(settings.eval_tasks, text=not augmentation)
    repo_id, options = hub.hub_model_id or run_dir.resolve().name, hub_options(hub)
    if hub.push_to_hub:
        if len(settings.sizes()) != 1:
            raise ValueError(f"--push_to_hub publishes one net, these are {list(settings.sizes())}; give one budget")
        if main_process:  # better now than after hours
            check_target(repo_id, "compressed", **options)
    disable_progress_bar()  # of loading and saving; training has its own
    set_seed(settings.seed)
    facts = about(*parts, device=device_name(accelerator))
    made = [name for name in (TEACHER, TABLE, *FOUND) if not (run_dir / name).exists()]
    with writing(run_dir), begun(run_dir, resolved, main_process, facts, made):
        checkpoint = settings.checkpoint or small_checkpoint(run_dir / TEACHER, data, settings, main_process)
        accelerator.wait_for_everyone()  # the main process has saved it
        supernet = load_teacher(checkpoint, settings.layer_sizes).to(accelerator.device)
        with accelerator.main_process_first():
            examples = examples_of(checkpoint, supernet, data, *augmentation)
        sizes = sizes_of(settings, supernet, accelerator, examples.sequence_length, run_dir)
        batch = settings.per_device_batch_size
        cost = SearchCost(supernet, step_size(settings, accelerator), examples.sequence_length)
        how = (settings.teacher_share, settings.teacher_temperature, settings.layer_weight)
        teacher = LayerwiseTeacher(supernet, *how) if settings.teacher_share else None
        plan = plan_of(settings, supernet, sizes.values(), cost, teacher)
        prepared = prepare(supernet, examples, settings, plan, cost, run_dir, main_process)
        for name, size in sizes.items():
            if (run_dir / "rows" / f"{name}.json").is_file():
                accelerator.print(f"{name} is finished already")
                continue
            accelerator.print(f"{name}:")
            tools = (settings.arch_steps, settings.hand_cuts, accelerator, cost, teacher)
            tried = nets_to_try(supernet, examples, prepared, plan, size, *tools)
            how = training_arguments(
                settings, "finetune", settings.seed, run_dir / "checkpoints" / name, settings.max_steps
            )
            best = recover(supernet, tried.finalists, prepared, settings, examples, how, teacher, accelerator, cost)
            model, arch = best.model, best.decision.ranked[0].arch
            if main_process:
                rows = tried_rows(tried, best, supernet)
                print(f"nets that were tried, their validation loss while they recovered:\n{format_table(rows)}")
                difference = save_net(model, run_dir / name, arch, examples, supernet.auto_model)
                inherited = examples.score(cut(supernet, arch, prepared, show=False), examples.test, batch)
                table = compare_nets(supernet, checkpoint, arch, model, run_dir / name, inherited, examples, settings)
                tasks = (examples.processor, settings.eval_tasks, settings.eval_limit, run_dir / "tasks.json")
                table = with_task_scores(table, supernet, model, *tasks)
                forms = leave_forms(settings.forms, model, supernet, arch, run_dir / name, examples)
                costs = {"preparation": prepared.cost, **tried.costs, **best.costs}
                budgets = budget_use(arch, size.limits.budgets)
                others = {"seed": settings.seed, "logit_difference": difference, "forms": forms}
                leave_row(run_dir, name, supernet, best, budgets, rows, table, costs, teacher, others)
                refresh_report(run_dir)
            accelerator.wait_for_everyone()
    if main_process:
        print(report(run_dir, list(sizes), examples, checkpoint, settings.latency_batch_size))
        for name in sizes:
            write_card(run_dir, run_dir / name, license=hub.license)
        refresh_report(run_dir)
        if hub.push_to_hub:
            files, message = folder_files(run_dir / name), f"{name} of {run_dir.resolve().name}"
            print(f"published: {publish(files, repo_id, commit_message=message, **options)}")


if __name__ == "__main__":
    with readable_errors():
        main(*parse_for_checkpoint(None, __doc__))
