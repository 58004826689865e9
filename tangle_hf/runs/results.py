"""What every search leaves in `results.json`, and the rows of its table."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from ..cost.counts import flops, num_params
from ..data.examples import Examples
from ..hub.card_facts import clock
from ..hub.settings import command_line
from ..space import Architecture
from .found import Found, FoundFront


def common_results(
    supernet: PreTrainedModel, found: Found | FoundFront, examples: Examples, used: Mapping[str, float | str]
) -> dict:
    """What `results.json` says of every search.

    Args:
        supernet: What was searched.
        found: What was found, and what it cost.
        examples: Its data.
        used: Device, and if known seconds.
    """
    return {
        "command": command_line(),
        "pipeline": examples.pipeline,
        "data": examples.description,
        "search": dict(used),
        "search_cost": found.cost,
        **({} if found.teacher is None else {"teacher": found.teacher}),
        **({"largest": supernet.space.largest.to_dict()} if supernet.space.ordered else {}),
    }


def cost_text(results: Mapping[str, Any]) -> str:
    """What a search has cost, from its results: in training steps and, unless it was resumed, by the clock."""
    plain_net = "largest" if "largest" in results else "most expensive"  # a space of operations has no order
    used, text = results["search"], f"{results['search_cost']:,.1f} training steps of the {plain_net} net"
    return f"{text}; {clock(used['seconds'])} on {used['device']}" if "seconds" in used else text


def table_row(
    name: str, supernet: PreTrainedModel, arch: Architecture, examples: Examples, scores: Mapping[str, float]
) -> dict[str, str | int | float]:
    """A net as a row of the table at the end: its size, its FLOPs, what a table knows of it, its test scores."""
    space, config, length = supernet.space, supernet.config, examples.sequence_length
    work = flops(space, arch, config, sequence_length=length) // (length or 1)
    cost = {"parameters": num_params(space, arch, config), f"FLOPs/{examples.unit}": work, **examples.known(arch)}
    return {"net": name, **cost, **examples.columns(scores)}
