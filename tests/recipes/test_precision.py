"""What fewer bits cost: rows that are what they say, on a tiny checkpoint."""

import json

import pytest
from models.families import vit
from transformers import AutoModelForImageClassification

from tangle_hf import evaluation, extract
from tangle_hf.cli.precision import PrecisionArguments, main
from tangle_hf.data.images.loading import load_images
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.transforms import evaluation_images, image_processor
from tangle_hf.models.image_classifiers import checkpoint_processor
from tangle_hf.training.tasks import parse_for_kind


def test_every_row_is_scored_on_the_test_data(tmp_path, capsys):
    supernet = vit(num_labels=10)
    subnet = extract(supernet, supernet.space.architecture(
        hidden_size=24, num_hidden_layers=2, num_attention_heads=[2, 4], mlp_ratio=[1, 2]))  # fmt: skip
    subnet.config.id2label = {n: str(n) for n in range(10)}
    checkpoint, out = str(tmp_path / "subnet"), tmp_path / "out"
    subnet.save_pretrained(checkpoint)
    data = ImageArguments(samples_per_class=8)
    image_processor(data, 8).save_pretrained(checkpoint)
    argv = ["vision", "--checkpoint", checkpoint, "--samples_per_class", "8", "--output_dir", str(out)]
    main(*parse_for_kind(argv, "precision.py", "", PrecisionArguments))
    full, onnx, int8, half = json.loads((out / "precision.json").read_text())["rows"]
    model = AutoModelForImageClassification.from_pretrained(checkpoint)
    test = evaluation_images(load_images(data)["test"], data, checkpoint_processor(checkpoint, data, 8))
    expected = evaluation.accuracy(model, test, 32)
    assert full["test loss"] == pytest.approx(expected["loss"]) and full["accuracy"] == expected["accuracy"]
    assert onnx["test loss"] == pytest.approx(expected["loss"], rel=1e-5) and full["loss difference"] == 0
    assert 2 * half["bytes"] == full["bytes"] == 4 * subnet.num_parameters()
    assert int8["bytes"] == (out / "int8.onnx").stat().st_size < onnx["bytes"]
    for row in (int8, half):
        assert 0 < abs(row["loss difference"]) < 0.05 * expected["loss"]
    assert "bfloat16" in capsys.readouterr().out
