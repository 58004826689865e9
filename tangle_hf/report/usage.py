"""The part of a report with what can be done next, to copy: load, export, publish, fine-tune, another budget."""

import shlex

from ..run_files import data_options
from .blocks import Block, Command, Section
from .run_folder import RunFolder


WORD = {"text-generation": "language", "image-classification": "vision"}  # of `tangle-hf finetune`


def usage_section(run: RunFolder) -> Section:
    """Commands for a run that has left nets, or how to go on with one that has not come to its end."""
    folder = shlex.quote(str(run.folder))
    if run.kind not in ("search", "finetune", "compress"):
        return Section("Use it", [])
    if not run.finished:
        command = run.about.get("command")
        return Section(
            "Go on", [Command(f"{command} --resume", "Continues it where its last checkpoint is.")] if command else []
        )
    if run.kind in ("finetune", "compress"):
        return Section("Use it", _of_trained_nets(run, folder))
    if run.front:
        return Section("Use it", _of_front(run, folder))
    return Section("Use it", _of_net(run, folder))


def _of_net(run: RunFolder, folder: str) -> list[Block]:
    kind, subnet = run.results["pipeline"], shlex.quote(str(run.folder / "subnet"))
    finetuned = shlex.quote(f"{run.folder}-finetuned")
    remote = ", trust_remote_code=True" if run.results.get("form") == "compact" else ""
    blocks: list[Block] = [
        Command(_pipeline(kind, str(run.folder / "subnet"), remote), "Load it, in Python."),
        Command(f"tangle-hf finetune {WORD.get(kind, 'language')} --checkpoint {subnet} --mode finetune retrain"
                f"{data_options(run.settings, run.about.get('defaults', {}))} --output_dir {finetuned}",
                "Train it further, and from new weights, on the same data or on others."),
        Command(f"tangle-hf push {folder} OWNER/NAME", "Publish it on the Hub, with its model card."),
        Command(f"tangle-hf export {folder} --form onnx", "Write it in another form: onnx, padded, compact or stock."),
    ]  # fmt: skip
    if not run.two_stage:
        words = "The best net within another budget, without a new search."
        blocks.append(Command(f"tangle-hf resolve {folder} --max_params 35%", words))
    return blocks


def _of_front(run: RunFolder, folder: str) -> list[Block]:
    return [
        Command(f"tangle-hf export {folder} --point 0", "Write a point of the front as a model."),
        Command(
            f"tangle-hf resolve {folder} --max_{run.front['cost']} 42%", "The best net within a budget of your own."
        ),
        Command(
            f"tangle-hf push {folder} OWNER/NAME --supernet", "Publish the supernet on the Hub, with its model card."
        ),
    ]


def _of_trained_nets(run: RunFolder, folder: str) -> list[Block]:
    nets = [run.folder / name for name in run.rows if (run.folder / name / "config.json").is_file()]
    blocks: list[Block] = []
    for net in nets:
        remote = ", trust_remote_code=True" if "auto_map" in (net / "config.json").read_text(encoding="utf-8") else ""
        blocks.append(
            Command(_pipeline(run.results.get("pipeline", "text-generation"), str(net), remote), f"Load {net.name}.")
        )
    if nets:
        last = shlex.quote(str(nets[-1]))
        blocks += [
            Command(f"tangle-hf push {folder} OWNER/NAME --folder {last}",
                    "Publish a net on the Hub, with its model card."),
            Command(f"tangle-hf export {last} --form onnx", "Write it in another form: onnx, or gguf for llama.cpp."),
        ]  # fmt: skip
    return blocks


def _pipeline(kind: str, folder: str, remote: str) -> str:
    return f"from transformers import pipeline\npipe = pipeline({kind!r}, model={folder!r}{remote})"
