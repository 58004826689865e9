"""The README tells the truth: its code runs, the paths it names exist; docs/tree.md lists every folder."""

import re
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def fenced(language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", fenced("python"))
def test_python_blocks_run(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(code, {})
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


def test_the_table_of_folders_has_all_and_no_others():
    tree = (ROOT / "docs" / "tree.md").read_text(encoding="utf-8")
    listed = {name.strip("`/") for row in re.findall(r"^\| (`.*?) \|", tree, flags=re.M) for name in row.split(", ")}
    listed |= {f"tangle_hf/{name}" for name in listed if "/" not in name and (ROOT / "tangle_hf" / name).is_file()}
    package = ROOT / "tangle_hf"
    found = {str(path.parent.relative_to(ROOT)) for path in package.rglob("*.py") if path.parent != package}
    found |= {str(path.relative_to(ROOT)) for path in package.glob("*.py") if path.stem not in ("__init__", "version")}
    assert sorted(found - listed) == [], "folders and files that docs/tree.md does not list"
    assert [name for name in sorted(listed) if not (ROOT / name).exists() and not (package / name).exists()] == []
