"""What a run has left so far, read once for all parts of its report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ..analysis.trajectories import details
from ..models.cells.genotypes import CELLS
from ..models.layer_ranks import by_position, rows_by_position
from ..run_files import read_results, read_settings, run_kind
from ..search.methods import METHODS
from ..space import Architecture, SearchSpace


@dataclass(frozen=True)
class RunFolder:
    """A run folder; what is not there yet, or never was in an older one, is empty.

    Args:
        folder: The folder.
        kind: "search", "finetune", "compress", "compare", or "table" of trained nets.
        settings: `config.yaml`.
        about: `run.json`.
        results: `results.json`.
        metrics: Lines of `metrics.jsonl`; what they have of each layer is in order of position.
        finalists: Lines of `finalists.jsonl`.
        candidates: Lines of `candidates.jsonl`.
        front: `pareto.json`.
        rows: `rows/*.json`, name -> content.
        space: What is searched, where it is known.
        ranks: `layer_ranks` of the supernet; architectures in the files have their layers in the order of these.
    """

    folder: Path
    kind: str
    settings: Mapping[str, Any]
    about: Mapping[str, Any]
    results: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    finalists: Sequence[Mapping[str, Any]]
    candidates: Sequence[Mapping[str, Any]]
    front: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, Any]]
    space: SearchSpace | None
    ranks: Sequence[int] | None

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.resolve().name

    @property
    def finished(self) -> bool:
        """Whether it has come to its end."""
        return bool(self.results)

    @property
    def step(self) -> int:
        """The last logged step."""
        return self.metrics[-1]["step"] if self.metrics else 0

    @property
    def two_stage(self) -> bool:
        """Whether weights are trained first and candidates searched afterwards."""
        method = METHODS.get(self.settings.get("method"))
        return method is not None and method.two_stage

    @cached_property
    def arch(self) -> Architecture | None:
        """What was found, or what the search would return now; None of a front, and where nothing is known yet."""
        if "found" in self.results:
            return Architecture(self.results["found"])
        if self.finished or not self.metrics or "front" in self.metrics[-1] or self.two_stage:
            return None
        return Architecture(details(self.metrics[-1])["arch"])

    @cached_property
    def labels(self) -> dict[str, list[str]]:
        """Dimension -> names of its rows, where these are no numbers: the edges of cells."""
        name = self.settings.get("space")
        cell = CELLS.get(name) if self.space is not None and isinstance(name, str) else None
        return (
            {kind: [f"{source} to {target}" for source, target in cell.edges] for kind in cell.kinds} if cell else {}
        )

    def shown(self, arch: Architecture | Mapping[str, Any]) -> Architecture:
        """An architecture in words: its layers are in order of position."""
        arch = arch if isinstance(arch, Architecture) else Architecture(arch)
        return arch if self.space is None else by_position(arch, self.space, self.ranks)


def read_run(folder: str | Path) -> RunFolder:
    """Reads a run folder, finished or not.

    Raises:
        ValueError: It holds no run, or a file of it is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; give the folder of a run")
    settings = dict(read_settings(folder))
    about, results, front = (_json(folder / name) for name in ("run.json", "results.json", "pareto.json"))
    rows = {path.stem: _json(path) for path in sorted((folder / "rows").glob("*.json"))}
    space, ranks = _space(folder, about, settings, rows), _ranks(folder, settings, rows)
    metrics = _lines(folder / "metrics.jsonl")
    return RunFolder(
        folder,
        run_kind(folder, settings),
        settings,
        about,
        results,
        metrics if space is None or ranks is None else [_by_position(line, space, ranks) for line in metrics],
        _lines(folder / "finalists.jsonl"),
        _lines(folder / "candidates.jsonl"),
        front,
        rows,
        space,
        ranks,
    )


def _space(
    folder: Path, about: Mapping[str, Any], settings: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]
) -> SearchSpace | None:
    """From where it stands: `run.json`, the saved supernet, the settings of a comparison, or the row of a compressed net."""
    saved = _json(folder / "supernet" / "config.json").get("space")
    own = settings.get("space") if isinstance(settings.get("space"), Mapping) else None
    found = about.get("space") or saved or own or next(iter(rows.values()), {}).get("space")
    return SearchSpace.from_dict(found) if found else None


def _ranks(folder: Path, settings: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]]) -> Sequence[int] | None:
    """The same of the ranks of layers."""
    saved = _json(folder / "supernet" / "config.json").get("layer_ranks")
    return saved or settings.get("layer_ranks") or next(iter(rows.values()), {}).get("layer_ranks") or None


def _by_position(line: Mapping[str, Any], space: SearchSpace, ranks: Sequence[int]) -> dict[str, Any]:
    """A line of the metrics with the shares and entropies of layers in order of position."""
    if "front" in line:
        return {**line, "front": [_by_position(anchor, space, ranks) for anchor in line["front"]]}
    moved = {
        key: {name: rows_by_position(rows, ranks) if name in space.of_layers else rows for name, rows in found.items()}
        for key in ("shares", "entropies")
        if (found := line.get(key))
    }
    return {**line, **moved}


def _json(path: Path) -> dict[str, Any]:
    return dict(read_results(path)) if path.is_file() else {}


def _lines(path: Path) -> list[dict[str, Any]]:
    """The records of a file of JSON lines; half a line at its end, which is being written, does not count."""
    if not path.is_file():
        return []
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1] if line]
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it") from None
