"""The command `tangle-hf`: reads the options before it imports anything slow.

This file stands beside the package, because importing the package loads torch and transformers, which takes seconds.
"""

import argparse
import difflib
import os
import runpy
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path


# Commands that pass all their options on to a script, and what they do.
RECIPES = {
    "search": ("{gpt2,llama,vit,cnn}", "Search an architecture and export what is found."),
    "finetune": ("{language,vision}", "Inherit, fine-tune or retrain what was found."),
    "compress": ("", "Make a trained checkpoint smaller: cut it to a budget and let it recover."),
    "compare": ("", "Train what searches found beside baselines of equal cost, and test the differences."),
}
TOOLS = {
    "compare_fronts": "Set a search for a front beside searches for single budgets.",
    "recalibrate": "Give a net that was cut out batch-norm statistics of its own.",
    "precision": "Measure what bfloat16, ONNX and int8 weights cost a checkpoint.",
    "make_table": "Train architectures of a small space, one after another, as a table.",
    "prune_cells": "Keep the strongest operations of a search of cells, and widen its edges.",
    "build_cells": "Build the network that found cells are trained as.",
}
AMOUNT = "as 5M, 1.5G, 300000, or 50%% of the largest net"


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; exits with 1 and one line on stderr on an error of the user, with 2 on wrong usage."""
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        try:
            _run(argv)
        finally:
            sys.stdout.flush()  # of --help and --version, too
    except BrokenPipeError:  # the reader of a pipe has closed it, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: list[str]) -> None:
    helps = argv[1:] in (["-h"], ["--help"], ["--help_all"])
    if argv and argv[0] in TOOLS:
        from tangle_hf.cli.main import run_tool

        run_tool(argv[0], argv[1:])
    elif argv and argv[0] in RECIPES and not (helps and RECIPES[argv[0]][0]):
        from tangle_hf.cli.main import run_script

        run_script(argv[0], argv[1:])
    else:
        arguments = make_parser().parse_args([argv[0], "--help"] if helps else argv)
        from tangle_hf.cli.main import run

        run(arguments)


def make_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = Parser(
        prog="tangle-hf",
        description="Search architectures, make checkpoints smaller, and look at, export and publish what was found.",
        epilog="Exit code: 0 done, 1 an error, told in one line, 2 wrong usage. `tangle-hf COMMAND --help` says more.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, summary: str, source: str, **metavar: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        added.add_argument("source", help=source, **metavar)
        added.set_defaults(command=name)
        return added

    anything = "folder of a run, a supernet or a model, or the name of a repository on the Hub"
    searched = "folder of a finished run or of a supernet, or the name of a supernet's repository on the Hub"

    added = command("info", "Say what a folder is, what it has, and what loads it.", anything)
    _add_revision(added)

    added = commands.add_parser(
        "report", help="Write report.html: what a run has found and how, to open in a browser.", allow_abbrev=False,
        description="Write report.html, all that a run has left as one page for a browser; of several searches one page.",
    )  # fmt: skip
    added.add_argument("runs", nargs="+", type=home, metavar="run", help="folder of a run, finished or not")
    added.add_argument(
        "--output",
        type=home,
        metavar="FILE",
        help="file to write; default: report.html in the run, or of several here",
    )
    added.set_defaults(command="report")

    added = command("export", "Write the net that was found, or another, in one of its forms.", anything)
    added.add_argument(
        "--form",
        choices=("auto", "stock", "padded", "compact", "onnx", "gguf"),
        default="auto",
        help="stock: a plain transformers class; compact: layers of their own sizes, remote code; padded: a plain class "
        "filled up with zeros; onnx, gguf (llama.cpp): need the extra of that name, take a model's folder too; default: auto, "
        "which is stock where it can be, else compact",
    )
    which = added.add_mutually_exclusive_group()
    which.add_argument(
        "--arch", type=home, metavar="FILE", help="architecture.json to cut out; default: the one that was found"
    )
    which.add_argument("--point", type=int, metavar="N", help="point of the front of a run with --pareto, from 0")
    added.add_argument(
        "--output",
        type=home,
        metavar="FOLDER",
        help="folder to write; default: beside the net, with the form in its name",
    )
    _add_revision(added)

    added = command("resolve", "Write the best net within other budgets, without a new search.", searched)
    added.add_argument("--max_params", metavar="AMOUNT", help=f"most parameters, {AMOUNT}")
    added.add_argument(
        "--max_params_without_embeddings",
        metavar="AMOUNT",
        help=f"most parameters without the embedding tables, {AMOUNT}",
    )
    added.add_argument(
        "--max_flops", metavar="AMOUNT", help="most FLOPs of one forward pass over a block of text or an image"
    )
    added.add_argument(
        "--max_latency_ms", metavar="MS", help="most milliseconds of a forward pass, as 12 or 60%% of the largest net"
    )
    added.add_argument(
        "--latency_table",
        type=home,
        metavar="FILE",
        help="measured times for max_latency_ms; default: latency_table.json of the run",
    )
    added.add_argument(
        "--allow_other_latency_table", action="store_true", help="take it even if it was measured on another machine"
    )
    added.add_argument("--standard_only", action="store_true", help="only nets with equal layers, which are stock")
    added.add_argument(
        "--form",
        choices=("auto", "stock", "padded", "compact"),
        default="auto",
        help="form of the model, see tangle-hf export --help; default: auto",
    )
    trained = added.add_argument_group(
        "finalists",
        "a short training that decides, on the data of the search and with its settings unless told otherwise",
    )
    trained.add_argument(
        "--finalists",
        type=int,
        metavar="N",
        help="nets that the search proposes within the budgets for it, beside all cuts by hand; default: 0, no training",
    )
    trained.add_argument(
        "--random_finalists", type=int, metavar="N", help="random nets within the budgets beside them"
    )
    trained.add_argument(
        "--finalist_ratio",
        type=float,
        help="steps of the longest of these trainings, as a share of those of the search",
    )
    trained.add_argument(
        "--finalist_start", help="what they are trained from: new weights (new), or the supernet's (supernet)"
    )
    trained.add_argument("--finalist_seeds", type=int, metavar="N", help="seeds with which the last nets are trained")
    trained.add_argument(
        "--finalist_batches", type=int, metavar="N", help="validation batches by which they are compared"
    )
    trained.add_argument("--resume", action="store_true", help="go on with short trainings that were stopped")
    added.add_argument(
        "--output",
        type=home,
        metavar="FOLDER",
        help="folder to write; default: beside the net, with the budgets in its name",
    )
    _add_revision(added)

    for name, (kinds, summary) in RECIPES.items():
        usage = f"tangle-hf {name} {kinds} [options of the recipe]".replace("  ", " ")
        if kinds:
            summary += " What stands before the word is for accelerate launch, e.g. --num_processes 2."
        more = f"tangle-hf {name} {kinds.strip('{}').split(',')[0]} --help".replace("  ", " ")
        commands.add_parser(name, help=summary.split(". ")[0], description=summary, usage=usage,
                            epilog=f"All options: {more}").set_defaults(command=None)  # fmt: skip
    for name, summary in TOOLS.items():
        commands.add_parser(name, help=summary, description=summary, add_help=False).set_defaults(command=None)

    added = commands.add_parser("fork", help="Write a copy of a recipe, to change.", allow_abbrev=False,
                                description="Write a copy of a recipe, to change. It runs as it is.")  # fmt: skip
    added.add_argument(
        "recipe", help="search_gpt, search_llama, search_vit, search_cnn, finetune, compress or compare"
    )
    added.add_argument("file", help="the copy; must not exist")
    added.set_defaults(command="fork")

    run_only = "folder of a finished run"
    added = command("card", "Write the model card of a run's net, found or fine-tuned.", run_only, metavar="run")
    _add_target(added, "for which to write it")
    added.add_argument(
        "--license", help="licence of the weights as the Hub names it, e.g. apache-2.0; default: none is stated"
    )

    added = command("push", "Publish a run's net on the Hub, with its card.", run_only, metavar="run")
    added.add_argument("repository", help="owner/name, or a name in your own account; created if it does not exist")
    _add_target(added, "to publish")
    visibility = added.add_mutually_exclusive_group()
    visibility.add_argument("--private", action="store_const", const=True, help="a new repository is private")
    visibility.add_argument(
        "--public", dest="private", action="store_const", const=False, help="a new repository is public"
    )
    added.add_argument("--revision", help="branch, created if it does not exist; default: main")
    added.add_argument("--commit_message", help="first line of the commit")
    return parser


def home(path: str) -> str:
    """A path, with the home folder for a ~ at its start, which a shell leaves there in --option=~/folder."""
    return os.path.expanduser(path)


def _add_revision(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revision", help="branch, tag or commit of a repository; default: main")


def _add_target(parser: argparse.ArgumentParser, purpose: str) -> None:
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--folder", help=f"net {purpose}; default: RUN/subnet, or the only net of a fine-tuning")
    target.add_argument("--supernet", action="store_true", help="the supernet instead")


class Parser(argparse.ArgumentParser):
    """Names what is nearest to an unknown option or command."""

    def parse_known_args(self, args=None, namespace=None):
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            flags = [word.split("=")[0] for word in unknown if word.startswith("-")]
            own = [option for option in self._option_string_actions if option.startswith("--")]
            self.error(f"unknown: {' '.join(unknown)}{_nearest(flags, own)}")
        return found, unknown

    def _check_value(self, action: argparse.Action, value) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            error.message += _nearest([value], action.choices)
            raise


def _nearest(words: Sequence[str], known: Sequence[str]) -> str:
    found = [match for word in words for match in difflib.get_close_matches(word, list(known), n=1)]
    return f"; did you mean {' '.join(found)}?" if found else ""


class Version(argparse.Action):
    """Prints the version, which is read from its file."""

    def __init__(self, option_strings: Sequence[str], dest: str):
        super().__init__(option_strings, dest, nargs=0, help="print the version and exit")

    def __call__(self, parser: argparse.ArgumentParser, *unused) -> None:
        (package,) = find_spec("tangle_hf").submodule_search_locations
        print(runpy.run_path(str(Path(package) / "version.py"))["__version__"])
        parser.exit()


if __name__ == "__main__":
    main()
