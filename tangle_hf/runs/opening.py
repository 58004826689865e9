"""What a search prints at its start: what is searched, what it keeps to, and how."""

from transformers import PreTrainedModel

from ..analysis import format_table
from ..cost.counts import num_params, parameter_entries
from ..cost.kinds import COSTS
from ..cost.tables import of_largest, tabulate
from ..messages import format_lines
from ..search import SearchArguments
from ..search.limits import Limits


def opening(supernet: PreTrainedModel, settings: SearchArguments, limits: Limits) -> str:
    """The dimensions and their choices, the sizes of the smallest and the largest net, budgets, and the method.

    Args:
        supernet: What is searched.
        settings: The search's.
        limits: What it keeps to.
    """
    space = supernet.space
    rows = [
        {"dimension": name, "choices": ", ".join(map(str, choices)), "decisions": space.rows(name)}
        for name, choices in space.choices.items()
    ]
    lines = {"architectures": f"{space.size:,}", "parameters": _sizes(supernet)}
    if kept := getattr(supernet.config, "kept_inputs", 0):  # of cells, chosen at the end
        lines = {name: f"{value}, of all edges; nodes of a net keep {kept}" for name, value in lines.items()}
    example = "image" if limits.sequence_length is None else "block"
    for budget in limits.budgets:
        words, largest = COSTS[budget.cost].words.format(example=example), of_largest(budget.table)
        share = f"{budget.limit / largest:.1%} of the largest net's"
        lines[f"max_{budget.cost}"] = f"{budget.text(budget.limit)} {words}, {share}"
    if settings.pareto is not None:
        anchors = [anchor[-1].text(anchor[-1].limit) for anchor in limits.anchors]
        lines["front"] = f"{COSTS[settings.pareto].words.format(example=example)}, anchors {', '.join(anchors)}"
    lines["method"] = f"{settings.method}, {_steps(settings)}"
    return f"{format_table(rows)}\n{format_lines(lines)}"


def _sizes(supernet: PreTrainedModel) -> str:
    space, config = supernet.space, supernet.config
    if not space.ordered:
        return f"up to {of_largest(tabulate(space, parameter_entries(config))):,}"
    smallest, largest = (num_params(space, arch, config) for arch in (space.smallest, space.largest))
    return f"{smallest:,} to {largest:,}"


def _steps(settings: SearchArguments) -> str:
    steps = f"{settings.max_steps:,} steps"
    if settings.resolved_method.two_stage:
        return f"{steps}, then {settings.population_size * settings.generations:,} candidates"
    if settings.arch_warmup_steps:
        steps += f", the first {settings.arch_warmup_steps:,} for the weights only"
    return steps
