"""The scripts of recipes/paper: every command that they would run is accepted, and one of them runs to its end, once."""

import json
import os
import random
import shlex
import shutil
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from PIL import Image
from test_docs import Accepted, read_only, run  # noqa: F401


ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted(path for path in (ROOT / "recipes" / "paper").glob("*.sh") if path.name != "run.sh")


def start(script: Path, *options: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess:
    """Runs a script with these variables."""
    given = {**os.environ, **variables}
    return subprocess.run(["bash", str(script), *options], cwd=cwd, env=given, capture_output=True, text=True)


def bash(script: Path, *options: str, **variables) -> list[str]:
    """What a script prints, as lines."""
    done = start(script, *options, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def echoed(script: Path, *options: str, **variables: str) -> list[list[str]]:
    """The commands of a script, from the recipe on, as words."""
    lines = bash(script.relative_to(ROOT), *options, ECHO="1", TABLE="accuracy.jsonl", **variables)
    commands = [shlex.split(line) for line in lines]
    return [words[next(i for i, word in enumerate(words) if word.startswith("recipes/")) :] for words in commands]


def values(words: list[str], option: str) -> list[str]:
    """What follows an option, up to the next one."""
    if option not in words:
        return []
    behind = words[words.index(option) + 1 :]
    return behind[: next((i for i, word in enumerate(behind) if word.startswith("--")), len(behind))]


@pytest.mark.parametrize("sizes", [(), ("--paper",)], ids=["small", "paper"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_every_command_is_accepted(script, sizes, read_only):  # noqa: F811
    commands = echoed(script, *sizes, SEEDS="1", PORTIONS="0.8")
    assert {"recipes/compare.py"} < {words[0] for words in commands}
    for words in commands:
        assert bool(values(words, "--config")) == (bool(sizes) and words[0] != "recipes/compare.py")
        with pytest.raises(Accepted):
            run(tuple(words))


@pytest.mark.parametrize("sizes", [(), ("--paper",)], ids=["small", "paper"])
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_folder_for_every_row_and_all_searches_in_a_table(script, sizes):
    commands = echoed(script, *sizes)
    found = [(words[0], *values(words, "--output_dir")) for words in commands]
    rows = [folder for recipe, folder in found if recipe != "recipes/compare.py"]
    assert len(rows) == len(set(rows)) and {*rows}.isdisjoint(
        folder for recipe, folder in found if "compare" in recipe
    )
    compared = {run.partition("=")[2] for words in commands for run in values(words, "--runs")}
    searched = {folder for recipe, folder in found if "search" in recipe}
    assert compared and {folder for folder in searched - compared if "imagenet" not in folder} == set()
    assert compared <= searched


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_what_is_unknown_is_refused(script):
    done = start(script, "--papers", ECHO="1", TABLE="accuracy.jsonl")
    assert done.returncode == 2 and "--paper" in done.stderr and not done.stdout
    done = start(script, ECHO="1", TABLE="accuracy.jsonl", METHODS="spos")
    assert done.returncode == 2 and "METHODS: spos" in done.stderr and not done.stdout


def test_a_table_of_accuracies_is_asked_for():
    done = start(ROOT / "recipes" / "paper" / "nas_bench_201.sh", ECHO="1", TABLE="")
    assert done.returncode != 0 and "accuracies of NAS-Bench-201" in done.stderr and not done.stdout


@pytest.mark.parametrize("sizes", [(), ("--paper",)], ids=["small", "paper"])
def test_finalists_are_asked_for(sizes):
    script = ROOT / "recipes" / "paper" / "nas_bench_201.sh"
    given = {"TABLE": "t.jsonl", "ECHO": "1", "SEEDS": "0", "PORTIONS": "0.5", "METHODS": "darts"}
    asked = start(script, *sizes, **given, FINALISTS="1", RANDOM_FINALISTS="12").stdout.splitlines()[0]
    assert "--finalists 1 --random_finalists 12 --finalist_ratio 0.25" in asked
    assert "finalists" not in start(script, *sizes, **given).stdout


OPERATIONS = ("skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


@pytest.fixture
def tiny(tmp_path) -> dict[str, str]:
    """Variables that make a table of NAS-Bench-201 small: 300 images of noise, made-up accuracies, two steps."""
    draw = random.Random(0)
    for split, count in {"train": 240, "test": 20}.items():
        for number in range(count):
            file = tmp_path / "images" / split / f"class{number % 2}" / f"{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.frombytes("RGB", (16, 16), draw.randbytes(768)).save(file)
    cell = "|{}~0|+|{}~0|{}~1|+|{}~0|{}~1|{}~2|"
    rows = [{"arch": cell.format(*found), "accuracy": draw.random()} for found in product(OPERATIONS, repeat=6)]
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, rows)))
    given = {
        "CIFAR10": "images",
        "TABLE": "table.jsonl",
        "METRICS": "accuracy",
        "OUT": "out",
        "PYTHON": sys.executable,
    }
    return given | {"SEEDS": "0", "PORTIONS": "0.5", "METHODS": "tanglenas", "STEPS": "2", "CELLS": "1"}


def test_a_table_is_filled_once(tiny, tmp_path):
    script = ROOT / "recipes" / "paper" / "nas_bench_201.sh"
    environment = {"PYTHONPATH": str(ROOT)}
    printed = "\n".join(bash(script, cwd=tmp_path, **tiny, **environment))
    run = tmp_path / "out" / "tanglenas-0.5-0"
    found = json.loads((run / "results.json").read_text())
    assert found["notation"] in printed and "among all 4,096 architectures of the space" in printed
    table = (tmp_path / "out" / "entangled-accuracy.txt").read_text()
    assert "table accuracy" in table and table.strip() in printed

    echo = tiny | {"PYTHON": "echo"}  # a recipe that does nothing, which tells what would be done
    search, *_ = again = bash(script, cwd=tmp_path, **echo)
    assert search == "out/tanglenas-0.5-0 is finished already" and not any("search_cnn" in line for line in again)
    assert (run / "results.json").is_file()

    (run / "results.json").unlink()  # as if it had been stopped
    assert bash(script, cwd=tmp_path, **echo)[0].rstrip().endswith("--resume")
    shutil.rmtree(run / "checkpoints")  # as if it had been killed before its first checkpoint
    search = bash(script, cwd=tmp_path, **echo)[0]
    assert "--resume" not in search and "search_cnn" in search and not run.exists()
