"""Which errors are one line, and what reads a run's files."""

import errno
import os

import pytest

from tangle_hf.errors import readable_errors
from tangle_hf.run_files import read_results, read_settings


def test_what_a_folder_refuses_is_one_line_whoever_met_it(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as stopped, readable_errors():
        (tmp_path / "file" / "inside").mkdir()
    assert (
        stopped.value.code == f"error: {tmp_path}/file/inside: Not a directory; choose another folder, or change that"
    )


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EISDIR])
def test_permissions_and_full_disks_name_the_folder(code):
    with pytest.raises(SystemExit, match=f"error: some/folder: {os.strerror(code)}"), readable_errors():
        raise OSError(code, os.strerror(code), "some/folder")


def test_other_errors_of_the_system_keep_their_traceback(tmp_path):
    with pytest.raises(FileNotFoundError), readable_errors():
        (tmp_path / "nowhere").read_text()


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
