"""`tangle-hf`: what can be done with a finished run, a supernet or a model, from the command line.

Commands import by themselves what takes seconds and not all of them need: the searches, data and the Hub.
"""

import argparse
import runpy
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, StrictDataclassError
from safetensors import SafetensorError
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from ..cost.kinds import LIMITS
from ..errors import readable_errors
from ..messages import format_lines
from ..models.checkpoint_errors import first_lines
from ..models.loading import load_model, load_processor, load_supernet
from ..run_files import read_settings, run_kind, supernet_folder
from ..runs.info import KINDS, describe, folder_kind, loading_line
from ..subnets.exports import export, read_architecture
from ..subnets.extraction import extract, natural_form
from ..subnets.gguf_exports import export_gguf
from ..subnets.onnx_exports import export_onnx
from .recipes import fork, run_recipe


def run(arguments: argparse.Namespace) -> None:
    """Runs the command that `tangle_hf_cli.make_parser` has understood; an error of the user is one line and exit code 1."""
    disable_progress_bar()
    set_verbosity_error()
    with readable_errors():
        try:
            COMMANDS[arguments.command](arguments)
        except SafetensorError as error:
            raise ValueError(
                f"{arguments.source} holds weights that are damaged or cut off ({error}); copy or write them again"
            ) from error
        except StrictDataclassError as error:
            raise ValueError(
                f"{arguments.source} holds a config.json that is damaged ({first_lines(error)}); copy or write it again"
            ) from error


def run_script(command: str, words: Sequence[str]) -> None:
    """Runs a recipe with the words behind its command; an error of the user is one line and exit code 1."""
    with readable_errors():
        run_recipe(command, words)


def run_tool(command: str, words: Sequence[str]) -> None:
    """Runs a tool of this folder with the words behind its command, as the script that it is."""
    sys.argv = [f"tangle-hf {command}", *words]
    runpy.run_module(f"tangle_hf.cli.{command}", run_name="__main__")


def run_fork(arguments: argparse.Namespace) -> None:
    """`tangle-hf fork`."""
    fork(arguments.recipe, arguments.file)


def run_info(arguments: argparse.Namespace) -> None:
    """`tangle-hf info`."""
    folder = locate(arguments.source, arguments.revision)
    # A repository goes by its name and not by the folder of the download.
    _print({name: text.replace(str(folder), arguments.source) for name, text in describe(folder).items()})


def run_report(arguments: argparse.Namespace) -> None:
    """`tangle-hf report`."""
    from ..report.page import NAME, write_report
    from ..report.several import write_reports

    if len(arguments.runs) == 1:
        return print(write_report(arguments.runs[0], arguments.output))
    print(write_reports(arguments.runs, arguments.output or NAME))


def run_export(arguments: argparse.Namespace) -> None:
    """`tangle-hf export`."""
    from ..runs.resolving import front_point, settle_batch_norms

    source, form = locate(arguments.source, arguments.revision), arguments.form
    kind = folder_kind(source)
    if kind in CONVERTERS or (kind == "model" and form not in CONVERTERS):
        raise ValueError(
            f"{source} is a model already; only export --form onnx and gguf take one that transformers loads, other forms take "
            "a run"
        )
    if kind == "model":
        if arguments.arch is not None or arguments.point is not None:
            raise ValueError(f"{source} is one model; --arch and --point are for runs and supernets")
        known = source / "architecture.json"
        arch = read_architecture(known) if known.is_file() else None
        output = arguments.output or _beside(arguments.source, source, kind, form)
        return CONVERTERS[form](load_model(source), output, load_processor(source), arch)
    if kind == "run":
        _check_search(source)
    folder = supernet_folder(source)
    if arguments.point is not None:
        arch, stem = front_point(source, arguments.point), f"{arguments.point}-"
    else:
        arch = read_architecture(arguments.arch or source / "architecture.json")
        stem = "" if arguments.arch is None else f"{Path(arguments.arch).stem}-"
    supernet, processor = load_supernet(folder).eval(), load_processor(folder)
    supernet.space.validate(arch)
    known = source / "architecture.json"
    if (
        not known.is_file() or read_architecture(known) != arch
    ):  # a supernet is saved with the statistics of what was found
        settle_batch_norms(supernet, arch, None)
    form = natural_form(supernet, arch) if form == "auto" else form
    output = arguments.output or _beside(arguments.source, source, kind, stem + form)
    if form in CONVERTERS:
        return CONVERTERS[form](extract(supernet, arch), output, processor, arch)
    _report(export(supernet, arch, output, form=form, processor=processor), arch)


def _check_search(run_dir: Path) -> None:
    """Refuses a run that has no supernet to export from.

    Raises:
        ValueError: It is one of fine-tuning, compression or another kind.
    """
    kind = run_kind(run_dir, read_settings(run_dir))
    if kind == "search":
        return
    rows = sorted(path.stem for path in run_dir.glob("rows/*.json"))
    nets = [str(run_dir / name) for name in rows if (run_dir / name / "config.json").is_file()]
    what = f"export one of its nets, {', '.join(nets)}, by --form onnx or gguf"
    if not nets:
        what = "it has no net yet: finish it with --resume" if kind in ("finetune", "compress") else "give a search"
    raise ValueError(f"{run_dir} is {KINDS[kind]}, whose nets are cut out already; {what}")


def run_resolve(arguments: argparse.Namespace) -> None:
    """`tangle-hf resolve`."""
    from ..runs.resolving import resolve
    from ..search.finalists.settings import FinalistArguments

    source = locate(arguments.source, arguments.revision)
    budgets = {name: getattr(arguments, name) for name in LIMITS if getattr(arguments, name) is not None}
    if not budgets:
        raise ValueError(f"resolve needs a budget: {', '.join(f'--{name}' for name in LIMITS)}")
    name = "-".join(f"{name}-{amount}" for name, amount in budgets.items()).replace("%", "percent")
    output = arguments.output or _beside(arguments.source, source, folder_kind(source), name)
    if arguments.latency_table is not None and "max_latency_ms" not in budgets:
        raise ValueError("--latency_table has no effect without --max_latency_ms")
    names = ("standard_only", "form", "latency_table", "allow_other_latency_table")
    options = {name: getattr(arguments, name) for name in names}
    finalists = {field.name: getattr(arguments, field.name) for field in fields(FinalistArguments)}
    finalists = {name: value for name, value in finalists.items() if value is not None}
    if finalists.get("finalists"):
        from ..runs.resolve_finalists import resolve_with_finalists

        resolve_with_finalists(source, budgets, output, finalists, resume=arguments.resume, **options)
        return
    if arguments.resume or any(name != "finalists" for name in finalists):
        without = [
            f"--{name}" for name in (*finalists, *(["resume"] if arguments.resume else [])) if name != "finalists"
        ]
        raise ValueError(f"{', '.join(without)} would have no effect without --finalists, the number of nets to train")
    done = resolve(source, budgets, output, **options)
    _report(done.export, done.candidate.arch)
    _print({cost: f"{done.candidate.costs[cost]:,} of {limit:,}" for cost, limit in done.limits.items()})
    if done.latency is not None:
        predicted, measured = done.latency["predicted_ms"], done.latency["measured_ms"]
        _print({"latency": f"predicted {predicted:.4g} ms, measured {measured:.4g} ms ({done.latency['error']:+.1%})"})


def run_card(arguments: argparse.Namespace) -> None:
    """`tangle-hf card`."""
    from ..hub.cards import write_card

    folder = Path(arguments.source) / "supernet" if arguments.supernet else arguments.folder
    print(str(write_card(arguments.source, folder, license=arguments.license)))


def run_push(arguments: argparse.Namespace) -> None:
    """`tangle-hf push`."""
    from ..hub.publishing import push

    options = {
        name: getattr(arguments, name) for name in ("folder", "supernet", "private", "revision", "commit_message")
    }
    print(push(arguments.source, arguments.repository, **options))


def locate(source: str, revision: str | None = None) -> Path:
    """A folder as it is, or a repository of the Hub, downloaded.

    Raises:
        ValueError: It is neither, or a revision is given for a folder.
    """
    if Path(source).exists():
        if revision is not None:
            raise ValueError(f"{source} is a folder; --revision={revision} is for a repository on the Hub")
        return Path(source)
    try:
        return Path(snapshot_download(source, revision=revision))
    except (HFValidationError, OSError) as error:  # what the Hub says is a kind of OSError
        reason = str(error).strip().split("\n")[0]
        raise ValueError(f"{source} is no folder, and no repository of the Hub that can be read: {reason}") from None


def _beside(given: str, source: Path, kind: str, suffix: str) -> Path:
    """Where to write when nothing is said: in a run beside `subnet`, else beside the folder; a repository's: here."""
    if not Path(given).exists():
        return Path(f"{given.split('/')[-1]}-{suffix}")
    if kind == "run":
        return source / f"subnet-{suffix}"
    named = source.resolve() if source.name in ("", "..") else source  # "." has no name
    return named.with_name(f"{named.name}-{suffix}")


def _report(written, arch) -> None:
    _print(
        {
            "wrote": f"{written.folder} ({written.form})",
            "architecture": str(arch),
            "difference": f"{written.difference:.1e} of logits up to {written.scale:.1e}, reloaded against the supernet",
            "loads with": loading_line(written.folder),
        }
    )


def _write_onnx(model, output, processor, arch) -> None:
    written = export_onnx(model, output, processor, arch)
    shapes = ", ".join("x".join(map(str, shape)) for shape in written.shapes)
    _print(
        {
            "wrote": f"{written.folder} (ONNX)",
            "difference": f"{written.difference:.1e} of logits up to {written.scale:.1e}, onnxruntime against torch",
            "inputs": f"{shapes} were compared",
        }
    )


def _write_gguf(model, output, processor, arch) -> None:
    written = export_gguf(model, output, processor, arch)
    _print(
        {
            "wrote": f"{written.folder} (GGUF)",
            "runs as": f"{written.kind} in llama.cpp",
            "tokenizer": "in the file" if written.tokenizer else "none: the file takes numbers of tokens",
            "compared": f"{written.tensors} tensors, read back and equal",
        }
    )


CONVERTERS = {"onnx": _write_onnx, "gguf": _write_gguf}  # forms for other runtimes, of runs and of models alike


def _print(lines: dict[str, str]) -> None:
    print(format_lines(lines))


COMMANDS = {
    "fork": run_fork,
    "info": run_info,
    "report": run_report,
    "export": run_export,
    "resolve": run_resolve,
    "card": run_card,
    "push": run_push,
}
