"""The README tells the truth: its code runs, the paths it names exist; docs/tree.md lists every file of the library."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def tree_files() -> set[str]:
    """The files of docs/tree.md, as paths: four spaces of indentation per folder."""
    tree = (ROOT / "docs" / "tree.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(Makefile.*?)^```$", tree, flags=re.MULTILINE | re.DOTALL)
    files, folders = set(), []
    for line in filter(str.strip, block.splitlines()):
        depth, name = (len(line) - len(line.lstrip())) // 4, line.split()[0]
        folders = folders[:depth]
        if name.endswith("/"):
            folders.append(name)
        else:
            files.add("".join([*folders, name]))
    return files


@pytest.mark.parametrize("code", fenced("python"))
def test_python_blocks_run(code, tmp_path):
    done = subprocess.run([sys.executable, "-c", code], check=False, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "subnet" / "config.json").is_file()


def test_there_is_python_and_shell_code():
    assert fenced("python") and fenced("bash")


def test_paths_of_commands_exist():
    paths = set(re.findall(r"(?:recipes|docs|benchmarks)/[\w/]+\.(?:py|ya?ml|md)", README))
    assert "recipes/search_gpt.py" in paths
    assert [path for path in sorted(paths) if not (ROOT / path).is_file()] == []


def test_links_exist():
    links = [link for link in re.findall(r"\]\(([^)#]+)", README) if "://" not in link]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    used = {name for block in fenced("bash") for name in re.findall(r"^make (\w+)", block, flags=re.MULTILINE)}
    assert used and [name for name in sorted(used) if not re.search(rf"^{name}:", makefile, flags=re.MULTILINE)] == []


def test_tree_lists_the_library():
    found = {str(path.relative_to(ROOT)) for path in (ROOT / "tangle_hf").rglob("*.py") if path.name != "__init__.py"}
    listed = tree_files()
    assert sorted(found - listed) == [], "files that docs/tree.md does not list"
    assert [name for name in sorted(listed) if not (ROOT / name).is_file()] == [], "files that do not exist"
