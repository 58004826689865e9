"""Every benchmark starts: its imports are there, and it says what it takes."""

import runpy
import sys
from pathlib import Path

import pytest


BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
SHARED = ("side_by_side", "steps")  # imported by the others


@pytest.mark.parametrize("path", sorted(BENCHMARKS.glob("*.py")), ids=lambda path: path.stem)
def test_a_benchmark_starts(path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", [path.name, "--help"])
    if path.stem in SHARED:
        runpy.run_path(str(path))
        return
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(path), run_name="__main__")
    printed = capsys.readouterr().out
    assert ended.value.code == 0 and f"python benchmarks/{path.name}" in printed
