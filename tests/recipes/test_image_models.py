"""Checkpoints on other images: position tables, heads and processors change only where they have to."""

import pytest
import torch
from PIL import Image
from transformers import (
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
)
from transformers.utils import logging

from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.transforms import image_processor
from tangle_hf.models.image_classifiers import (
    check_patches,
    checkpoint_processor,
    from_scratch,
    names_of,
    set_classes,
    set_image_size,
)


SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def tiny(names: tuple = ("a", "b", "c")) -> ViTForImageClassification:
    config = ViTConfig(**SIZES, image_size=8, patch_size=2, id2label=dict(enumerate(names)))
    model = ViTForImageClassification(config).eval()
    torch.nn.init.normal_(model.vit.embeddings.position_embeddings)
    return model


def test_a_larger_image_gets_the_models_own_interpolation(tmp_path):
    logging.disable_progress_bar()
    model, pixels = tiny(), torch.randn(2, 3, 12, 12)
    with torch.no_grad():
        expected = model(pixels, interpolate_pos_encoding=True).logits
        set_image_size(model, 12)
        torch.testing.assert_close(model(pixels).logits, expected, rtol=0, atol=0)
    assert model.vit.embeddings.position_embeddings.shape == (1, 37, 16)
    model(pixels).logits.sum().backward()
    assert model.vit.embeddings.position_embeddings.grad.abs().sum() > 0
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert loaded.config.image_size == 12
    torch.testing.assert_close(loaded(pixels).logits, expected)


def test_a_size_can_change_twice():
    model = tiny()
    for size in (12, 16):
        set_image_size(model, size)
    assert model.vit.embeddings.position_embeddings.shape == (1, 65, 16)
    assert model.vit.embeddings.patch_embeddings.num_patches == 64
    assert model(torch.randn(1, 3, 16, 16)).logits.shape == (1, 3)


def test_sizes_that_cannot_be_are_refused():
    model = tiny()
    before = model.vit.embeddings.position_embeddings
    set_image_size(model, 8)
    assert model.vit.embeddings.position_embeddings is before
    with pytest.raises(ValueError, match="patches of 2 pixels do not divide an image of 9"):
        set_image_size(model, 9)
    resnet = ResNetForImageClassification(ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1]))
    resnet.config.image_size = 32
    with pytest.raises(ValueError, match="no position table"):
        set_image_size(resnet, 64)
    with pytest.raises(ValueError, match="no linear layer called classifier"):
        set_classes(resnet, ["x", "y"])


def test_other_classes_get_a_new_head_and_the_same_ones_keep_theirs():
    model = tiny()
    head = model.classifier
    set_classes(model, ["a", "b", "c"])
    assert model.classifier is head
    set_classes(model, ["b", "a", "c"])
    assert model.classifier is not head and names_of(model.config) == ["b", "a", "c"]
    set_classes(model, ["x", "y"])
    logits = model(torch.randn(1, 3, 8, 8), labels=torch.tensor([1])).logits
    assert (
        logits.shape == (1, 2)
        and model.config.label2id == {"x": 0, "y": 1}
        and model.config.num_labels == model.num_labels == 2
    )
    assert 0 < model.classifier.weight.std() < 0.05


def test_from_scratch_keeps_the_architecture_only():
    model = tiny()
    fresh = from_scratch(model.config, ["x", "y"], 12, remote_code=False)
    assert fresh.vit.embeddings.position_embeddings.shape == (1, 37, 16) and fresh.config.num_labels == 2
    assert not torch.equal(fresh.vit.layers[0].mlp.fc1.weight, model.vit.layers[0].mlp.fc1.weight)
    assert model.config.image_size == 8 and names_of(model.config) == ["a", "b", "c"]


def test_the_processor_of_the_checkpoint_changes_only_where_asked(tmp_path):
    image = Image.effect_noise((20, 14), 80).convert("RGB")

    def seen(processor):
        return processor(images=image, return_tensors="pt")["pixel_values"]

    empty = tmp_path / "empty"
    empty.mkdir()
    new = checkpoint_processor(str(empty), ImageArguments(image_mean=[0.3]), 8)
    assert torch.equal(seen(new), seen(image_processor(ImageArguments(image_mean=[0.3]), 8)))

    own = ViTImageProcessor(size={"height": 8, "width": 8}, image_mean=[0.1, 0.2, 0.3])  # bilinear
    own.save_pretrained(tmp_path)
    assert torch.equal(seen(checkpoint_processor(str(tmp_path), ImageArguments(), 8)), seen(own))
    own.image_std = [0.7] * 3
    assert torch.equal(seen(checkpoint_processor(str(tmp_path), ImageArguments(image_std=[0.7]), 8)), seen(own))
    assert seen(checkpoint_processor(str(tmp_path), ImageArguments(), 12)).shape == (1, 3, 12, 12)

    crop = image_processor(ImageArguments(eval_crop=0.5), 8)
    crop.save_pretrained(tmp_path)
    assert torch.equal(seen(checkpoint_processor(str(tmp_path), ImageArguments(), 8)), seen(crop))
    assert torch.equal(
        seen(checkpoint_processor(str(tmp_path), ImageArguments(), 10)),
        seen(image_processor(ImageArguments(eval_crop=0.5), 10)),
    )
    assert torch.equal(
        seen(checkpoint_processor(str(tmp_path), ImageArguments(eval_crop=1.0), 8)),
        seen(image_processor(ImageArguments(), 8)),
    )


def test_patches_must_divide_the_image():
    check_patches(32, 4)
    with pytest.raises(
        ValueError, match=r"patches of 5 pixels do not divide an image of 12; use.*\[1, 2, 3, 4, 6, 12\]"
    ):
        check_patches(12, 5)
