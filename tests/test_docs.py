"""The commands in README and docs/ would be accepted: every option exists, its value has the right type, files are there."""

import argparse
import json
import re
import runpy
import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tangle_hf_cli
from tangle_hf import Architecture, num_params, settings
from tangle_hf.cli import recipes
from tangle_hf.compress import settings as compress_settings
from tangle_hf.search import choose
from tangle_hf.search.batches import Batches
from tangle_hf.settings import CALLED_AS
from tangle_hf.training import tasks as finetune_tasks


ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL, PYTHON = ROOT / "docs" / "tutorial.md", ROOT / "docs" / "python.md"
HERE_DOCUMENT = re.compile(r"^python - <<'PY'\n(.*?)^PY$", flags=re.MULTILINE | re.DOTALL)


def shell(document: Path) -> str:
    """All shell code of a document."""
    return "\n".join(re.findall(r"^```bash\n(.*?)^```$", document.read_text(encoding="utf-8"), flags=re.M | re.S))


def commands(document: Path) -> list[list[str]]:
    """The commands of a document that start with a script or `tangle-hf`, as words, without what a shell takes away."""
    text = HERE_DOCUMENT.sub("", shell(document)).replace("\\\n", " ")
    text = re.sub(r"^make search ARGS=(?:\"(.*)\"|(\S+))$", r"recipes/search_gpt.py \1\2", text, flags=re.M)
    text = re.sub(
        r"^((?:[A-Z_]+=\S+ )*accelerate launch) (?:--[\w-]+(?: [^\s-]\S*)? )+(?=recipes/)", r"\1 ", text, flags=re.M
    )
    start = r"^(?:[A-Z_]+=\S+ )*(?:accelerate launch |python )?"
    lines = re.findall(start + r"((?:recipes/\w+\.py|tangle-hf)\b.*)$", text, flags=re.M)
    return [shlex.split(re.sub(r"\s*(;.*|&)$", "", line), comments=True) for line in lines]


COMMANDS = list(dict.fromkeys(tuple(words) for document in DOCUMENTS for words in commands(document)))


class Accepted(BaseException):
    """Ends a command once it has read its command line."""


@pytest.fixture
def read_only(monkeypatch):
    """Commands that stop behind their command line, whichever parser reads it."""

    def stops(parse):
        def parse_and_stop(*given, **options):
            parse(*given, **options)
            raise Accepted

        return parse_and_stop

    for module in (settings, finetune_tasks, compress_settings):
        monkeypatch.setattr(module, "parse", stops(settings.parse))
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", stops(argparse.ArgumentParser.parse_args))
    monkeypatch.setattr(recipes, "_launch", lambda launcher, path, options: recipes._run_here(path, options))
    monkeypatch.setenv(CALLED_AS, "")  # put back, like sys.argv, whatever a command makes of it
    monkeypatch.setattr(sys, "argv", sys.argv)
    for tool in tangle_hf_cli.TOOLS:  # runpy warns of modules that are imported already
        monkeypatch.delitem(sys.modules, f"tangle_hf.cli.{tool}", raising=False)
    monkeypatch.chdir(ROOT)


def run(words: tuple[str, ...]) -> None:
    """Runs a command of a document in this process."""
    sys.argv = list(words)
    if words[0] == "tangle-hf":
        tangle_hf_cli.main(words[1:])
    else:
        runpy.run_path(words[0], run_name="__main__")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_two_commands_of_a_page_leave_a_run_in_one_folder(document):
    """The second would be refused; a comparison would go on."""
    begin = [words for words in commands(document) if not {"--resume", "--dry_run", "recipes/compare.py"} & {*words}]
    left = [words[words.index("--output_dir") + 1] for words in begin if "--output_dir" in words]
    assert not {folder for folder in left if left.count(folder) > 1 and "$" not in folder}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_are_accepted(words, read_only):
    with pytest.raises(Accepted):
        run(words)


@pytest.mark.parametrize(
    "words",
    [
        "recipes/search_gpt.py --max_parms 50%",
        "tangle-hf search gpt2 --max_parms 50%",
        "tangle-hf search gtp2",
        "tangle-hf finetune language --checkpoint runs/search_gpt/subnet --moods inherit",
        "tangle-hf compare --run runs/one",
        "tangle-hf compress --max_parms 50%",
        "tangle-hf precision language --checkpoints runs/search_gpt/subnet",
        "tangle-hf compare_fronts --front runs/front",
        "tangle-hf resolve runs/half --max_parms 35%",
    ],
)
def test_a_wrong_command_would_be_seen(words, read_only, capsys):
    with pytest.raises(SystemExit) as stopped:
        run(tuple(words.split()))
    assert stopped.value.code != 0


def test_every_recipe_and_command_of_the_tutorial_is_seen():
    found = [" ".join(words[: 2 if words[0] == "tangle-hf" else 1]) for words in commands(TUTORIAL)]
    named = {"recipes/search_gpt.py", "recipes/search_vit.py", "recipes/finetune.py", "tangle-hf precision"}
    assert named <= {*found}
    assert len(found) == len(
        re.findall(r"^(?:accelerate launch|python recipes|tangle-hf)", shell(TUTORIAL), flags=re.M)
    )


def test_python_of_the_tutorial(tmp_path, monkeypatch):
    """The texts for fine-tuning are written; what loads the published net is code, and runs in tests/hub."""
    writes, loads_gpt2, loads_vit = HERE_DOCUMENT.findall(shell(TUTORIAL))
    monkeypatch.chdir(tmp_path)
    exec(writes, {})
    sizes = [(tmp_path / "python-docs" / f"{name}.txt").stat().st_size for name in ("train", "validation", "test")]
    assert min(sizes) > 10_000 and max(sizes) == sizes[0]
    for code in (loads_gpt2, loads_vit):
        assert 'sys.modules["tangle_hf"] = None' in code and compile(code, str(TUTORIAL), "exec")


def test_the_program_of_the_python_page(tmp_path, monkeypatch):
    """It runs from top to bottom, and what it makes is what the page says of it."""
    pieces = re.findall(r"^```python\n(.*?)^```$", PYTHON.read_text(encoding="utf-8"), flags=re.M | re.S)
    monkeypatch.chdir(tmp_path)
    made = {}
    for piece in pieces:
        exec(piece, made)
    space, settings, arch = made["space"], made["settings"], made["arch"]
    assert [json.loads(line)["step"] for line in Path("my_search/metrics.jsonl").read_text().splitlines()] == [10]
    assert num_params(space, arch, made["supernet"].config) <= 0.6 * num_params(
        space, space.largest, made["supernet"].config
    )
    assert made["written"].difference <= 1e-3 * made["written"].scale
    streamed = next(iter(Batches(made["accelerator"], made["stream"], settings.per_device_batch_size, seed=0)))
    assert torch.equal(streamed["input_ids"][1], made["train_data"][1]["input_ids"])
    assert made["arch_parameters"].argmax() == choose_without_limits(made)


def choose_without_limits(made: dict) -> Architecture:
    """What `choose` takes where the settings limit nothing."""
    settings = replace(made["settings"], max_params=None)
    return choose(made["supernet"], made["arch_parameters"], settings)[0][0].arch
