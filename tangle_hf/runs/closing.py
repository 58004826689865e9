"""What a search prints at its end: what can be done with what it has found."""

import re
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from ..data.examples import Examples
from ..hub.card_facts import has_remote_code
from ..run_files import data_options, read_results, read_settings
from ..subnets.exports import Export


# Pipeline -> the word behind `tangle-hf finetune`.
KINDS = {"text-generation": "language", "image-classification": "vision"}


def next_steps(folder: Path, written: Export, examples: Examples, by_budget: bool) -> dict[str, str]:
    """What to do next -> the command or the line of Python that does it, ready to be copied.

    Args:
        folder: The folder of the run, whose settings say which data it has.
        written: The net that was found.
        examples: The data.
        by_budget: Whether the run has what `tangle-hf resolve` reads.
    """
    run = quote(str(folder))
    steps = {"load it": _loading(examples.pipeline, written.folder), **_look(folder)}
    settings = read_settings(folder)
    if by_budget:
        share = "50%" if settings.get("max_params") != "50%" else "30%"
        steps["other size"] = f"tangle-hf resolve {run} --max_params {share}"
    data = data_options(settings, read_results(folder / "run.json").get("defaults", {}))
    tuned = f"--checkpoint {quote(str(written.folder))}{data} --output_dir {quote(f'{folder}-finetuned')}"
    steps["fine-tune"] = f"tangle-hf finetune {KINDS[examples.pipeline]} {tuned}"
    return steps | _publish(folder)


def next_steps_of_front(folder: Path) -> dict[str, str]:
    """The same for a run that has left a front."""
    publish = f"{_publish(folder)['publish']} --supernet"  # there is no one net that was found
    return {"export one": f"tangle-hf export {quote(str(folder))} --point 0", **_look(folder), "publish": publish}


def next_steps_of_trained(folder: Path, nets: Sequence[Path], pipeline: str) -> dict[str, str]:
    """The same for a run that has left nets which it trained.

    Args:
        folder: The folder of the run.
        nets: Those of them, the first of which is named where one is enough; none where nothing was trained.
        pipeline: What loads them.
    """
    steps = {"load it" if len(nets) == 1 else f"load {net.name}": _loading(pipeline, net) for net in nets}
    steps |= _look(folder)
    if nets:
        steps["publish"] = f"{_publish(folder)['publish']} --folder {quote(str(nets[0]))}"
    return steps


def _loading(pipeline: str, net: Path) -> str:
    return f'pipeline("{pipeline}", model="{net}"{", trust_remote_code=True" if has_remote_code(net) else ""})'


def _look(folder: Path) -> dict[str, str]:
    return {"look at it": f"{folder / 'report.html'}, in a browser"}


def _publish(folder: Path) -> dict[str, str]:
    name = (
        re.sub(r"[^\w.-]+", "-", folder.resolve().name, flags=re.ASCII).strip("-.") or "found"
    )  # what the Hub allows
    return {"publish": f"tangle-hf push {quote(str(folder))} {name}"}
