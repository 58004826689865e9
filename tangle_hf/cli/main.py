"""`tangle-hf`: what can be done with a finished run, a supernet or a model, from the command line."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from ..errors import readable_errors
from ..hub.cards import write_card
from ..hub.publishing import push
from ..models.loading import load_model, load_processor, load_supernet
from ..runs.info import describe, folder_kind, loading_line
from ..runs.resolving import front_point, resolve, settle_batch_norms, supernet_folder
from ..subnets.exports import export, read_architecture
from ..subnets.extraction import extract, natural_form
from ..subnets.onnx_exports import export_onnx
from ..version import __version__


BUDGETS = ("max_params", "max_params_without_embeddings", "max_flops", "max_latency_ms")
AMOUNT = "as 5M, 1.5G, 300000, or 50%% of the largest net"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; exits with 1 and one line on stderr on an error of the user, with 2 on wrong usage."""
    arguments = make_parser().parse_args(argv)
    disable_progress_bar()
    set_verbosity_error()
    with readable_errors():
        arguments.command(arguments)


def make_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = argparse.ArgumentParser(
        prog="tangle-hf",
        description="Folders of tangle_hf: look at them, cut models out of them, publish them.",
        epilog="Exit code: 0 done, 1 an error, told in one line, 2 wrong usage. `tangle-hf COMMAND --help` says more.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run, summary: str, source: str, **metavar: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        added.add_argument("source", help=source, **metavar)
        added.set_defaults(command=run)
        return added

    anything = "folder of a run, a supernet or a model, or the name of a repository on the Hub"
    searched = "folder of a finished run or of a supernet, or the name of a supernet's repository on the Hub"

    added = command("info", run_info, "Say what a folder is, what it has, and what loads it.", anything)
    _add_revision(added)

    added = command("export", run_export, "Write the net that was found, or another, in one of its forms.", anything)
    added.add_argument(
        "--form",
        choices=("auto", "stock", "padded", "compact", "onnx"),
        default="auto",
        help="stock: a plain transformers class; compact: layers of their own sizes, remote code; padded: a plain class "
        "filled up with zeros; onnx: needs the extra onnx, takes a model's folder too; auto: stock, else compact",
    )
    which = added.add_mutually_exclusive_group()
    which.add_argument("--arch", metavar="FILE", help="architecture.json to cut out; default: the one that was found")
    which.add_argument("--point", type=int, metavar="N", help="point of the front of a run with --pareto, from 0")
    added.add_argument("--output", help="folder to write; default: beside the net, with the form in its name")
    _add_revision(added)

    added = command("resolve", run_resolve, "Write the best net within other budgets, without training.", searched)
    added.add_argument("--max_params", help=f"most parameters, {AMOUNT}")
    added.add_argument("--max_params_without_embeddings", help="the same without embedding tables")
    added.add_argument("--max_flops", help="most FLOPs of one forward pass over a block of text or an image")
    added.add_argument(
        "--max_latency_ms", help="most milliseconds of a forward pass, as 12 or 60%% of the largest net"
    )
    added.add_argument(
        "--latency_table",
        metavar="FILE",
        help="measured times for max_latency_ms; default: latency_table.json of the run",
    )
    added.add_argument(
        "--allow_other_latency_table", action="store_true", help="take it even if it was measured on another machine"
    )
    added.add_argument("--standard_only", action="store_true", help="only nets with equal layers, which are stock")
    added.add_argument("--form", choices=("auto", "stock", "padded", "compact"), default="auto", help="as in export")
    added.add_argument("--output", help="folder to write; default: beside the net, with the budgets in its name")
    _add_revision(added)

    run_only = "folder of a finished run"
    added = command("card", run_card, "Write the model card of a run's net.", run_only, metavar="run")
    _add_target(added, "for which to write it")
    added.add_argument("--license", help="licence of the weights as the Hub names it, e.g. apache-2.0")

    added = command("push", run_push, "Publish a run's net on the Hub, with its card.", run_only, metavar="run")
    added.add_argument("repository", help="owner/name, or a name in your own account; created if it does not exist")
    _add_target(added, "to publish")
    visibility = added.add_mutually_exclusive_group()
    visibility.add_argument("--private", action="store_const", const=True, help="a new repository is private")
    visibility.add_argument("--public", dest="private", action="store_const", const=False, help="it is public")
    added.add_argument("--revision", help="branch, created if it does not exist; default: main")
    added.add_argument("--commit_message", help="first line of the commit")
    return parser


def _add_revision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revision", help="branch, tag or commit of a repository; default: main")


def _add_target(parser: argparse.ArgumentParser, purpose: str) -> None:
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--folder", help=f"export {purpose}; default: RUN/subnet")
    target.add_argument("--supernet", action="store_true", help="the supernet instead")


def run_info(arguments: argparse.Namespace) -> None:
    """`tangle-hf info`."""
    folder = locate(arguments.source, arguments.revision)
    # A repository goes by its name and not by the folder of the download.
    _print({name: text.replace(str(folder), arguments.source) for name, text in describe(folder).items()})


def run_export(arguments: argparse.Namespace) -> None:
    """`tangle-hf export`."""
    source, form = locate(arguments.source, arguments.revision), arguments.form
    kind = folder_kind(source)
    if kind == "onnx" or (kind == "model" and form != "onnx"):
        raise ValueError(f"{source} is a model already; only export --form onnx takes one, other forms take a run")
    if kind == "model":
        if arguments.arch is not None or arguments.point is not None:
            raise ValueError(f"{source} is one model; --arch and --point are for runs and supernets")
        known = source / "architecture.json"
        arch = read_architecture(known) if known.is_file() else None
        output = arguments.output or _beside(arguments.source, source, kind, "onnx")
        return _report_onnx(export_onnx(load_model(source), output, load_processor(source), arch))
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
    if form == "onnx":
        return _report_onnx(export_onnx(extract(supernet, arch), output, processor, arch))
    _report(export(supernet, arch, output, form=form, processor=processor), arch)


def run_resolve(arguments: argparse.Namespace) -> None:
    """`tangle-hf resolve`."""
    source = locate(arguments.source, arguments.revision)
    budgets = {name: getattr(arguments, name) for name in BUDGETS if getattr(arguments, name) is not None}
    if not budgets:
        raise ValueError(f"resolve needs a budget: {', '.join(f'--{name}' for name in BUDGETS)}")
    name = "-".join(f"{name}-{amount}" for name, amount in budgets.items()).replace("%", "percent")
    output = arguments.output or _beside(arguments.source, source, folder_kind(source), name)
    if arguments.latency_table is not None and "max_latency_ms" not in budgets:
        raise ValueError("--latency_table has no effect without --max_latency_ms")
    names = ("standard_only", "form", "latency_table", "allow_other_latency_table")
    done = resolve(source, budgets, output, **{name: getattr(arguments, name) for name in names})
    _report(done.export, done.candidate.arch)
    _print({cost: f"{done.candidate.costs[cost]:,} of {limit:,}" for cost, limit in done.limits.items()})
    if done.latency is not None:
        predicted, measured = done.latency["predicted_ms"], done.latency["measured_ms"]
        _print({"latency": f"predicted {predicted:.4g} ms, measured {measured:.4g} ms ({done.latency['error']:+.1%})"})


def run_card(arguments: argparse.Namespace) -> None:
    """`tangle-hf card`."""
    folder = Path(arguments.source) / "supernet" if arguments.supernet else arguments.folder
    print(write_card(arguments.source, folder, license=arguments.license))


def run_push(arguments: argparse.Namespace) -> None:
    """`tangle-hf push`."""
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
    return source / f"subnet-{suffix}" if kind == "run" else source.with_name(f"{source.name}-{suffix}")


def _report(written, arch) -> None:
    _print(
        {
            "wrote": f"{written.folder} ({written.form})",
            "architecture": str(arch),
            "difference": f"{written.difference:.1e} of logits up to {written.scale:.1e}, reloaded against the supernet",
            "loads with": loading_line(written.folder),
        }
    )


def _report_onnx(written) -> None:
    shapes = ", ".join("x".join(map(str, shape)) for shape in written.shapes)
    _print(
        {
            "wrote": f"{written.folder} (ONNX)",
            "difference": f"{written.difference:.1e} of logits up to {written.scale:.1e}, onnxruntime against torch",
            "inputs": f"{shapes} were compared",
        }
    )


def _print(lines: dict[str, str]) -> None:
    width = max(map(len, lines))
    print("\n".join(f"{name.ljust(width)}  {text}" for name, text in lines.items()))


if __name__ == "__main__":
    main()
