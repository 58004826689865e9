"""The recipe of convolutional spaces from end to end on a tiny one: what is particular to it."""

import json
import signal
from itertools import islice
from unittest.mock import patch

import compare
import pytest
import torch
from search_cnn import ConvImageArguments, ConvSearchArguments, main, supernet_for
from transformers import AutoModelForImageClassification
from transformers.utils import logging

from tangle_hf import extract
from tangle_hf.cli import recalibrate as recalibrate_recipe
from tangle_hf.compare.settings import CompareArguments
from tangle_hf.data.images.loading import load_images
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.splits import split_for_search
from tangle_hf.data.images.transforms import evaluation_images, image_processor
from tangle_hf.evaluation import accuracy
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.loading import load_supernet
from tangle_hf.models.space_settings import ConvSpaceArguments
from tangle_hf.runs import conv_examples
from tangle_hf.runs.image_search import SmallAugmentationArguments
from tangle_hf.runs.resolving import resolve
from tangle_hf.settings import parse
from tangle_hf.space import Architecture
from tangle_hf.subnets.recalibration import recalibrate
from tangle_hf_cli import main as cli


KINDS = (ConvSpaceArguments, ConvImageArguments, SmallAugmentationArguments, ConvSearchArguments, SearchHubArguments)
TINY = ["--space", "mobilenetv3", "--image_size", "8", "--strides", "1", "1", "1", "2", "1", "1", "2", "--depths", "1", "2",
        "--kernel_size", "3", "5", "--expand_ratio", "2", "3", "--width_multiplier", "0.25", "--samples_per_class", "20",
        "--max_steps", "6", "--per_device_batch_size", "8", "--save_steps", "3", "--eval_steps", "2", "--eval_batches",
        "2", "--warmup_steps", "1", "--logging_steps", "1", "--recalibration_batches", "5", "--optimizer", "sgd",
        "--candidate_batches", "2"]  # fmt: skip


def run(folder, *options) -> None:
    main(*parse(*KINDS, argv=["--output_dir", str(folder), *TINY, *options]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search") / "run"
    run(folder, "--max_flops", "80%", "--budget_candidates", "2")
    return folder


def weight_batches():
    """The training images from which the search takes statistics."""
    data = ConvImageArguments(image_size=8, samples_per_class=20)
    weights, _ = split_for_search(load_images(data)["train"], 0.8, 0)
    images, order = evaluation_images(weights, data, image_processor(data, 8)), torch.Generator().manual_seed(0)
    loader = torch.utils.data.DataLoader(images, 8, shuffle=True, drop_last=True, generator=order)
    return (batch["pixel_values"] for batch in islice(loader, 5))


def test_what_is_exported_has_statistics_of_its_own(finished):
    arch = Architecture.from_json((finished / "architecture.json").read_text())
    expected = extract(load_supernet(finished / "supernet"), arch)
    recalibrate(expected, weight_batches())
    found = AutoModelForImageClassification.from_pretrained(finished / "subnet")
    for name, value in expected.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    results = json.loads((finished / "results.json").read_text())
    inside, exported, largest = results["table"]
    assert inside["test loss"] == pytest.approx(exported["test loss"], rel=1e-5)
    assert inside["FLOPs/image"] == results["budgets"]["arch_flops"] <= results["budgets"]["max_flops"]
    assert largest["parameters"] > inside["parameters"]


def test_a_comparison_scores_nets_with_their_own_statistics(finished, tmp_path):
    options = ["--runs", str(finished), "--modes", "inherit", "--output_dir", str(tmp_path / "compared"), "--rank_batches",
               "2", "--latency_rounds", "0"]  # fmt: skip
    compare.main(*parse(CompareArguments, argv=options))
    (row,) = json.loads((tmp_path / "compared" / "results.json").read_text())["nets"]
    _, exported, _ = json.loads((finished / "results.json").read_text())["table"]
    assert row["inherit"]["mean"] == pytest.approx(exported["accuracy in %"])
    rows = {path.name: json.loads(path.read_text()) for path in (tmp_path / "compared" / "rows").glob("*.json")}
    assert rows["inherit-run.json"]["test"]["loss"] == pytest.approx(exported["test loss"], rel=1e-5)
    others = [row for name, row in rows.items() if name.startswith("rank")]
    supernet = load_supernet(finished / "supernet")
    stale = accuracy(supernet, validation_images(), 8, 2, arch=Architecture(others[0]["arch"]))
    assert others[0]["validation"]["loss"] != pytest.approx(stale["loss"], rel=1e-6)


def validation_images():
    data = ConvImageArguments(image_size=8, samples_per_class=20)
    return evaluation_images(load_images(data)["validation"], data, image_processor(data, 8))


def test_what_the_command_line_cuts_out_gets_statistics_by_a_recipe(finished, tmp_path, capsys):
    arch = load_supernet(finished / "supernet").space.smallest
    (tmp_path / "small.json").write_text(arch.to_json())
    with patch.object(logging.get_logger("tangle_hf.runs.resolving"), "warning") as warning:
        cli(["export", str(finished), "--output", str(tmp_path / "found")])
        assert warning.call_count == 0
        cli(["export", str(finished), "--arch", str(tmp_path / "small.json"), "--output", str(tmp_path / "small")])
        assert warning.call_count == 1 and "tangle-hf recalibrate" in warning.call_args[0][0]
    nets = [
        AutoModelForImageClassification.from_pretrained(folder) for folder in (finished / "subnet", tmp_path / "found")
    ]
    assert all(torch.equal(a, b) for a, b in zip(*(net.state_dict().values() for net in nets), strict=True))
    options = ["--run", str(finished), "--checkpoint", str(tmp_path / "small")]
    recalibrate_recipe.main(*parse(recalibrate_recipe.RecalibrateArguments, argv=options))
    expected = extract(load_supernet(finished / "supernet"), arch)
    recalibrate(expected, weight_batches())
    found = AutoModelForImageClassification.from_pretrained(tmp_path / "small")
    for name, value in expected.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(found.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert not list((tmp_path / "small").glob(".*"))
    with pytest.raises(ValueError, match="has no model.safetensors"):
        recalibrate_recipe.main(*parse(recalibrate_recipe.RecalibrateArguments, argv=options[:3] + [str(tmp_path)]))


def test_a_supernet_of_classes_of_this_library_says_what_loads_it(finished, capsys):
    card = (finished / "supernet" / "README.md").read_text()
    assert "`import tangle_hf` before this gives the largest net" in card and "Everybody" not in card
    cli(["info", str(finished / "supernet")])
    assert "after import tangle_hf: AutoModelForImageClassification" in capsys.readouterr().out
    cli(["info", str(finished / "subnet")])
    parameters = AutoModelForImageClassification.from_pretrained(finished / "subnet").num_parameters()
    assert f"{parameters:,}\n" in capsys.readouterr().out


def test_interrupted_runs_continue_bit_by_bit(finished, tmp_path, capsys, monkeypatch):
    """Scoring draws no random numbers, and what it leaves in batch norms is not read by the search."""
    folder, scored = tmp_path / "run", conv_examples.accuracy

    def interrupt(*args, **chosen):
        monkeypatch.setattr(conv_examples, "accuracy", scored)  # once
        signal.raise_signal(signal.SIGINT)
        return scored(*args, **chosen)

    limits = ("--max_flops", "80%", "--budget_candidates", "2")
    monkeypatch.setattr(conv_examples, "accuracy", interrupt)
    with pytest.raises(SystemExit, match="130"):
        run(folder, *limits)
    assert "the same command with --resume goes on" in capsys.readouterr().out
    run(folder, *limits, "--resume")
    for name in ("architecture.json", "arch_parameters.safetensors", "metrics.jsonl", "supernet/model.safetensors"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


def test_another_budget_wants_statistics_too(finished, tmp_path):
    batch = torch.randn(16, 3, 8, 8)
    with patch.object(logging.get_logger("tangle_hf.runs.resolving"), "warning") as warning:
        stale = resolve(finished, {"max_flops": "60%"}, tmp_path / "stale")
        assert warning.call_count == 1 and "batches" in warning.call_args[0][0]
        fresh = resolve(finished, {"max_flops": "60%"}, tmp_path / "fresh", batches=[batch])
        assert warning.call_count == 1
    assert stale.candidate.arch == fresh.candidate.arch
    expected = extract(load_supernet(finished / "supernet"), fresh.candidate.arch)
    recalibrate(expected, [batch])
    stale, fresh = (
        AutoModelForImageClassification.from_pretrained(tmp_path / name).head.norm.running_mean
        for name in ("stale", "fresh")
    )
    torch.testing.assert_close(fresh, expected.head.norm.running_mean, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(stale, fresh)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": "resnet"}, "space='resnet' is unknown"),
        ({"space": "conv_macro", "depths": [2]}, "depths.*no effect on space=conv_macro"),
        ({"space": "mobilenetv3"}, "smaller than the network's stride"),
        ({"space": "mobilenetv3", "strides": [1] * 7, "kernel_size": [3, 4]}, "must be odd"),
        ({"space": "conv_macro", "kernel_size": [5, 3]}, "strictly ascending"),
        ({"space": "darts", "operations": ["skip_connect", "sep_conv_3x3"]}, "kept_inputs=2: .* keep all edges"),
        ({"space": "toy_cell", "kept_inputs": -2}, "kept_inputs=-2 must be at least 0"),
    ],
)
def test_spaces_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        supernet_for(ConvSpaceArguments(**options), 3, 16, ["a", "b"])


@pytest.mark.parametrize("options", [{"dropout": 1.0}, {"width_multiplier": 0.0}, {"recalibration_batches": 0}])
def test_numbers_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        ConvSpaceArguments(**options)


def test_a_search_starts_from_what_another_found(finished):
    arguments = {"space": "mobilenetv3", "strides": [1, 1, 1, 2, 1, 1, 2], "width_multiplier": 0.25, "depths": [1, 2],
                 "kernel_size": [3, 5], "expand_ratio": [2, 3]}  # fmt: skip
    start_from = str(finished / "supernet")
    supernet = supernet_for(ConvSpaceArguments(**arguments), 3, 8, ["cat", "dog"], start_from)
    before = load_supernet(finished / "supernet")
    assert torch.equal(supernet.head.conv.weight, before.head.conv.weight) and supernet.classifier.out_features == 2
    assert supernet(torch.randn(2, 3, 8, 8), arch=supernet.space.smallest).logits.shape == (2, 2)
    del arguments["width_multiplier"]  # it is the checkpoint's
    again = supernet_for(ConvSpaceArguments(**arguments), 3, 8, ["cat", "dog"], start_from)
    assert again.config.width_multiplier == 0.25
    with pytest.raises(ValueError, match="use --image_size 8"):
        supernet_for(ConvSpaceArguments(**arguments), 3, 16, ["cat", "dog"], start_from)


def test_the_default_data_is_large_enough_for_the_default_space():
    assert ConvImageArguments().image_size == 16 and ImageArguments().image_size is None
    supernet = supernet_for(ConvSpaceArguments(), 3, 16, ["a", "b"])
    assert supernet.space.size == 6561 and supernet.config.problem_type == "single_label_classification"
