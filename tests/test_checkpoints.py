"""Checkpoints from elsewhere: damaged, incomplete, not finite, or of kinds that no recipe of this project writes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    ConvNextConfig,
    ConvNextForImageClassification,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTModel,
)

from tangle_hf import ElasticGPT2LMHeadModel, ElasticViTForImageClassification, SearchSpace
from tangle_hf.data.images.augmentation_settings import AugmentationArguments
from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.transforms import image_processor
from tangle_hf.data.text import load_texts
from tangle_hf.data.text_settings import DataArguments
from tangle_hf.data.tokens import load_tokenizer, size_of
from tangle_hf.models.image_classifiers import checkpoint_processor
from tangle_hf.models.loading import load_model
from tangle_hf.training.image_tasks import vision_task
from tangle_hf.training.tasks import language_task
from tangle_hf_cli import main as tangle_hf


SIZES = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "patch_size": 4}
DIGITS = {n: str(n) for n in range(10)}


def words(names, folder: Path, **numbers: int) -> str:
    """A tokenizer of whole words."""
    known = {**{name: n for n, name in enumerate(names)}, **numbers}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", eos_token="</s>").save_pretrained(folder)
    return str(folder)


@pytest.fixture
def text(tmp_path) -> dict:
    for name in ("train", "validation", "test"):
        (tmp_path / f"{name}.txt").write_text("a small text of few words\n" * 40)
    files = {f"{name}_file": str(tmp_path / f"{name}.txt") for name in ("train", "validation", "test")}
    return files | {"block_size": 8}


@pytest.fixture
def gpt2(tmp_path) -> Path:
    config = GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=20, n_positions=8, bos_token_id=7, eos_token_id=7)
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    words("a small text of few words".split(), tmp_path / "gpt2", **{"[UNK]": 6, "</s>": 7})
    return tmp_path / "gpt2"


@pytest.fixture
def vit(tmp_path) -> Path:
    folder = tmp_path / "vit"
    ViTForImageClassification(ViTConfig(**SIZES, image_size=8, id2label=DIGITS)).save_pretrained(folder)
    image_processor(ImageArguments(image_mean=[0.3]), 8).save_pretrained(folder)
    return folder


def change(folder: Path, weights=lambda found: found, **fields) -> Path:
    """Other weights and fields of config.json in a saved model."""
    found = load_file(folder / "model.safetensors")
    save_file(weights(found), folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))
    return folder


def without(part: str):
    return lambda found: {name: weight for name, weight in found.items() if part not in name}


def not_finite(found: dict) -> dict:
    found["transformer.ln_f.bias"][3] = float("nan")
    return found


DAMAGE = [
    (without("h.1.mlp"), {}, r"lacks 4 of the weights .*transformer.h.1.mlp.c_fc.bias.* and 1 more\), .*at random"),
    (lambda found: found, {"n_inner": 16}, "holds weights of other sizes than its config.json says"),
    (not_finite, {}, r"weights that are not finite \(transformer.ln_f.bias\)"),
]


@pytest.mark.parametrize(("weights", "fields", "message"), DAMAGE)
def test_weights_that_are_not_whole_are_never_filled_up(gpt2, text, weights, fields, message, capsys):
    change(gpt2, weights, **fields)
    task = language_task(str(gpt2), False, DataArguments(**text))
    loads = [lambda: load_model(gpt2), lambda: ElasticGPT2LMHeadModel.from_pretrained(gpt2)]
    for load in (*loads, lambda: task.build("inherit"), lambda: task.build("finetune")):
        with pytest.raises(ValueError, match=message):
            load()
    printed = capsys.readouterr()
    assert "LOAD REPORT" not in printed.out + printed.err


def test_weights_without_a_place_and_a_missing_head_are_one_line_each(gpt2, vit, caplog):
    change(gpt2, lambda found: {**found, "transformer.h.7.ln_1.bias": torch.ones(8)})
    assert load_model(gpt2) and "holds 1 weights that a GPT2LMHeadModel has no place for" in caplog.text
    ViTModel(ViTConfig(**SIZES, image_size=8, id2label=DIGITS)).save_pretrained(vit)
    data = (ImageArguments(num_channels=3), AugmentationArguments())
    task = vision_task(str(vit), False, ["inherit"], *data)
    with pytest.raises(ValueError, match="lacks 2 of the weights of a ViTForImageClassification"):
        task.build("inherit")
    assert task.build("finetune") and ElasticViTForImageClassification.from_pretrained(
        vit, space=SearchSpace(hidden_size=[8])
    )
    assert "has no head of a ViTForImageClassification" in caplog.text


@pytest.mark.parametrize(("content", "message"), [("[1]", "config.json is a list"), (None, "'n_embd' expected int")])
def test_a_config_that_is_none_is_one_line(gpt2, text, content, message, capsys):
    change(gpt2, n_embd="eight")
    if content is not None:
        (gpt2 / "config.json").write_text(content)
    with pytest.raises(SystemExit, match=message):
        tangle_hf(["info", str(gpt2)])
    with pytest.raises(ValueError, match="could not be loaded"):
        language_task(str(gpt2), False, DataArguments(**text))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"image_mean": [0.', "is damaged"),
        ("[1]", "is damaged"),
        ('{"image_processor_type": "Wonder"}', "is damaged"),
        ('{"image_processor_type": "ViTImageProcessor", "image_mean": [NaN, 0, 0]}', "must be finite"),
        ('{"image_processor_type": "ViTImageProcessor", "image_std": [0, 0, 0]}', "image_std above 0"),
    ],
)
def test_a_damaged_image_processor_is_not_exchanged_for_another(vit, content, message):
    assert checkpoint_processor(str(vit), ImageArguments(), 8).image_mean[0] == 0.3
    (vit / "preprocessor_config.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        checkpoint_processor(str(vit), ImageArguments(), 8)


def test_a_damaged_tokenizer_of_a_model_is_one_line(gpt2, tmp_path):
    (gpt2 / "tokenizer.json").write_text("nope")
    with pytest.raises(SystemExit, match="tokenizer or image processor of .* is damaged"):
        tangle_hf(["export", str(gpt2), "--form", "onnx", "--output", str(tmp_path / "onnx")])


def test_a_tokenizer_that_does_not_know_the_text_is_refused(text, gpt2, tmp_path):
    texts = load_texts(DataArguments(**text))
    for file in gpt2.glob("tokenizer*"):
        file.unlink()  # of which transformers makes a tokenizer without tokens
    with pytest.raises(ValueError, match="gpt2'.* does not know the training text: it makes no tokens"):
        load_tokenizer(DataArguments(**text, tokenizer=str(gpt2)), texts)
    few = words(["a", "of"], tmp_path / "few", **{"[UNK]": 2, "</s>": 3})
    with pytest.raises(ValueError, match="160 of the first 240 tokens are unknown"):
        load_tokenizer(DataArguments(**text, tokenizer=few), texts)


def test_numbers_of_tokens_may_have_gaps(text, tmp_path):
    folder = words("a small text of few words".split(), tmp_path / "gaps", **{"[UNK]": 40, "</s>": 90})
    texts = load_texts(DataArguments(**text))
    assert size_of(load_tokenizer(DataArguments(**text, tokenizer=folder), texts)) == 91
    with pytest.raises(ValueError, match="has 91 tokens, vocab_size=50 is smaller"):
        load_tokenizer(DataArguments(**text, vocab_size=50, tokenizer=folder), texts)


@pytest.mark.parametrize(
    "model",
    [
        lambda: BloomForCausalLM(BloomConfig(vocab_size=20, hidden_size=8, n_layer=1, n_head=2)),
        lambda: MambaForCausalLM(MambaConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, state_size=4)),
    ],
)
def test_language_models_without_positions_take_any_length(gpt2, text, model):
    shutil.rmtree(gpt2)
    model().save_pretrained(gpt2)
    words("a small text of few words".split(), gpt2, **{"[UNK]": 6, "</s>": 7})
    task = language_task(str(gpt2), False, DataArguments(**text | {"block_size": 16}))
    scores = task.examples.score(task.build("inherit"), task.examples.test, 4)
    assert 0 < scores["loss"] < 10


def test_image_sizes_are_one_number_two_or_none(vit):
    data = (ImageArguments(num_channels=3), AugmentationArguments())
    ViTForImageClassification(ViTConfig(**SIZES, image_size=(8, 8), id2label=DIGITS)).save_pretrained(vit)
    assert vision_task(str(vit), False, ["inherit"], *data).build("inherit").config.image_size in ([8, 8], (8, 8))
    change(vit, image_size=[8, 4])
    with pytest.raises(ValueError, match="must be square"):
        vision_task(str(vit), False, ["inherit"], *data)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], id2label=DIGITS)
    ResNetForImageClassification(config).save_pretrained(vit)
    with pytest.raises(ValueError, match="takes images of any size; say by --image_size"):
        vision_task(str(vit), False, ["inherit"], *data)
    assert vision_task(str(vit), False, ["inherit"], ImageArguments(num_channels=3, image_size=8), data[1])


def test_a_model_that_calls_its_logits_otherwise_has_the_same_loss(vit):
    sizes = {"num_stages": 2, "hidden_sizes": [8, 8], "depths": [1, 1], "patch_size": 1, "image_size": 8}
    config = ConvNextConfig(**sizes, id2label=DIGITS)
    ConvNextForImageClassification(config).save_pretrained(vit)
    task = vision_task(str(vit), False, ["finetune"], ImageArguments(num_channels=3), AugmentationArguments())
    model, labels = task.build("finetune").eval(), torch.arange(4)
    found = model(pixel_values=torch.ones(4, 3, 8, 8), labels=labels)
    assert found.loss == torch.nn.functional.cross_entropy(found.logits, labels)


def test_a_supernet_starts_from_its_own_family_only(gpt2, vit):
    with pytest.raises(ValueError, match="vit is a vit; a ElasticGPT2LMHeadModel starts from a gpt2"):
        ElasticGPT2LMHeadModel.from_pretrained(vit)
    with pytest.raises(ValueError, match="gpt2 is a gpt2; a ElasticViTForImageClassification starts from a vit"):
        ElasticViTForImageClassification.from_pretrained(gpt2)
