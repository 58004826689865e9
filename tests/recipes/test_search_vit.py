"""The image recipe from end to end on a tiny space: what it leaves, what it refuses, and that a stopped run continues."""

import json
import signal
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import search_vit
import torch
from search_vit import ImageSearchArguments, build_supernet, main
from transformers import AutoImageProcessor, AutoModelForImageClassification, ViTConfig, ViTForImageClassification

from tangle_hf import ElasticViTForImageClassification, extract, num_params
from tangle_hf.data.images import examples
from tangle_hf.data.images.files import open_image
from tangle_hf.data.images.loading import load_images
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.transforms import EvaluationImages, TrainingImages, evaluation_images, image_processor
from tangle_hf.errors import readable_errors
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.space_settings import ViTSpaceArguments
from tangle_hf.runs.folder import begun, check_run_folder, defaults_of, from_settings, settings_of, write_config
from tangle_hf.runs.image_search import SmallAugmentationArguments
from tangle_hf.settings import parse
from tangle_hf.space import Architecture


KINDS = (ViTSpaceArguments, ImageArguments, SmallAugmentationArguments, ImageSearchArguments, SearchHubArguments)
TINY = ["--hidden_size", "16", "32", "--num_hidden_layers", "1", "2", "--patch_size", "4", "--samples_per_class", "20",
        "--max_steps", "8", "--per_device_batch_size", "8", "--save_steps", "3", "--eval_steps", "2",
        "--eval_batches", "2", "--warmup_steps", "1", "--logging_steps", "1"]  # fmt: skip
DEIT = ["--mixup", "0.8", "--cutmix", "1", "--label_smoothing", "0.1", "--randaugment_magnitude", "27",
        "--random_erasing", "0.25", "--drop_path_rate", "0.3", "--dropout", "0.1"]  # fmt: skip


def run(folder, *options) -> None:
    main(*parse(*KINDS, argv=["--output_dir", str(folder), *TINY, *options]))


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole run with everything that is random about one; beside it, in `printed`, what it said."""
    folder = tmp_path_factory.mktemp("search") / "run"
    with redirect_stdout(StringIO()) as printed:
        run(folder, *DEIT)
    folder.with_name("printed").write_text(printed.getvalue())
    return folder


def test_a_run_leaves_a_checkpoint_that_equals_the_supernet(finished):
    assert {path.name for path in finished.iterdir()} == {
        "config.yaml", "metrics.jsonl", "checkpoints", "arch_parameters.safetensors", "architecture.json", "supernet",
        "subnet", "results.json", "shares.png", "losses.png", "diagnostics.png", "run.json", "report.html"}  # fmt: skip
    results = json.loads((finished / "results.json").read_text())
    inside, exported, largest = results["table"]
    assert 0 < results["logit_difference"] < 1e-5 * results["logit_scale"]
    assert inside["test loss"] == pytest.approx(exported["test loss"], rel=1e-6)
    assert inside["accuracy in %"] == exported["accuracy in %"] and 0 <= exported["accuracy in %"] <= 100
    assert inside["parameters"] <= largest["parameters"] and inside["FLOPs/image"] <= largest["FLOPs/image"]
    found = AutoModelForImageClassification.from_pretrained(finished / "subnet", trust_remote_code=True)
    assert found.num_parameters() == inside["parameters"]
    for folder in ("supernet", "subnet"):
        assert AutoImageProcessor.from_pretrained(finished / folder).size == {"height": 8, "width": 8}
    scored = [line for line in lines(finished) if "validation_accuracy" in line]
    assert [line["step"] for line in scored] == [2, 4, 6, 8] and all("validation_loss" in line for line in scored)


def test_a_budget_holds_and_is_reported(tmp_path, capsys, monkeypatch):
    kept, find = [], search_vit.find

    def keep(*given):
        kept.append(given)
        return find(*given)

    monkeypatch.setattr(search_vit, "find", keep)
    limits = ("--max_params", "60%", "--max_flops", "90%", "--budget_candidates", "2")
    run(tmp_path / "run", *limits, "--finalists", "0")
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    inside, _, largest = results["table"]
    used = results["budgets"]
    assert used["arch_params"] == inside["parameters"] <= used["max_params"] == largest["parameters"] * 6 // 10
    assert used["arch_flops"] == inside["FLOPs/image"] <= used["max_flops"]
    printed = capsys.readouterr().out
    assert "parameters used (" in printed and "FLOPs per image used (" in printed
    best, *others = results["candidates"]  # the two likeliest, and the likeliest of every shape
    assert (
        len(others) >= 1
        and all(best["loss"] <= other["loss"] for other in others)
        and best["arch"] == results["found"]
    )
    ((_, supernet, images, _, architecture),) = kept
    found = Architecture.from_json((tmp_path / "run" / "architecture.json").read_text())
    on_architecture, on_validation = (
        images.score(supernet, part, 8, arch=found)["loss"] for part in (architecture, images.validation)
    )
    assert best["loss"] == on_architecture != on_validation


def test_the_printed_line_loads_the_result_without_the_library(finished, tmp_path):
    printed = finished.with_name("printed").read_text()
    assert "warn" not in printed.lower()
    (line,) = (line.removeprefix("load it").strip() for line in printed.splitlines() if line.startswith("load it "))
    data = ImageArguments()
    test = load_images(data)["test"]
    open_image(test[0]["image"], "a digit").save(tmp_path / "digit.png")
    script = (
        f"import sys, json; sys.modules['tangle_hf'] = None; from transformers import pipeline; "
        f"print(json.dumps({line}({str(tmp_path / 'digit.png')!r}, top_k=10)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    scores = {entry["label"]: entry["score"] for entry in json.loads(done.stdout)}
    supernet = ElasticViTForImageClassification.from_pretrained(finished / "supernet").eval()
    arch = Architecture.from_json((finished / "architecture.json").read_text())
    pixels = evaluation_images(test, data, image_processor(data, 8))[0]["pixel_values"][None]
    expected = supernet(pixel_values=pixels, arch=arch).logits[0].softmax(-1).tolist()
    assert scores == pytest.approx({str(n): score for n, score in enumerate(expected)}, abs=1e-5)


def test_interrupted_runs_continue_bit_by_bit(finished, tmp_path, capsys, monkeypatch):
    folder, scored, asked = tmp_path / "run", examples.accuracy, []

    def interrupt(*args, **chosen):
        if not asked and len(lines(folder)) == 3:  # in the fourth step; a second one would end the search at once
            asked.append(signal.raise_signal(signal.SIGINT))
        return scored(*args, **chosen)

    with monkeypatch.context() as patch:
        patch.setattr(examples, "accuracy", interrupt)
        with pytest.raises(SystemExit, match="130"):
            run(folder, *DEIT)
    assert "--resume" in capsys.readouterr().out and len(lines(folder)) == 4
    assert not (folder / "subnet").exists()
    with pytest.raises(ValueError, match=r"mixup=0.8 \(now 0.5\)"):
        run(folder, *DEIT, "--mixup", "0.5", "--resume")
    run(folder, *DEIT, "--resume", "--dataloader_num_workers", "2")
    assert lines(folder) == lines(finished)
    for name in ("architecture.json", "arch_parameters.safetensors", "supernet/model.safetensors"):
        assert (folder / name).read_bytes() == (finished / name).read_bytes(), name


def test_dry_run_prints_costs_and_leaves_nothing(tmp_path, capsys):
    unreachable = ["--dataset", str(tmp_path / "nowhere"), "--samples_per_class", "none"]
    run(tmp_path / "run", "--dry_run", "--gradient_accumulation_steps", "3", *unreachable,
        "--classes", "7", "--image_size", "12")  # fmt: skip
    rows = dict(line.rsplit("  ", 1) for line in capsys.readouterr().out.splitlines()[2:])
    rows = {name.strip(): value.strip() for name, value in rows.items()}
    assert rows["images per step and level"] == "24" and "projected for 8 steps" in rows
    config = ViTConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=12,
                       patch_size=4, num_labels=7)  # fmt: skip
    assert rows["parameters, largest"] == f"{ViTForImageClassification(config).num_parameters():,}"
    assert not (tmp_path / "run").exists()


def test_weights_see_augmented_images_and_the_architecture_others_as_they_are(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(search_vit, "find", lambda *given: kept.append(given))
    run(tmp_path / "run", "--mixup", "0.8", "--train_portion", "0.75")
    ((_, _, images, weights, architecture),) = kept
    assert isinstance(weights, TrainingImages) and isinstance(architecture, EvaluationImages)
    assert (len(weights), len(architecture)) == (150, 50)
    content = [{row["image"]["bytes"] for row in part.images} for part in (weights, architecture)]
    assert not content[0] & content[1]
    assert weights[0]["labels"].shape == (10,) and architecture[0]["labels"].shape == ()
    test = evaluation_images(load_images(ImageArguments())["test"], ImageArguments(), images.processor)
    (sample,) = images.inputs(images.test, 1, images.sample_size)
    torch.testing.assert_close(sample["pixel_values"], torch.stack([test[n]["pixel_values"] for n in range(8)]))


def test_single_paths_learn_from_soft_labels(tmp_path, capsys):
    run(tmp_path / "run", *DEIT, "--drop_path_rate", "0", "--method", "spos+rs", "--max_steps", "2", "--generations", "1",
        "--population_size", "2", "--candidate_batches", "1")  # fmt: skip
    assert 1.8 < lines(tmp_path / "run")[0]["train_loss"] < 3, "a binary loss of each class would be about 0.7"
    assert "the best of 2, each" in capsys.readouterr().out and (tmp_path / "run" / "subnet").is_dir()


def test_streams_are_searched(tmp_path):
    run(tmp_path / "run", *DEIT, "--streaming", "--samples_per_class", "none", "--max_steps", "2")
    assert len(json.loads((tmp_path / "run" / "results.json").read_text())["table"]) == 3


def test_a_search_starts_from_a_checkpoint_with_other_classes_and_another_size(tmp_path):
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    stock = ViTForImageClassification(ViTConfig(**sizes, image_size=16, patch_size=4, num_labels=3))
    stock.save_pretrained(tmp_path / "stock")
    space = {"hidden_size": [16, 32], "num_hidden_layers": [1, 2], "patch_size": 4, "drop_path_rate": 0.2}
    start_from = str(tmp_path / "stock")
    supernet = build_supernet(ViTSpaceArguments(**space, dropout=0.3), 3, 8, ["a", "b"], start_from)
    torch.testing.assert_close(supernet.vit.layers[1].mlp.fc1.weight, stock.vit.layers[1].mlp.fc1.weight)
    config = supernet.config
    assert (config.drop_path_rate, config.hidden_dropout_prob, config.attention_probs_dropout_prob) == (0.2, 0.3, 0.3)
    assert supernet(torch.randn(2, 3, 8, 8), arch=supernet.space.smallest).logits.shape == (2, 2)
    smallest = extract(supernet, supernet.space.smallest)
    assert num_params(supernet.space, supernet.space.smallest, config) == smallest.num_parameters()
    with pytest.raises(ValueError, match="patch_size=4, not 2; use --patch_size 4"):
        build_supernet(ViTSpaceArguments(**space | {"patch_size": 2}), 3, 8, ["a", "b"], start_from)
    run(tmp_path / "run", "--start_from", start_from, "--max_steps", "2")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--patch_size", "3"], "patches of 3 pixels do not divide an image of 8; use a patch size of"),
        (["--num_attention_heads", "5"], "hidden_size=16 is not divisible by num_attention_heads=5"),
        (["--shared", "hidden_size"], "hidden_size.*not a per-layer dimension"),
        (["--hidden_size"], "no choice"),
        (["--drop_path_rate", "1"], "drop_path_rate"),
        (["--drop_path_rate", "0.1", "--method", "gdas"], "drop_path_rate=0.1 is for mixtures.*method=gdas"),
        (["--initializer_range", "0"], "initializer_range=0"),
        (["--dataset", "missing_folder"], "missing_folder.*could not be loaded"),
        (["--train_portion", "0.99"], "train_portion"),
        (["--per_device_batch_size", "99"], "smaller --per_device_batch_size"),
        (["--max_params", "9"], "smallest possible"),
        (["--start_from", "no/such/folder"], "start_from=no/such/folder could not be loaded.*with config.json"),
    ],
)
def test_bad_input_is_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


def test_the_users_errors_are_one_line_and_others_keep_their_traceback(tmp_path, capsys):
    with pytest.raises(SystemExit, match="^error: patches of 3 pixels"), readable_errors():
        run(tmp_path / "run", "--patch_size", "3")
    with pytest.raises(ValueError, match="^not ours"), readable_errors():
        raise ValueError("not ours")


class Refusing(torch.utils.data.Dataset):
    """Examples that cannot be made, for a reason meant for the user or not."""

    def __init__(self, ours: bool):
        self.ours = ours

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int):
        if self.ours:
            open_image({"bytes": b"no image", "path": "a.png"}, "here")
        raise ValueError("not ours")


def test_errors_of_worker_processes_are_one_line_too():
    with pytest.raises(SystemExit, match="^error: a.png is not a readable image [^\\n]*$"), readable_errors():
        next(iter(torch.utils.data.DataLoader(Refusing(True), num_workers=1)))
    with pytest.raises(ValueError, match="Caught ValueError.*\n(.*\n)*.*not ours"), readable_errors():
        next(iter(torch.utils.data.DataLoader(Refusing(False), num_workers=1)))


def test_a_file_is_no_folder_for_a_run(tmp_path):
    (tmp_path / "notes").touch()
    for name in ("notes", "notes/run"):
        with pytest.raises(ValueError, match="output_dir=.*notes is a file; choose another --output_dir"):
            check_run_folder(tmp_path / name, {}, False, (), {})


def test_a_setting_of_an_update_has_its_default_in_an_older_run(tmp_path):
    given = ImageArguments(skip_corrupt_images=True)
    older = settings_of(given)
    del older["num_channels"], older["image_mean"]
    write_config(tmp_path, older)
    check_run_folder(tmp_path, settings_of(given), True, (), defaults_of(given))
    assert from_settings(ImageArguments, older) == given
    with pytest.raises(ValueError, match=r"started with num_channels=3 \(now 1\)"):
        check_run_folder(tmp_path, settings_of(given) | {"num_channels": 1}, True, (), defaults_of(given))


@pytest.mark.parametrize("kept", [None, "checkpoints/step-2/model.safetensors", "rows/finetune-0.json"])
def test_only_a_run_that_kept_nothing_takes_its_settings_back(tmp_path, kept):
    run_dir = tmp_path / "run"
    with pytest.raises(ValueError, match="a bad image"), begun(run_dir, {"seed": 1}, main_process=True):
        (run_dir / (kept or "checkpoints/finetune-0/nothing yet")).parent.mkdir(parents=True)
        (run_dir / "metrics.jsonl").touch()
        if kept is not None:
            (run_dir / kept).touch()
        raise ValueError("a bad image")
    assert run_dir.exists() == (run_dir / "config.yaml").exists() == (kept is not None)
