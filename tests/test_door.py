"""The door `tangle-hf` and the recipes behind it: quick to answer, passing on what it is given, and free to be copied."""

import ast
import os
import re
import resource
import runpy
import subprocess
import sys
from pathlib import Path
from subprocess import CalledProcessError

import accelerate.commands.launch
import pytest
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

import tangle_hf_cli
from tangle_hf.cli import recipes
from tangle_hf.hub.settings import command_line
from tangle_hf.settings import CALLED_AS


ROOT = Path(__file__).resolve().parents[1]
RECIPES = ROOT / "recipes"
DOOR = [sys.executable, "-m", "tangle_hf_cli"]
TINY = ["--n_embd", "4", "8", "--n_layer", "1", "--n_head", "1", "--mlp_ratio", "1", "--block_size", "16", "--vocab_size",
        "260", "--max_steps", "2", "--per_device_batch_size", "2", "--eval_batches", "1", "--warmup_steps", "0"]  # fmt: skip
KINDS = [(command, kind) for command, kinds in recipes.RECIPES.items() for kind in kinds]


@pytest.fixture(autouse=True)
def own_process(monkeypatch):
    """What a command changes of its process is put back behind it."""
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv(CALLED_AS, "")
    monkeypatch.delenv(CALLED_AS)
    monkeypatch.setattr(recipes.signal, "signal", lambda number, handler: None)
    for tool in tangle_hf_cli.TOOLS:  # runpy warns of modules that are imported already
        monkeypatch.delitem(sys.modules, f"tangle_hf.cli.{tool}", raising=False)


@pytest.fixture
def launched(monkeypatch):
    """What `accelerate launch` is told, instead of being launched."""
    told = []
    monkeypatch.setattr(accelerate.commands.launch, "launch_command", told.append)
    return told


def ending(*words: str) -> int | str | None:
    """What a command ends its process with."""
    with pytest.raises(SystemExit) as stopped:
        tangle_hf_cli.main(words)
    return stopped.value.code


def ending_of_script(path: Path, *options: str) -> int | str | None:
    """The same of a script that is run by itself."""
    sys.argv = [str(path), *options]
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(path), run_name="__main__")
    return stopped.value.code


@pytest.mark.parametrize("words", [[], ["search"], ["finetune"], ["fork"], ["no_such_command"]], ids=" ".join)
def test_help_and_wrong_words_take_no_time_and_no_torch(words):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-X", "importtime", *DOOR[1:], *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == (2 if "no_such_command" in words else 0), done.stderr
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "argparse" in imported
    assert not {name for name in imported if name.split(".")[0] in ("torch", "transformers", "tangle_hf")}
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5


def test_help_lists_what_there_is(capsys):
    """Every command that is listed answers, and every recipe is listed."""
    assert ending("--help") == 0
    listed = re.findall(r"^    (\w+)\b", capsys.readouterr().out, flags=re.M)
    own = {"info", "report", "export", "resolve", "fork", "card", "push"}
    assert len(listed) == len({*listed}) and {*listed} == {*tangle_hf_cli.RECIPES, *tangle_hf_cli.TOOLS, *own}
    for name in listed:
        assert ending(name, "--help") == 0 and capsys.readouterr().out.strip(), name
    for command, (kinds, _) in tangle_hf_cli.RECIPES.items():
        assert kinds == (f"{{{','.join(recipes.RECIPES[command])}}}" if command in recipes.RECIPES else "")
    for words in KINDS:
        assert ending(*words, "--help") == 0
        said = capsys.readouterr().out
        shown = words if words[0] == "search" else words[:1]  # finetune.py reads the word itself
        assert "--output_dir" in said and said.startswith(f"usage: tangle-hf {' '.join(shown)} [--config"), words
    behind = {name for kinds in recipes.RECIPES.values() for name in kinds.values()} | {*recipes.ALONE}
    assert behind == {path.stem for path in RECIPES.glob("*.py")}
    ending("fork", "--help")
    said = " ".join(capsys.readouterr().out.split())
    assert all(name in said for name in behind)


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.py")), ids=lambda path: path.name)
def test_a_recipe_needs_nothing_beside_it(path):
    """It imports tangle_hf, the standard library and packages; no file of the repository, and no way to one."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno} imports from its own folder"
            names = [node.module]
            assert node.module != "sys" or "path" not in [alias.name for alias in node.names]
        for name in (name.split(".")[0] for name in names):
            near = [folder / f"{name}.py" for folder in (path.parent, RECIPES, ROOT, ROOT / "tests")] + [ROOT / name]
            assert name == "tangle_hf" or not any(file.exists() for file in near), f"{name}, line {node.lineno}"
        assert not (isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.path"), f"line {node.lineno}"


@pytest.fixture(scope="module")
def forked(tmp_path_factory):
    """(the folder with my_search.py and the run that it has left, what the run said)."""
    folder = tmp_path_factory.mktemp("forked")
    tangle_hf_cli.main(["fork", "search_gpt", str(folder / "my_search.py")])
    texts = []
    for name in ("train", "validation", "test"):
        (folder / f"{name}.txt").write_text("".join(f"{name} line {i} of a small text.\n" for i in range(60)))
        texts += [f"--{name}_file", f"{name}.txt"]
    command = [sys.executable, "my_search.py", "--output_dir", "run", *TINY, *texts]
    return folder, subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)


def test_a_copied_recipe_runs_as_it_is_and_its_cards_name_it(forked):
    folder, done = forked
    assert done.returncode == 0, done.stderr
    assert {path.name for path in folder.iterdir() if path.suffix != ".txt"} == {"my_search.py", "run"}
    for net in ("subnet", "supernet"):
        card = (folder / "run" / net / "README.md").read_text()
        assert "accelerate launch my_search.py --output_dir run" in card and "search_gpt" not in card
        assert str(folder) not in card


def test_a_copied_recipe_answers_help_and_is_not_written_over(forked, capsys):
    copy = forked[0] / "my_search.py"
    assert copy.read_text() == (RECIPES / "search_gpt.py").read_text()
    assert ending_of_script(copy, "--help") == 0
    assert capsys.readouterr().out.startswith("usage: my_search.py ")
    copy.write_text(mine := copy.read_text() + "# changed\n")
    assert ending("fork", "search_vit", str(copy)) == f"error: {copy} exists; choose another name"
    assert copy.read_text() == mine


def test_fork_says_how_to_run_the_copy(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tangle_hf_cli.main(["fork", "finetune", "new folder/mine.py"])
    assert capsys.readouterr().out == "run it: accelerate launch 'new folder/mine.py' --help\n"
    assert Path("new folder/mine.py").read_text() == (RECIPES / "finetune.py").read_text()


def test_an_error_of_the_user_is_one_line_through_accelerate_too(capfd, caplog):
    """And it is the recipe's own, without the traceback that accelerate adds of its own code."""
    wrong = ["--max_stops", "3", "--output_dir", "no such run"]
    assert ending("search", "gpt2", *wrong) == 1
    said = capfd.readouterr()
    itself = ending_of_script(RECIPES / "search_gpt.py", *wrong)
    assert tuple(said) == ("", f"{itself}\n") and itself.count("\n") == 0 and not caplog.records
    assert itself.startswith("error: there is no option --max_stops (did you mean --max_steps")


@pytest.mark.parametrize(
    "words",
    [
        ["search", "gtp2", "--max_steps", "3"],
        ["search"],
        ["finetune", "--mode", "inherit"],
        ["fork", "search_gtp", "copy.py"],
    ],
    ids=" ".join,
)
def test_an_unknown_recipe_is_one_line_that_names_those_there_are(words, launched, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = ending(*words)
    assert said.startswith("error: ") and "\n" not in said and not launched and not list(tmp_path.iterdir())
    there_are = recipes.RECIPES.get(words[0], [path.stem for path in RECIPES.glob("*.py")])
    assert all(f"'{name}'" in said for name in there_are)
    assert ("did you mean gpt2?" in said) == ("gtp2" in words)


@pytest.mark.parametrize("words", KINDS, ids=" ".join)
def test_all_options_reach_the_recipe_as_they_are(words, launched):
    """Behind the word everything is the recipe's, what accelerate knows, too; before it everything is accelerate's."""
    command, kind = words
    options = ["--mixed_precision", "bf16", "--num_processes=3", "--config", "a b.yaml", "", "-y", "--", kind, "$z"]
    tangle_hf_cli.main([command, "--num_processes", "1", "--cpu", kind, *options])
    (told,) = launched
    assert told.training_script == str(recipes.recipe(recipes.RECIPES[command][kind]))
    assert told.training_script_args == ([kind] if command == "finetune" else []) + options
    assert told.num_processes == 1 and told.cpu and not told.multi_gpu
    sys.argv = [told.training_script, *told.training_script_args]
    shown = f"--mixed_precision bf16 --num_processes=3 --config 'a b.yaml' '' -y -- {kind} '$z'"
    assert command_line() == f"tangle-hf {command} --num_processes 1 --cpu {kind} {shown}"


@pytest.mark.parametrize("words", [["--resume"], ["--resume", "true"], ["--resume=true"], []], ids=" ".join)
def test_the_command_of_a_card_begins_the_run(words):
    sys.argv = ["compare.py", *words, "--seeds", "1", "true"]
    os.environ[CALLED_AS] = "tangle-hf compare"
    assert command_line() == "tangle-hf compare --seeds 1 true"


@pytest.mark.parametrize("accelerated", [False, True])
def test_several_processes_are_started_without_a_gpu_too(launched, monkeypatch, accelerated):
    """accelerate itself starts one, and says nothing."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "false")  # is put back
    monkeypatch.setattr(recipes, "_accelerated", lambda: accelerated)
    tangle_hf_cli.main(["search", "--num_processes", "2", "gpt2", "--max_steps", "3"])
    (told,) = launched
    assert told.num_processes == 2 and told.multi_gpu == (not accelerated)
    assert os.environ["ACCELERATE_USE_CPU"] == ("false" if accelerated else "true")
    assert (told.num_machines, told.mixed_precision, told.dynamo_backend) == (1, "no", "no"), "accelerate would warn"


@pytest.mark.parametrize("words", [*KINDS, *((name,) for name in recipes.ALONE)], ids=" ".join)
def test_a_wrong_option_is_refused_as_by_the_recipe_itself(words, tmp_path, monkeypatch, capsys):
    """Without launching it, which another test does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(recipes, "_launch", lambda launcher, path, options: recipes._run_here(path, options))
    command, *kind = words
    through = ending(*words, "--no_such_option", "1"), capsys.readouterr().err
    path = recipes.recipe(recipes.RECIPES[command][kind[0]] if kind else command)
    itself = ending_of_script(path, *(kind if command == "finetune" else []), "--no_such_option", "1")
    assert through[0] != 0 and through == (itself, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CalledProcessError(1, "search_gpt.py"), 1),
        (CalledProcessError(2, "search_gpt.py"), 2),
        (CalledProcessError(-9, "search_gpt.py"), 137),  # killed: as a shell has it
        (ChildFailedError("search_gpt.py", {0: ProcessFailure(0, 1, 1, "none")}), 1),
        (CalledProcessError(130, "search_gpt.py"), 130),
        (ChildFailedError("search_gpt.py", {rank: ProcessFailure(rank, 1, 130, "none") for rank in (0, 1)}), 130),
    ],
    ids=["error", "usage", "killed", "several processes", "stopped", "several stopped"],
)
def test_the_exit_code_is_that_of_the_recipe(error, code, monkeypatch):
    def launch(told):
        raise error

    monkeypatch.setattr(accelerate.commands.launch, "launch_command", launch)
    assert ending("search", "gpt2") == code
