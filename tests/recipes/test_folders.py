"""Folders that recipes read and write: named where they cannot be, and nothing half-written left."""

import copy
import errno
import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import onnxruntime.quantization
import pytest
import torch
import yaml

from tangle_hf.cli import make_table, precision, recalibrate, recipes
from tangle_hf.compare.runs import _read_run
from tangle_hf.data.images.augmentation_settings import AugmentationArguments
from tangle_hf.errors import readable_errors
from tangle_hf.models.space_settings import ConvSpaceArguments
from tangle_hf.run_files import read_results
from tangle_hf.runs.image_search import ConvImageArguments
from tangle_hf.settings import parse


def full(path, *_, **__):
    """A disk that takes half of a file."""
    (path if isinstance(path, Path) else Path(path)).write_bytes(b"half")
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))


def test_statistics_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"recalibration_batches": 1}))
    (tmp_path / "model.safetensors").write_bytes(b"before")
    model = SimpleNamespace(save_pretrained=lambda folder: full(Path(folder, "model.safetensors")))
    monkeypatch.setattr(recalibrate, "load_model", lambda folder: model)
    monkeypatch.setattr(recalibrate, "batch_norms", lambda model: [1])
    monkeypatch.setattr(recalibrate, "_replace_statistics", lambda *_: ([], 1))
    with pytest.raises(OSError):
        recalibrate.main(recalibrate.RecalibrateArguments(str(tmp_path), str(tmp_path)))
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "model.safetensors"}
    assert (tmp_path / "model.safetensors").read_bytes() == b"before"


def test_half_a_graph_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "export_onnx", lambda *_: tmp_path.mkdir(exist_ok=True))
    monkeypatch.setattr(onnxruntime.quantization, "quantize_dynamic", lambda plain, path, **_: full(path))
    task = SimpleNamespace(build=lambda mode: torch.nn.Linear(1, 1), examples=SimpleNamespace(processor=None))
    with pytest.raises(OSError):
        next(precision.score_all(task, tmp_path, 1))
    assert not list(tmp_path.iterdir())


def test_a_file_is_no_folder_for_graphs(tmp_path):
    (tmp_path / "file").touch()
    settings = precision.PrecisionArguments("nowhere", str(tmp_path / "file" / "inside"))
    with pytest.raises(ValueError, match="file is a file; choose another --output_dir"):
        precision.main(settings, None)


def test_a_damaged_table_is_named(tmp_path):
    (tmp_path / "table.jsonl").write_text('{"seed": 0}\n{"seed"\n{"seed": 1}\n')
    with pytest.raises(ValueError, match=r"table.jsonl is damaged .*; restore it, or choose another --output_dir"):
        make_table.whole_rows(tmp_path / "table.jsonl")


def test_a_comparison_calls_a_run_by_its_name_in_its_own_folder_and_names_damaged_files(tmp_path, monkeypatch):
    run = tmp_path / "drnas-0"
    (run / "supernet").mkdir(parents=True)
    (run / "config.yaml").write_text("method: drnas\n")
    (run / "results.json").write_text(json.dumps({"table": []}))
    monkeypatch.chdir(run)
    assert _read_run(".").name == "drnas-0"
    for name, content in (("results.json", "{"), ("config.yaml", "- a"), ("architecture.json", "{")):
        before = (run / name).read_text() if (run / name).is_file() else "{}"
        (run / name).write_text(content)
        with pytest.raises(ValueError, match=name):
            _read_run(str(run))
        (run / name).write_text(before)


def test_results_that_lack_a_field_name_the_file(tmp_path):
    (tmp_path / "results.json").write_text('{"table": []}')
    found = read_results(tmp_path / "results.json")
    assert found == {"table": []} == copy.deepcopy(found) and "search" not in found and found.get("search") is None
    with pytest.raises(ValueError, match=r"results.json has no 'search'; restore it"):
        found["search"]


def test_a_copy_of_a_recipe_is_whole_or_not_there(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match="file: File exists; choose another folder"), readable_errors():
        recipes.fork("search_gpt", tmp_path / "file" / "mine.py")
    copy_file = shutil.copyfile
    monkeypatch.setattr(shutil, "copyfile", lambda source, target: full(target))
    with pytest.raises(OSError):
        recipes.fork("search_gpt", tmp_path / "mine.py")
    assert {path.name for path in tmp_path.iterdir()} == {"file"}
    monkeypatch.setattr(shutil, "copyfile", copy_file)
    recipes.fork("search_gpt", tmp_path / "mine.py")
    assert (tmp_path / "mine.py").read_text() == recipes.recipe("search_gpt").read_text()


def test_a_table_that_has_kept_nothing_leaves_its_folder_to_the_corrected_command(tmp_path, monkeypatch):
    def diverge(*_):
        raise FloatingPointError("the loss is nan at step 0")

    monkeypatch.setattr(make_table, "train", diverge)
    kinds = (ConvSpaceArguments, ConvImageArguments, AugmentationArguments, make_table.TableArguments)
    words = [
        "--space",
        "toy_cell",
        "--architectures",
        "1",
        "--samples_per_class",
        "4",
        "--output_dir",
        str(tmp_path / "t"),
    ]
    with pytest.raises(FloatingPointError):
        make_table.main(*parse(*kinds, argv=words))
    assert not (tmp_path / "t").exists()
    with pytest.raises(ValueError, match=r"seeds=\[0, 0\] names one twice"):
        parse(*kinds, argv=["--seeds", "0", "0"])
