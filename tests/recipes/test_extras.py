"""What is optional is needed only by what uses it, and named in one line where it is missing."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.sources import read_splits


RECIPES = Path(__file__).parents[2] / "recipes"
# As if the extras were not installed; pillow comes with matplotlib, filelock with torch.
MISSING = ("torchvision", "sklearn", "pymoo", "peft", "onnx", "onnxscript", "onnxruntime", "gguf", "lm_eval")
# Everything for text; then the recipes for images, one after another.
CODE = """
import runpy, sys
from pathlib import Path
missing, recipes, commands = MISSING, RECIPES, COMMANDS
sys.modules |= dict.fromkeys(missing)
sys.path.insert(0, recipes)
import search_gpt, finetune, compare
from tangle_hf.cli import precision
from tangle_hf.compare.runs import Run, data_settings
from tangle_hf.data import text
settings = {"train_file": "a.txt", "block_size": 8}
assert data_settings(Run("darts", Path("run"), settings, {}, None)) == settings
del sys.modules["tangle_hf.cli.precision"]  # runs as a script below
data = finetune.arguments(["language", "--checkpoint", "nowhere"])[2]
assert isinstance(data, text.DataArguments)
loaded = {name.removeprefix("tangle_hf.data.images.") for name in sys.modules if name.startswith("tangle_hf.data.images.")}
assert loaded <= {"settings", "augmentation_settings", "soft_targets"}, loaded
for name, argv in commands.items():
    sys.argv = [name, *argv]
    try:
        if name.endswith(".py"):
            runpy.run_path(f"{recipes}/{name}", run_name="__main__")
        else:
            runpy.run_module(f"tangle_hf.cli.{name}", run_name="__main__")
    except ImportError as error:
        sys.excepthook(type(error), error, error.__traceback__)
    except SystemExit as stopped:
        print(stopped.code, file=sys.stderr)
"""


def test_recipes_for_text_need_nothing_of_images_and_those_name_their_extra():
    commands = {
        "search_vit.py": ["--help"],
        "search_cnn.py": ["--help"],
        "make_table": ["--help"],
        "recalibrate": ["--help"],
        "finetune.py": ["vision", "--checkpoint", "nowhere"],
        "precision": ["vision", "--checkpoint", "nowhere"],
    }
    code = CODE
    for name, value in {"MISSING": MISSING, "RECIPES": str(RECIPES), "COMMANDS": commands}.items():
        code = code.replace(name, repr(value))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    assert len(lines) == len(commands), done.stderr
    for name, line in zip(commands, lines, strict=True):
        package, extra = ("onnxruntime", "onnx") if name == "precision" else ("torchvision", "vision")
        assert line == f"error: {package} is not installed; install it with: pip install 'tangle_hf[{extra}]'", name


def test_what_a_script_imports_before_it_can_catch_anything_is_one_line_too(monkeypatch, capsys):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.delitem(sys.modules, "tangle_hf.analysis.statistics", raising=False)
    with pytest.raises(ImportError) as caught:
        import_module("tangle_hf.analysis.statistics")
    sys.excepthook(caught.type, caught.value, caught.tb)
    said = capsys.readouterr().err
    assert said == "error: scipy is not installed; install it with: pip install 'tangle_hf[compare]'\n"
    sys.excepthook(ValueError, ValueError("another"), None)
    assert capsys.readouterr().err == "ValueError: another\n"


def test_only_the_embedded_digits_need_scikit_learn(monkeypatch):
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r"sklearn is not installed.*'tangle_hf\[vision\]'"):
        read_splits(ImageArguments())
