"""Full and protected disks: one line that names the folder, whichever library met it, and nothing half-written; damaged files
of a run."""

import errno
import os
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from models.families import gpt2
from safetensors import SafetensorError

from tangle_hf.analysis import read_metrics
from tangle_hf.errors import WriteError, readable_errors, writing
from tangle_hf.files import replacing
from tangle_hf.run_files import read_results, read_settings
from tangle_hf.search.checkpoints import latest_checkpoint, save_checkpoint
from tangle_hf.subnets.exports import export


FULL = [
    OSError(errno.ENOSPC, "No space left on device"),
    OSError(errno.EDQUOT, "Disk quota exceeded"),
    SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
    RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed"),
    Exception("No space left on device (os error 28)"),  # of tokenizers
]
PROTECTED = [OSError(errno.EROFS, "Read-only file system"), PermissionError(errno.EACCES, "Permission denied")]


def raising(error: Exception):
    def fail(*args, **kwargs):
        raise error

    return fail


@pytest.mark.parametrize("error", FULL, ids=lambda error: str(error)[:30])
def test_a_full_disk_ends_in_one_line_with_the_folder_and_the_way_on(tmp_path, error):
    with pytest.raises(SystemExit) as stopped, readable_errors(), writing(tmp_path):
        raising(error)()
    message = stopped.value.code
    assert str(tmp_path) in message and "no space is left" in message and "--resume" in message and "\n" not in message


@pytest.mark.parametrize("error", PROTECTED, ids=str)
def test_a_protected_folder_ends_in_one_line(tmp_path, error):
    with pytest.raises(SystemExit, match="cannot be used") as stopped, readable_errors(), writing(tmp_path):
        raising(error)()
    assert str(tmp_path) in stopped.value.code


def test_a_cache_that_cannot_be_written_is_named_by_its_file(tmp_path):
    """Of what libraries write without being asked, the error has the file, or an error that was raised of it has."""
    for cause in (OSError(errno.EROFS, "Read-only file system", str(tmp_path / "x.arrow")), None):
        with pytest.raises(SystemExit, match=f"{tmp_path} cannot be used"), readable_errors():
            if cause is None:
                raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "x.arrow"))
            raise RuntimeError("An error occurred while generating the dataset") from cause
    with pytest.raises(SystemExit, match="no space is left on the disk of"), readable_errors():
        raise RuntimeError("An error occurred while generating the dataset") from OSError(errno.ENOSPC, "No space")


def test_other_errors_of_the_system_keep_their_traceback(tmp_path):
    for error in (FileNotFoundError(errno.ENOENT, "No such file", "x"), RuntimeError("shapes differ"), KeyError("x")):
        with pytest.raises(type(error)), readable_errors(), writing(tmp_path):
            raise error


@pytest.mark.parametrize("error", FULL[::2], ids=lambda error: str(error)[:30])
def test_a_checkpoint_on_a_full_disk_leaves_the_one_before(tmp_path, monkeypatch, error):
    accelerator = Accelerator(cpu=True)
    accelerator.prepare(torch.nn.Linear(2, 2))
    save_checkpoint(accelerator, tmp_path, 2)

    def half(folder: str):
        Path(folder).mkdir(parents=True)
        (Path(folder) / "model.safetensors").write_bytes(bytes(10))
        raise error

    monkeypatch.setattr(accelerator, "save_state", half)
    with pytest.raises(WriteError, match=f"{tmp_path / 'checkpoints'}"):
        save_checkpoint(accelerator, tmp_path, 4)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    assert latest_checkpoint(tmp_path)[1] == 2


def test_an_export_on_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    supernet = gpt2()
    monkeypatch.setattr("tangle_hf.subnets.exports.compare", raising(FULL[2]))
    with pytest.raises(WriteError, match=str(tmp_path)):
        export(supernet, supernet.space.smallest, tmp_path / "subnet")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_a_disk_that_is_really_full(tmp_path):
    with pytest.raises(WriteError, match=str(tmp_path)), replacing(tmp_path / "folder") as partial:
        (partial / "file").symlink_to("/dev/full")
        (partial / "file").write_text("text")
    assert not list(tmp_path.iterdir())


def test_what_a_folder_refuses_is_one_line_whoever_met_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped, readable_errors():
        (tmp_path / "file" / "inside").mkdir()
    assert stopped.value.code == f"error: {tmp_path}/file/inside: Not a directory; choose another folder"


@pytest.mark.parametrize("content", [b"", b"- a\n- b\n", b"[1, 2]", b"a: [1", b"{", b"\xff\xfe\x00"])
def test_damaged_files_of_a_run_are_named(tmp_path, content):
    for name, read in (
        ("config.yaml", lambda: read_settings(tmp_path)),
        ("results.json", lambda: read_results(tmp_path / "results.json")),
    ):
        with pytest.raises(ValueError, match=f"has no {name}"):
            read()
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name} is (damaged|empty or cut off)"):
            read()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "is missing"), (b"", "is empty"), (b"\xff\xfe\n", "is damaged"), (b'{"step": 1}\n{"s\n', "is damaged")],
)
def test_what_a_run_has_logged_is_there_or_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "metrics.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=f"metrics.jsonl {message}.*restore it"):
        read_metrics(tmp_path / "metrics.jsonl")
