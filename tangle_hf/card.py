"""Model cards of a run: what was found, how to load it, what it cost and what was not measured."""

from pathlib import Path


def write_card(run_dir: str | Path, folder: str | Path | None = None, *, license: str | None = None) -> Path:
    """Writes `README.md` and its pictures into an exported net or the supernet of a finished run.

    An earlier card there is replaced.

    Args:
        run_dir: Folder of the run, with `config.yaml`, `metrics.jsonl`, `results.json` and `supernet/`.
        folder: `run_dir/supernet`, or an export of this run; default: `run_dir/subnet`. Test results are shown where its
            architecture is the one that the run found.
        license: Licence of the weights as the Hub names it, e.g. "apache-2.0"; None states none.

    Returns:
        The card's path.

    Raises:
        ValueError: The run is not finished, or the folder holds no model of it.
    """
    raise NotImplementedError
