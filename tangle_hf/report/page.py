"""The page: its parts in order, and the file."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import plotly
from jinja2 import Environment, PackageLoader, StrictUndefined

from ..errors import writing
from ..version import __version__
from .blocks import Picture, Section
from .compared import comparison_section, score_section
from .compressed import left_section, tried_section
from .finalists import finalist_section
from .finetuned import finetuned_section
from .found import found_section
from .front import candidate_section, front_section
from .provenance import provenance_section, tiles
from .run_folder import read_run
from .settings import settings_section
from .trajectory import loss_section, share_section
from .usage import usage_section


NAME = "report.html"
SEARCH = (front_section, found_section, finalist_section, candidate_section, share_section, loss_section)
OF_ALL = (usage_section, settings_section, provenance_section)
# Kind of a run -> what it is called, and the parts of its page.
KINDS = {
    "search": ("architecture search", (*SEARCH, *OF_ALL)),
    "finetune": ("fine-tuning", (finetuned_section, *OF_ALL)),
    "compress": ("compression", (left_section, tried_section, *OF_ALL)),
    "compare": ("comparison", (score_section, comparison_section, *OF_ALL)),
    "table": ("table of trained nets", OF_ALL),
}


def write_report(run_dir: str | Path, path: str | Path | None = None) -> Path:
    """Writes the report of a run folder, finished or not. An earlier one is replaced.

    Args:
        run_dir: The folder.
        path: The file; default: `report.html` in the folder.

    Returns:
        The file.

    Raises:
        ValueError: The folder holds no run, or a file of it is damaged.
    """
    run = read_run(run_dir)
    what, parts = KINDS[run.kind]
    words = [f"{what} with {run.settings['method']}" if run.kind == "search" else what]
    if run.kind == "search" and not run.finished:
        words.append(f"under way, step {run.step:,} of {run.settings['max_steps']:,}")
    return save_page(
        Path(path or run.folder / NAME), run.name, ", ".join(words), tiles(run), [part(run) for part in parts]
    )


def save_page(path: Path, title: str, subtitle: str, facts: Mapping[str, str], parts: Sequence[Section]) -> Path:
    """Writes a page; it appears when it is whole.

    Args:
        path: Where to write.
        title: Its heading.
        subtitle: Below it.
        facts: Numbers at a glance, name -> text.
        parts: What is on it; those without content are left out.
    """
    environment = Environment(
        loader=PackageLoader("tangle_hf.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = figure_json
    text = environment.get_template("page.html.jinja").render(
        title=title,
        subtitle=subtitle,
        facts=facts,
        parts=[part for part in parts if part.blocks],
        library=(files(plotly) / "package_data" / "plotly.min.js").read_text(encoding="utf-8"),
        versions=f"tangle_hf {__version__}, plotly {plotly.__version__}",
    )
    partial = path.with_name(f".{path.name}")
    try:
        with writing(path.parent):
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def figure_json(picture: Picture) -> str:
    """A figure as JSON that cannot end the script element that it stands in."""
    return (
        json.dumps(picture.figure, allow_nan=False, separators=(",", ":"))
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    )
