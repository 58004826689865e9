"""The folder of a run: settings that cannot be read, and folders that cannot be written, are one line."""

import errno
from pathlib import Path

import pytest

from tangle_hf.compare.runs import read_runs
from tangle_hf.errors import WriteError
from tangle_hf.run_files import read_settings
from tangle_hf.runs.folder import begun, check_run_folder, write_json
from tangle_hf.runs.info import describe
from tangle_hf.runs.run import accelerator_of
from tangle_hf.search import SearchArguments


@pytest.mark.parametrize(
    "content", [b"", b"# nothing\n", b"- a\n- b\n", b"max_steps: [1, 2", b"text", b"\x80\x04\x95"]
)
def test_settings_of_a_run_that_are_none_are_named(tmp_path, content):
    (tmp_path / "config.yaml").write_bytes(content)
    for read in (lambda: read_settings(tmp_path), lambda: check_run_folder(tmp_path, {"seed": 1}, True, set(), {})):
        with pytest.raises(ValueError, match=f"{tmp_path}/config.yaml .*begin again") as refused:
            read()
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["config.yaml", "results.json"])
def test_a_comparison_names_the_file_of_a_run_that_cannot_be_read(tmp_path, name):
    (tmp_path / "supernet").mkdir()
    for file, text in {"config.yaml": "method: drnas", "results.json": "{}", name: "{"}.items():
        (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match="is damaged"):
        read_runs([str(tmp_path)])


def test_a_folder_that_cannot_be_written_is_refused_at_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: Path(path) != tmp_path)
    with pytest.raises(ValueError, match=f"{tmp_path} cannot be written; choose another --output_dir"):
        check_run_folder(tmp_path / "deep" / "run", {}, False, set(), {})


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_results_are_strict_json(tmp_path, number):
    with pytest.raises(FloatingPointError, match="rows 0 test loss is (nan|inf)"):
        write_json(tmp_path / "results.json", {"rows": [{"test": {"loss": number}}]})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_at_the_start_leaves_no_run(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(WriteError, match="no space is left on the disk of .*run"):
        with begun(tmp_path / "run", {"a": 1}, True):
            pass
    assert not (tmp_path / "run" / "config.yaml").exists()


PARTIAL = "checkpoints/.partial-step-00000002/model.safetensors"


def left(folder: Path, *names: str) -> Path:
    """What a killed run has left: its settings, and files."""
    for name in ("run.json", "metrics.jsonl", *names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    (folder / "config.yaml").write_text("method: drnas\nseed: 0\n")
    return folder


@pytest.mark.parametrize("names", [(), (PARTIAL,), ("report.html", "log.txt", "tangle_hf/events.1")])
def test_a_run_that_died_before_it_kept_anything_gives_its_folder_to_a_new_one(tmp_path, names):
    left(tmp_path, *names)
    assert describe(tmp_path)["state"] == "not finished; checkpoints: none; begin again without --resume"
    check_run_folder(tmp_path, {"seed": 1}, False, set(), {})
    with begun(tmp_path, {"method": "drnas", "seed": 1}, True, {}):
        assert not (tmp_path / PARTIAL).exists() and not (tmp_path / "metrics.jsonl").exists()
        assert describe(tmp_path)["state"].endswith("it may be under way")
        with pytest.raises(ValueError, match="holds a run that may be under way; wait for it"):
            check_run_folder(tmp_path, {"seed": 2}, False, set(), {})
    assert read_settings(tmp_path)["seed"] == 1 and (tmp_path / "log.txt").exists() == ("log.txt" in names)
    check_run_folder(tmp_path, {"seed": 2}, False, set(), {})  # it has ended, and kept nothing


KEEPS = ["checkpoints/step-00000002/model.safetensors", "checkpoints/60pct/checkpoint-2/trainer_state.json",
         "rows/finetune-0.json", "finalists.jsonl", "results.json", "candidates.jsonl", "arch_parameters.safetensors",
         "teacher/model.safetensors", "scores.safetensors", "table.jsonl"]  # fmt: skip


@pytest.mark.parametrize("name", [*KEEPS, None])
def test_a_run_that_kept_anything_keeps_its_folder(tmp_path, name):
    left(tmp_path, PARTIAL, *KEEPS if name is None else [name])
    with pytest.raises(ValueError, match="holds a run already; continue it with --resume or choose another"):
        check_run_folder(tmp_path, {"seed": 1}, False, set(), {})
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file() and path.name != "config.yaml"}
    with begun(tmp_path, {"method": "drnas", "seed": 1}, True):
        assert all(path.read_bytes() == content for path, content in before.items())


def test_settings_that_no_run_has_left_are_not_overwritten(tmp_path):
    (tmp_path / "config.yaml").write_text("seed: 0\n")
    with pytest.raises(ValueError, match="holds a run already"):
        check_run_folder(tmp_path, {"seed": 1}, False, set(), {})


def test_processes_wait_for_one_that_works_for_hours(tmp_path):
    """Ten minutes, the default with GPUs, are less than it takes to measure latency or to train a large finalist."""
    assert accelerator_of(SearchArguments(output_dir=str(tmp_path))).init_handler.timeout.total_seconds() > 3600
