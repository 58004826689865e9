"""The commands in README and docs/ would be accepted: every option exists, its value has the right type, files are there."""

import re
import runpy
import shlex
import sys
from pathlib import Path

import pytest

from tangle_hf import settings as arguments
from tangle_hf.cli.main import make_parser
from tangle_hf.training import tasks as finetune_tasks


ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs" / "tutorial.md"
HERE_DOCUMENT = re.compile(r"^python - <<'PY'\n(.*?)^PY$", flags=re.MULTILINE | re.DOTALL)


def shell(document: Path) -> str:
    """All shell code of a document."""
    return "\n".join(re.findall(r"^```bash\n(.*?)^```$", document.read_text(encoding="utf-8"), flags=re.M | re.S))


def commands(document: Path) -> list[list[str]]:
    """The commands of a document that start with a script or `tangle-hf`, as words, without what a shell takes away."""
    text = HERE_DOCUMENT.sub("", shell(document)).replace("\\\n", " ")
    lines = re.findall(r"^(?:accelerate launch |python )?((?:recipes/\w+\.py|tangle-hf)\b.*)$", text, flags=re.M)
    return [shlex.split(re.sub(r"\s*(;.*|&)$", "", line), comments=True) for line in lines]


COMMANDS = list(dict.fromkeys(tuple(words) for document in DOCUMENTS for words in commands(document)))


class Accepted(BaseException):
    """Ends a script once it has read its command line."""


@pytest.fixture
def read_only(monkeypatch):
    """Recipes that stop behind their command line."""

    def stop(*kinds, **options):
        parsed = parse(*kinds, **options)
        raise Accepted(parsed)

    parse = arguments.parse
    for module in (arguments, finetune_tasks):
        monkeypatch.setattr(module, "parse", stop)
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_commands_are_accepted(words, read_only, monkeypatch):
    if words[0] == "tangle-hf":
        assert make_parser().parse_args(words[1:]).command
        return
    monkeypatch.setattr(sys, "argv", list(words))
    with pytest.raises(Accepted):
        runpy.run_path(words[0], run_name="__main__")


def test_every_recipe_and_command_of_the_tutorial_is_seen():
    first = [words[0] for words in commands(TUTORIAL)]
    assert {"recipes/search_gpt.py", "recipes/search_vit.py", "recipes/finetune.py", "recipes/precision.py"} <= {
        *first
    }
    assert len(first) == len(
        re.findall(r"^(?:accelerate launch|python recipes|tangle-hf)", shell(TUTORIAL), flags=re.M)
    )


def test_python_of_the_tutorial(tmp_path, monkeypatch):
    """The texts for fine-tuning are written; what loads the published net is code, and runs in tests/hub."""
    loads_gpt2, writes, loads_vit = HERE_DOCUMENT.findall(shell(TUTORIAL))
    monkeypatch.chdir(tmp_path)
    exec(writes, {})
    sizes = [(tmp_path / "python-docs" / f"{name}.txt").stat().st_size for name in ("train", "validation", "test")]
    assert min(sizes) > 10_000 and max(sizes) == sizes[0]
    for code in (loads_gpt2, loads_vit):
        assert 'sys.modules["tangle_hf"] = None' in code and compile(code, str(TUTORIAL), "exec")
