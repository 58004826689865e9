"""The floors of the design: a file imports only from floors below its own."""

import ast
import sys
from pathlib import Path

import pytest

import tangle_hf


PACKAGE = Path(tangle_hf.__file__).parent
# Whole floors. Files and folders of one floor do not import each other.
FLOORS = {
    "space": 0, "errors": 0, "values": 0, "version": 0, "metrics": 0, "help_texts": 0, "messages": 0,
    "files": 1, "run_files": 1, "settings": 1, "axes": 1, "samplers": 1, "entangle": 1, "analysis": 1,
    "evaluation": 1,
    "arch_parameters": 2, "data": 2,
    "models": 3,
    "subnets": 4,
    "cost": 5,
    "budgets": 6,
    "search": 7,
    "hub": 8,
    "report": 9,
    "runs": 10,
    "training": 11,
    "compare": 12, "compress": 12,
    "cli": 13,
}  # fmt: skip
SHARED = [path.stem for path in (PACKAGE / "models").glob("*.py")]  # families may read these, not each other
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imports(path):
    """Absolute dotted names of everything a file imports."""
    folder = ("tangle_hf", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            name = ".".join([*base, *(node.module or "").split(".")]).strip(".")
            yield from [f"tangle_hf.{alias.name}" for alias in node.names] if name == "tangle_hf" else [name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_file_imports_only_from_floors_below(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    for name in imports(path):
        found = name.split(".")
        assert found[0] not in ("recipes", "benchmarks"), f"{parts} imports {name}"
        if found[0] != "tangle_hf":
            assert parts[0] != "space" or found[0] in sys.stdlib_module_names, f"{parts} imports {name}"
            continue
        if found[1] == parts[0]:
            assert parts[0] != "models" or found[2] in (parts[1], *SHARED), f"{parts} imports the family {name}"
            continue
        assert FLOORS[found[1]] < FLOORS[parts[0]], f"{'/'.join(parts)} imports {name}"


def test_samplers_know_nothing_of_the_package():
    assert not [name for name in imports(PACKAGE / "samplers.py") if name.startswith("tangle_hf")]
