"""Fine-tuning from end to end on tiny checkpoints: three columns, seeds, resume, and what is refused."""

import json
import re
import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from finetune import arguments, main
from peft import PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    GPT2LMHeadModel,
    Trainer,
    TrainerControl,
    ViTConfig,
    ViTForImageClassification,
    get_scheduler,
)
from transformers.utils import logging
from transformers.utils.logging import warning_once

from tangle_hf import (
    ElasticCellsConfig,
    ElasticCellsForImageClassification,
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    PerLayer,
    SearchSpace,
    evaluation,
)
from tangle_hf.data.images.augmentation_settings import AugmentationArguments
from tangle_hf.data.images.loading import load_images
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.transforms import evaluation_images, image_processor
from tangle_hf.data.text import load_texts
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.data.tokens import load_tokenizer, pack
from tangle_hf.hub.cards import write_card
from tangle_hf.models.image_classifiers import checkpoint_processor, names_of, set_image_size
from tangle_hf.settings import parse
from tangle_hf.space import Architecture
from tangle_hf.subnets.exports import export
from tangle_hf.training.finetuning import MODES, FinetuneArguments
from tangle_hf.training.image_tasks import vision_task
from tangle_hf.training.lora import with_adapters
from tangle_hf.training.tasks import language_task
from tangle_hf.training.trainer import StopUnlessFinite, last_checkpoint, training_arguments


RECIPE = Path(__file__).parents[2] / "recipes" / "finetune.py"
CONFIGS = sorted((RECIPE.parent / "configs" / "finetune").glob("*.yaml"))
SHORT = ["--samples_per_class", "8", "--max_steps", "6", "--per_device_batch_size", "8", "--save_steps", "2"]


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    logging.disable_progress_bar()
    torch.manual_seed(123)
    folder = tmp_path_factory.mktemp("vit")
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = ViTConfig(**sizes, image_size=8, patch_size=4, id2label={n: str(n) for n in range(10)})
    ViTForImageClassification(config).save_pretrained(folder)
    image_processor(ImageArguments(image_mean=[0.3]), 8).save_pretrained(folder)
    return str(folder)


def run(*argv) -> None:
    main(*arguments([str(word) for word in argv]))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


def rows(folder: Path) -> dict:
    found = json.loads((folder / "results.json").read_text())["rows"]
    return {(row["mode"], row["seed"]): row for row in found}


def test_three_columns_and_their_models(vit, tmp_path, capsys):
    out = tmp_path / "run"
    modes = ["--mode", "inherit", "finetune", "retrain", "--seeds", 0, 1]
    run("vision", "--checkpoint", vit, *SHORT, *modes, "--output_dir", out, "--mixup", 0.5, "--cutmix", 0.5)
    table = capsys.readouterr().out
    assert set(rows(out)) == {("inherit", None), *((m, s) for m in ("finetune", "retrain") for s in (0, 1))}
    assert "(2 seeds)" in table and "finished already" not in table and "accuracy in percent" in table
    data = ImageArguments(image_mean=[0.3])
    test = evaluation_images(load_images(data)["test"], data, checkpoint_processor(vit, data, 8))
    for (mode, seed), row in rows(out).items():
        model = AutoModelForImageClassification.from_pretrained(vit if seed is None else out / f"{mode}-{seed}")
        assert row["test"] == pytest.approx(evaluation.accuracy(model, test, 8))
        assert model.config.problem_type in (None, "single_label_classification")
        assert seed is None or (out / f"{mode}-{seed}" / "preprocessor_config.json").is_file()
    assert len({weights(out / f"{mode}-{seed}") for mode in ("finetune", "retrain") for seed in (0, 1)}) == 4
    start = AutoModelForImageClassification.from_pretrained(vit).vit.layers[0].mlp.fc1.weight
    tuned, fresh, other = (
        AutoModelForImageClassification.from_pretrained(out / name).vit.layers[0].mlp.fc1.weight
        for name in ("finetune-0", "retrain-0", "retrain-1")
    )
    assert (other - fresh).abs().max() > 0.02
    assert 0 < (tuned - start).abs().max() < 0.02 < (fresh - start).abs().max()
    summary = json.loads((out / "results.json").read_text())["test"]
    pair = [100 * rows(out)["finetune", seed]["test"]["accuracy"] for seed in (0, 1)]
    assert summary["finetune"]["mean"] == pytest.approx(sum(pair) / 2)
    assert summary["finetune"]["deviation"] == pytest.approx(abs(pair[0] - pair[1]) / 2**0.5)
    left = {path.name for path in out.iterdir()}
    assert left == {
        "rows",
        "results.json",
        "config.yaml",
        "run.json",
        "report.html",
        *(f"{m}-{s}" for m in ("finetune", "retrain") for s in (0, 1)),
    }


def test_finished_rows_stay_and_others_join(vit, tmp_path, capsys, monkeypatch):
    out = tmp_path / "run"
    base = ["vision", "--checkpoint", vit, *SHORT, "--output_dir", out]
    monkeypatch.setattr(sys, "argv", ["finetune.py", "first"])
    run(*base, "--mode", "inherit", "finetune")
    before = (out / "finetune-0" / "model.safetensors").stat().st_mtime_ns
    with pytest.raises(ValueError, match="holds a run already"):
        run(*base)
    with pytest.raises(ValueError, match="learning_rate=0.001 .now 0.5."):
        run(*base, "--resume", "true", "--learning_rate", 0.5)
    monkeypatch.setattr(sys, "argv", ["finetune.py", "second"])
    run(*base, "--resume", "true", "--mode", "finetune", "--seeds", 0, 7)
    assert "finetune-0 is finished already" in capsys.readouterr().out
    assert (out / "finetune-0" / "model.safetensors").stat().st_mtime_ns == before
    assert set(rows(out)) == {("inherit", None), ("finetune", 0), ("finetune", 7)}
    for name, command, seed in (("finetune-0", "first", 0), ("finetune-7", "second", 7)):
        card = write_card(out, out / name).read_text()
        assert f"finetune.py {command}\n" in card and "mode: [finetune]" in card and f"seeds: [{seed}]" in card
        assert "teacher_share" not in card and "teacher_temperature" not in card
        assert "weight-entangle" not in card and "TangleNAS" not in card  # it was not found by any search


@pytest.mark.parametrize(("stop", "options"), [(3, []), (12, []), (5, ["--lora_rank", 2]), (15, ["--lora_rank", 2])])
def test_a_stopped_run_ends_as_one_that_was_not(vit, tmp_path, monkeypatch, stop, options):
    base = [
        "vision",
        *options,
        "--checkpoint",
        vit,
        *SHORT,
        "--max_steps",
        15,
        "--mixup",
        0.8,
        "--crop_min_scale",
        0.3,
    ]
    run(*base, "--output_dir", tmp_path / "whole")
    steps, training_step = [], Trainer.training_step

    def stopping(*inputs, **options):
        steps.append(0)
        if len(steps) == stop + 1:
            raise KeyboardInterrupt
        return training_step(*inputs, **options)

    monkeypatch.setattr(Trainer, "training_step", stopping)
    out = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        if stop == 15:  # behind the last step, before there is a row
            patch.setattr("finetune.finish", stopping_at_once)
        run(*base, "--output_dir", out)
    assert not (out / "rows").exists() and not (out / "finetune-0").exists()
    for number, state in ((16, None), (17, '{"epoch":')):  # checkpoints that were not written to their end
        half = out / "checkpoints" / "finetune-0" / f"checkpoint-{number}"
        half.mkdir()
        if state is not None:
            (half / "trainer_state.json").write_text(state)
    monkeypatch.setattr(Trainer, "training_step", lambda *a, **k: steps.append(1) or training_step(*a, **k))
    run(*base, "--output_dir", out, "--resume", "true")
    assert sum(steps) == (0 if stop == 15 else 15 - stop // 2 * 2), "it did not go on from the last checkpoint"
    assert weights(out / "finetune-0") == weights(tmp_path / "whole" / "finetune-0")
    assert rows(out) == rows(tmp_path / "whole")


def stopping_at_once(*_):
    raise KeyboardInterrupt


def test_sharded_weights_are_refused(vit, tmp_path, monkeypatch):
    """One process scores and saves; with FSDP it would wait for the others forever."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as accelerate launches it
    with pytest.raises(ValueError, match="leave FSDP out"):
        run("vision", "--checkpoint", vit, "--output_dir", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_accumulated_micro_batches_are_one_large_batch(vit, tmp_path):
    base = ["vision", "--checkpoint", vit, *SHORT, "--max_steps", 3, "--mixup", 0.8, "--optimizer", "sgd"]
    base += ["--learning_rate", 0.5, "--max_grad_norm", 0]  # clipping would hide a wrong scale
    run(*base, "--output_dir", tmp_path / "one")
    run(*base, "--output_dir", tmp_path / "two", "--per_device_batch_size", 4, "--gradient_accumulation_steps", 2)
    one, two = (AutoModelForImageClassification.from_pretrained(tmp_path / n / "finetune-0") for n in ("one", "two"))
    start = AutoModelForImageClassification.from_pretrained(vit)
    moved = [(a - b).abs().max() for a, b in zip(one.parameters(), start.parameters(), strict=True)]
    apart = [(a - b).abs().max() for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert max(apart) < 1e-4 < 0.01 < max(moved)


def test_bf16_trains_and_leaves_full_precision(vit, tmp_path):
    base = ["vision", "--checkpoint", vit, *SHORT, "--output_dir", tmp_path / "run"]
    run(*base, "--mixed_precision", "bf16", "--dataloader_num_workers", 1)
    model = AutoModelForImageClassification.from_pretrained(tmp_path / "run" / "finetune-0")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_other_classes_and_sizes_are_fine_tuned_but_not_inherited(vit, tmp_path):
    base = [
        "vision",
        "--checkpoint",
        vit,
        *SHORT,
        "--classes",
        4,
        "--image_size",
        16,
        "--output_dir",
        tmp_path / "run",
    ]
    with pytest.raises(ValueError, match=r"10 and 4 in all.*leave inherit out of --mode"):
        run(*base, "--mode", "inherit", "finetune")
    assert not (tmp_path / "run").exists()
    run(*base, "--mode", "finetune", "retrain")
    for mode in ("finetune", "retrain"):
        model = AutoModelForImageClassification.from_pretrained(tmp_path / "run" / f"{mode}-0")
        assert names_of(model.config) == ["0", "1", "2", "3"] and model.config.image_size == 16
        processor = checkpoint_processor(str(tmp_path / "run" / f"{mode}-0"), ImageArguments(), 16)
        assert processor.size["height"] == 16 and list(processor.image_mean) == [0.3] * 3


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """A stock and a compact GPT-2, with the tokenizer of the embedded text."""
    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("gpt2")
    data = DataArguments(vocab_size=280, block_size=16)  # not the one that would be trained
    tokenizer = load_tokenizer(data, load_texts(data))
    space = SearchSpace(n_embd=[16, 32], n_layer=[1, 2], n_head=PerLayer([2, 4]), mlp_ratio=PerLayer([1, 2]))
    supernet = ElasticGPT2LMHeadModel(ElasticGPT2Config(space=space, vocab_size=300, n_positions=16))
    inputs = {"input_ids": torch.arange(16)[None]}
    for name, ratios in (("stock", [1, 1]), ("compact", [1, 2])):
        arch = Architecture(n_embd=32, n_layer=2, n_head=[4, 4], mlp_ratio=ratios)
        assert export(supernet, arch, folder / name, inputs, processor=tokenizer).form == name
    return folder


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """Options of a short training on the first lines of the embedded text, which are evaluated faster."""
    files, texts = [], load_texts(DataArguments())
    for split in ("train", "validation", "test"):
        file = tmp_path_factory.mktemp("text") / f"{split}.txt"
        file.write_text("\n".join("\n".join(texts[split]["text"]).splitlines()[:60]) + "\n")
        files += [f"--{split}_file", str(file)]
    return [*files, "--block_size", "16", "--max_steps", "6", "--per_device_batch_size", "8",
            "--learning_rate", "0.01"]  # fmt: skip


@pytest.mark.parametrize("form", ["stock", "compact"])
def test_language_models_have_the_same_columns(gpt2, text, tmp_path, form, capsys, caplog):
    warning_once.cache_clear()
    out, checkpoint = tmp_path / "run", str(gpt2 / form)
    run("language", "--checkpoint", checkpoint, *text, "--mode", "inherit", "finetune", "retrain", "--output_dir", out)
    printed = capsys.readouterr()
    assert "perplexity per token" in printed.out and "loss_type" not in caplog.text
    assert "\nload finetune-" in printed.out and "report.html, in a browser\npublish" in printed.out
    found = rows(out)
    assert found["finetune", 0]["test"]["perplexity"] < found["inherit", None]["test"]["perplexity"]
    files = {option.removeprefix("--"): file for option, file in zip(text[:6:2], text[1:6:2], strict=True)}
    data = DataArguments(tokenizer=checkpoint, vocab_size=300, block_size=16, **files)
    texts = load_texts(data)
    test = pack(texts["test"], load_tokenizer(data, texts), data)
    inherited, tuned, fresh = (
        AutoModelForCausalLM.from_pretrained(path) for path in (checkpoint, out / "finetune-0", out / "retrain-0")
    )
    assert found["inherit", None]["test"] == pytest.approx(evaluation.perplexity(inherited, test, 8))
    assert found["retrain", 0]["test"] == pytest.approx(evaluation.perplexity(fresh, test, 8))
    for model in (tuned, fresh):
        assert [p.shape for p in model.parameters()] == [p.shape for p in inherited.parameters()]
        assert model.config.use_cache and inherited.config.use_cache, "Trainer turns it off"
    assert isinstance(tuned, GPT2LMHeadModel) and (out / "finetune-0" / "tokenizer.json").is_file()
    assert (out / "finetune-0" / "modeling_tangle_gpt2.py").is_file() == (form == "compact")


def test_a_net_without_linear_layers_gets_no_adapters():
    net = ElasticCellsForImageClassification(ElasticCellsConfig())
    with pytest.raises(ValueError, match="lora_rank=4: .* has no linear layer beside its classifier"):
        with_adapters(net, 4)


@pytest.mark.parametrize("kind", ["language", "vision"])
def test_adapters_are_merged_and_left(gpt2, vit, text, tmp_path, kind, capsys):
    auto, checkpoint, options = {
        "language": (AutoModelForCausalLM, str(gpt2 / "compact"), [*text, "--mode", "inherit", "finetune"]),
        "vision": (AutoModelForImageClassification, vit, [*SHORT, "--image_size", 16]),
    }[kind]
    out = tmp_path / "run"
    run(kind, "--checkpoint", checkpoint, *options, "--lora_rank", 4, "--output_dir", out)
    base, tuned = (auto.from_pretrained(path) for path in (checkpoint, out / "finetune-0"))
    trained, everything = (
        int(number.replace(",", ""))
        for number in re.search(r"([\d,]+) of ([\d,]+) parameters are trained", capsys.readouterr().out).groups()
    )
    assert 0 < trained < everything / 2 and everything - trained == tuned.num_parameters()
    if kind == "vision":
        set_image_size(base, 16)  # as the recipe does before it trains
    else:
        found = rows(out)
        assert found["finetune", 0]["test"]["perplexity"] < found["inherit", None]["test"]["perplexity"]
        assert torch.equal(base.transformer.wte.weight, tuned.transformer.wte.weight) and tuned.config.use_cache
    weights = dict(tuned.named_parameters())
    again = PeftModel.from_pretrained(base, out / "finetune-0" / "adapter").merge_and_unload()
    assert type(again) is type(tuned)
    for name, parameter in again.named_parameters():
        torch.testing.assert_close(parameter, weights[name], rtol=0, atol=1e-6)


def test_only_retrain_starts_anew_and_seeds_reach_the_augmentation(vit, gpt2):
    vision = vision_task(vit, False, list(MODES), ImageArguments(samples_per_class=2), AugmentationArguments())
    language = language_task(str(gpt2 / "stock"), False, DataArguments(block_size=16))
    stored = {
        vision: AutoModelForImageClassification.from_pretrained(vit),
        language: AutoModelForCausalLM.from_pretrained(gpt2 / "stock"),
    }
    for task, model in stored.items():
        for mode in MODES:
            pairs = zip(task.build(mode).parameters(), model.parameters(), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs) == (mode != "retrain")
    first, second = (vision.examples.training(seed)[0]["pixel_values"] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_checkpoints_that_do_not_fit_are_named(vit, gpt2, tmp_path):
    out = ["--output_dir", tmp_path / "run"]
    for argv, message in [
        (["vision", "--checkpoint", gpt2 / "stock"], "is a gpt2, .* use `finetune.py language`"),
        (["language", "--checkpoint", vit], "is a vit, .* use `finetune.py vision`"),
        (["vision", "--checkpoint", tmp_path / "nothing"], "could not be loaded.*--trust_remote_code"),
        (["vision", "--checkpoint", vit, "--num_channels", 1], "takes 3 channels, num_channels=1"),
        (["vision", "--checkpoint", vit, "--image_size", 10], "patches of 4 pixels do not divide"),
        (["vision", "--checkpoint", vit, "--streaming", "true"], "leave out --streaming"),
        (["language", "--checkpoint", gpt2 / "stock", "--block_size", 64], "has 16 positions, block_size=64"),
        (["vision", "--checkpoint", vit, "--resume", "true"], "holds no run to resume"),
        (["sound", "--checkpoint", vit], "first argument must be vision or language"),
        ([], "first argument must be vision or language"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(*argv, *(out if argv else []))
    assert not (tmp_path / "run").exists()


def test_a_net_learns_from_its_teacher_what_the_labels_do_not_say(vit, gpt2, text, tmp_path, capsys):
    plain = ["--weight_decay", 0, "--optimizer", "sgd", "--learning_rate", 0.3]
    for name, options in {"labels": [], "teacher": ["--teacher", vit]}.items():
        run("vision", "--checkpoint", vit, *SHORT, *plain, "--output_dir", tmp_path / name, *options)
    # It is its own teacher, and has nothing to learn.
    losses = [rows(tmp_path / name)["finetune", 0]["test"]["loss"] for name in ("labels", "teacher")]
    run("vision", "--checkpoint", vit, *SHORT, "--mode", "inherit", "--output_dir", tmp_path / "inherit")
    inherited = rows(tmp_path / "inherit")["inherit", None]["test"]["loss"]
    assert losses[1] == pytest.approx(inherited, abs=1e-4) != pytest.approx(losses[0], abs=1e-3)
    assert rows(tmp_path / "teacher")["finetune", 0]["teacher"]["forward_passes"] == 6
    assert "teacher: " in capsys.readouterr().out
    run("language", "--checkpoint", gpt2 / "compact", "--teacher", gpt2 / "stock", *text, "--output_dir", tmp_path / "text",
        "--mode", "inherit", "finetune", "--teacher_share", 0.5, "--lora_rank", 2)  # fmt: skip
    inherited, learned = (rows(tmp_path / "text")[key] for key in (("inherit", None), ("finetune", 0)))
    assert "teacher" not in inherited and learned["teacher"]["mib"] > 0


def test_a_teacher_of_other_outputs_is_refused(vit, gpt2, text, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(gpt2 / "stock", other)
    data = DataArguments(vocab_size=300, block_size=16)
    load_tokenizer(data, load_texts(data)).save_pretrained(other)
    few = ViTForImageClassification.from_pretrained(vit, num_labels=4, ignore_mismatched_sizes=True)
    few.save_pretrained(tmp_path / "few")
    language, images = ["language", "--checkpoint", gpt2 / "stock", *text], ["vision", "--checkpoint", vit, *SHORT]
    for argv, message in [
        ([*language, "--teacher", other], "teacher .*other has another vocabulary"),
        ([*language, "--teacher", vit], "is a vit"),
        ([*language, "--teacher", tmp_path / "nothing"], "teacher .*nothing.*could not be loaded"),
        ([*images, "--teacher", tmp_path / "few"], "few has classes .*4 and 10 in all.*cannot teach"),
        ([*images, "--teacher", vit, "--teacher_share", 0], "no effect with teacher_share=0"),
        ([*images, "--teacher", vit, "--mode", "inherit"], "no effect on mode="),
    ]:
        with pytest.raises(ValueError, match=message):
            run(*argv, "--output_dir", tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_the_users_errors_are_one_line(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["finetune.py", "sound"])
    with pytest.raises(SystemExit, match="^error: the first argument must be vision or language"):
        runpy.run_path(str(RECIPE), run_name="__main__")


@pytest.mark.parametrize("content", [None, b"", b"no weights"])
def test_a_checkpoint_without_readable_weights_is_named(vit, tmp_path, content):
    checkpoint = Path(shutil.copytree(vit, tmp_path / "copy"))
    file = checkpoint / "model.safetensors"
    file.unlink() if content is None else file.write_bytes(content)
    task = vision_task(str(checkpoint), False, ["finetune"], ImageArguments(), AugmentationArguments())
    with pytest.raises(ValueError, match="checkpoint=.*copy could not be loaded .*the weights"):
        task.build("finetune")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["vision", "language"])
def test_a_checkpoint_in_half_precision_is_trained_and_scored_in_float32(vit, gpt2, tmp_path, kind, dtype):
    source = vit if kind == "vision" else str(gpt2 / "stock")
    auto = AutoModelForImageClassification if kind == "vision" else AutoModelForCausalLM
    half = str(shutil.copytree(source, tmp_path / "half"))
    auto.from_pretrained(source).to(dtype).save_pretrained(half)
    if kind == "vision":
        task = vision_task(half, False, ["finetune"], ImageArguments(), AugmentationArguments())
    else:
        task = language_task(half, False, DataArguments(block_size=16))
    for mode in ("inherit", "finetune", "retrain"):
        model = task.build(mode)
        assert {p.dtype for p in model.parameters()} == {torch.float32} and model.config.dtype == torch.float32, mode


def blown_up(folder: str, to: Path, value: float) -> str:
    """A copy of a checkpoint with a weight of that value."""
    copied = str(shutil.copytree(folder, to))
    model = AutoModelForImageClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.weight[0, 0] = value
    model.save_pretrained(copied)
    return copied


@pytest.mark.parametrize("mode", ["inherit", "finetune"])
def test_a_loss_that_is_not_finite_is_no_result(vit, tmp_path, mode):
    checkpoint = blown_up(vit, tmp_path / "huge", 3e38)  # finite itself, and its logits are not
    with pytest.raises(FloatingPointError, match="loss is (nan|inf)|are not finite"):
        run("vision", "--checkpoint", checkpoint, *SHORT, "--mode", mode, "--output_dir", tmp_path / "run")
    assert not (tmp_path / "run" / "results.json").exists() and not list((tmp_path / "run").glob("rows/*"))


def test_a_training_that_diverges_keeps_the_last_finite_checkpoint(vit, tmp_path):
    long = ["--max_steps", 60, "--save_steps", 1, "--learning_rate", 1e30, "--optimizer", "sgd", "--warmup_ratio", 0]
    with pytest.raises(FloatingPointError, match="finite at step|loss is"):
        run("vision", "--checkpoint", vit, *SHORT, *long, "--max_grad_norm", 0, "--output_dir", tmp_path / "run")
    folder = tmp_path / "run" / "checkpoints" / "finetune-0"
    for found in folder.glob("checkpoint-*"):
        assert all(
            torch.isfinite(p).all() for p in AutoModelForImageClassification.from_pretrained(found).parameters()
        )
    assert not (tmp_path / "run" / "results.json").exists()


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_neither_gradients_nor_weights_that_are_not_finite_go_on(number):
    stop, model = StopUnlessFinite(), torch.nn.Linear(2, 2)
    state, control = SimpleNamespace(global_step=3), TrainerControl(should_save=True)
    model.weight.grad = torch.ones(2, 2)
    stop.on_pre_optimizer_step(None, state, control, model=model)
    stop.on_step_end(None, state, control, model=model)
    model.weight.grad[0, 1] = number
    with pytest.raises(FloatingPointError, match="gradients are not finite at step 3"):
        stop.on_pre_optimizer_step(None, state, control, model=model)
    with torch.no_grad():
        model.bias[1] = number
    with pytest.raises(FloatingPointError, match="weights are not finite at step 3"):
        stop.on_step_end(None, state, control, model=model)


class Touch:
    """Unpickled without care it writes a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "model.safetensors", "scheduler.pt"])
def test_a_damaged_checkpoint_of_a_training_is_passed_over_and_runs_no_code(tmp_path, caplog, name):
    for step in (9, 10):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text("{}")
        torch.save({"step": torch.ones(2)}, folder / "optimizer.pt")
    assert last_checkpoint(tmp_path).endswith("checkpoint-10")
    torch.save(Touch(tmp_path / "touched"), folder / name)
    assert last_checkpoint(tmp_path).endswith("checkpoint-9")
    assert f"checkpoint-10 is damaged ({name}" in caplog.text and not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("name", "value"),
    [("mode", ["train"]), ("mode", []), ("seeds", []), ("seeds", [1, 1]), ("max_steps", 0), ("save_steps", 0),
     ("learning_rate", 0.0), ("weight_decay", -1.0), ("warmup_ratio", 1.0), ("optimizer", "adam"),
     ("mixed_precision", "fp16"), ("learning_rate", float("nan")), ("retrain_learning_rate", float("inf")),
     ("num_train_epochs", float("nan")), ("max_grad_norm", float("nan")), ("max_grad_norm", -1.0),
     ("adam_beta2", float("nan")), ("seeds", [0, -1]), ("min_learning_rate", 0.1), ("warmup_learning_rate", 0.1),
     ("teacher_share", 0.5), ("teacher_share", 0.0), ("teacher_temperature", 2.0)],
)  # fmt: skip
def test_settings_out_of_range_are_named(name, value):  # or would have no effect
    with pytest.raises(ValueError, match=name):
        FinetuneArguments(checkpoint="x", **{name: value})


def test_the_learning_rate_rises_from_its_start_to_its_peak_and_falls_to_its_end(tmp_path):
    settings = FinetuneArguments(
        checkpoint="x", learning_rate=0.1, retrain_learning_rate=0.2, min_learning_rate=0.01, warmup_learning_rate=0.001,
        warmup_ratio=0.1, optimizer="sgd",
    )  # fmt: skip
    for mode, peak in (("finetune", 0.1), ("retrain", 0.2)):
        options = training_arguments(settings, mode, 5, tmp_path, settings.max_steps, settings.num_train_epochs)
        assert options.seed == 5
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=options.learning_rate)
        scheduler = get_scheduler(
            options.lr_scheduler_type, optimizer, options.get_warmup_steps(100), 100, options.lr_scheduler_kwargs
        )
        rates = []
        for _ in range(100):
            rates.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        assert rates[0] == pytest.approx(0.001) and max(rates) == pytest.approx(peak) == pytest.approx(rates[9])
        assert rates[-1] == pytest.approx(0.01, rel=1e-3)
        assert Trainer.get_optimizer_cls_and_kwargs(options)[1]["momentum"] == 0.9


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_ready_configs_are_complete_settings(path):
    settings, _, data, augmentation = arguments(["vision", "--config", str(path), "--checkpoint", "x"])
    assert data.dataset and settings.output_dir != "runs/finetune"
    assert augmentation.label_smoothing == 0.1 or augmentation.crop_padding > 0
    assert settings == parse(
        FinetuneArguments, ImageArguments, AugmentationArguments, argv=["--config", str(path), "--checkpoint", "x"]
    )[0]  # fmt: skip


def test_there_is_no_checkpoint_in_an_empty_folder(tmp_path):
    assert last_checkpoint(tmp_path / "nothing") is None
