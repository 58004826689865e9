"""Tasks of lm-evaluation-harness, scored before and after a compression (extra eval)."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..errors import check_extra
from ..run_files import read_results
from ..runs.folder import write_json


YAML = (".yaml", ".yml")


def check_tasks(tasks: Sequence[str], text: bool) -> None:
    """Refuses, before anything is computed, tasks that cannot be scored.

    Args:
        tasks: Names that lm-evaluation-harness knows, or YAML files of tasks.
        text: Whether the checkpoint is a language model.

    Raises:
        ValueError: The checkpoint is an image classifier, a task is unknown, or a file has none.
        MissingExtra: lm-evaluation-harness is not installed.
    """
    if not tasks:
        return
    if not text:
        raise ValueError("eval_tasks are tasks of language models; leave them out, accuracy is in the table")
    check_extra("eval", "lm_eval")
    names = [task for task in tasks if not task.endswith(YAML)]
    missing = [task for task in tasks if task not in names and not Path(task).is_file()]
    missing += [name for name in names if not _known_tasks(True).match_tasks([name])]
    if missing:
        raise ValueError(
            f"eval_tasks={missing}: no such tasks; `lm_eval ls tasks` lists those with a name, others are YAML files"
        )
    for task in tasks:
        _names_no_others(task)


def task_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, tasks: Sequence[str], limit: int | None
) -> dict[str, float]:
    """Scores of a language model, "task metric" -> value, as `lm_eval` reports them.

    Args:
        model: The model, in memory.
        tokenizer: Its tokenizer.
        tasks: Names, or YAML files of tasks.
        limit: Examples of a task at most; None is all.
    """
    if not tasks:
        return {}
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    given = [str(Path(task).resolve()) if task.endswith(YAML) else task for task in tasks]
    wrapped = HFLM(pretrained=model.eval(), tokenizer=tokenizer, device=str(model.device))
    known = _known_tasks(not all(_names_no_others(task) for task in tasks))
    found = simple_evaluate(wrapped, tasks=given, limit=limit, bootstrap_iters=0, task_manager=known)["results"]
    return {
        f"{task} {name.removesuffix(',none')}": value
        for task, scores in found.items()
        for name, value in scores.items()
        if isinstance(value, float) and "stderr" not in name
    }


@cache
def _known_tasks(defaults: bool):
    """lm-evaluation-harness's list of tasks, with its own or none; its own are 14,000 files, which are read once."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_defaults=defaults)


def _names_no_others(task: str) -> bool:
    """Whether it is a YAML file of one task, which needs no list of others to be found in.

    Raises:
        ValueError: It is a file that has neither a task nor a group.
    """
    if not task.endswith(YAML):
        return False
    try:
        content = yaml.compose(Path(task).read_text(encoding="utf-8"))  # not loaded: it may have tags of the harness
    except (yaml.YAMLError, UnicodeDecodeError):
        content = None
    found = {key.value: value for key, value in content.value} if isinstance(content, yaml.MappingNode) else {}
    if not found.keys() & {"task", "group", "include"}:
        raise ValueError(f"eval_tasks={task} is no YAML file of a task: it has neither `task` nor `group`")
    return isinstance(found.get("task"), yaml.ScalarNode) and not found.keys() & {"group", "include"}


def with_task_scores(
    table: list[dict[str, Any]],
    supernet: PreTrainedModel,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    limit: int | None,
    known: Path,
) -> list[dict[str, Any]]:
    """The rows of the checkpoint, of the net as it was cut and as it is, with scores of tasks behind them.

    Args:
        table: These three rows.
        supernet: The checkpoint.
        model: The net as it is.
        tokenizer: Their tokenizer.
        tasks: Names, or YAML files of tasks; without any the rows stay as they are.
        limit: Examples of a task at most; None is all.
        known: File of the checkpoint's scores, which are the same for every net.
    """
    if not tasks:
        return table
    before = read_results(known) if known.is_file() else task_scores(supernet, tokenizer, tasks, limit)
    write_json(known, before)
    after = task_scores(model, tokenizer, tasks, limit)
    return [row | found for row, found in zip(table, (before, dict.fromkeys(before, "-"), after), strict=True)]
