"""Tensors: augmentation is a function of seed, epoch and example; evaluation is what a pipeline sees; labels may be soft."""

import itertools

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import ClassLabel, Dataset, Features, Image
from datasets.distributed import split_dataset_by_node
from PIL import Image as PILImage
from transformers import AutoImageProcessor, ViTConfig, ViTForImageClassification, pipeline
from transformers.utils import logging

from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.images.transforms import (
    AugmentationArguments,
    augmentation,
    evaluation_images,
    image_processor,
    own_randomness,
    soft_cross_entropy,
    training_images,
    use_soft_targets,
)
from tangle_hf.evaluation import accuracy
from tangle_hf.search.batches import Batches


ALL = AugmentationArguments(
    crop_min_scale=0.3,
    flip=0.5,
    randaugment_magnitude=27,
    random_erasing=0.5,
    mixup=0.8,
    cutmix=1.0,
    label_smoothing=0.1,
)
NONE = AugmentationArguments(crop_min_scale=1.0, flip=0.0)


def pictures(count: int = 22, mode: str = "RGB", size: tuple = (12, 10)) -> Dataset:
    pixels = np.random.default_rng(0).integers(0, 256, (count, *size, 3), dtype=np.uint8)
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b", "c"])})
    images = [PILImage.fromarray(one).convert(mode) for one in pixels]
    table = {"image": images, "label": [number % 3 for number in range(count)]}
    return Dataset.from_dict(table, features=features).cast_column("image", Image(decode=False))


def examples(arguments=ALL, seed=0, stream=False, channels=3, count=22):
    data = ImageArguments(num_channels=channels, dataset="given")
    images = pictures(count, "RGB" if channels == 3 else "L")
    images = images.to_iterable_dataset(num_shards=2) if stream else images
    return training_images(images, data, arguments, image_processor(data, 8), 8, seed)


def take(batches, count):
    return [batch["pixel_values"] for batch in itertools.islice(iter(batches), count)]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stop", [1, 4, 5, 6, 12])
def test_resumed_batches_hold_the_same_tensors_whatever_else_drew_random_numbers(stream, stop):
    accelerator = Accelerator(cpu=True)
    whole = take(Batches(accelerator, examples(stream=stream), 4, seed=0), 15)
    first = Batches(accelerator, examples(stream=stream), 4, seed=0)
    take(first, stop)
    torch.manual_seed(77)
    second = Batches(accelerator, examples(stream=stream), 4, seed=0)
    second.load_state_dict(first.state_dict())
    for found, expected in zip(take(second, 15 - stop), whole[stop:], strict=True):
        assert torch.equal(found, expected)


def test_augmentation_changes_with_seed_epoch_and_example_and_leaves_the_generator_alone():
    state = torch.get_rng_state()
    one, other, later = examples(), examples(seed=1), examples()
    later.set_epoch(1)
    values = [x[3]["pixel_values"] for x in (one, other, later)] + [one[4]["pixel_values"]]
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(values[0], examples()[3]["pixel_values"])
    assert all(not torch.equal(a, b) for a, b in itertools.combinations(values, 2))
    with own_randomness(1, 2):
        torch.rand(5)
    assert torch.equal(state, torch.get_rng_state())


def test_an_image_of_a_stream_gets_another_augmentation_in_each_pass():
    crops = AugmentationArguments(crop_min_scale=0.3, flip=0.0)
    for arguments, same in ((crops, False), (ALL, False), (NONE, True)):
        stream = list(itertools.islice(iter(examples(arguments, stream=True)), 66))
        for later in (22, 44):
            assert torch.equal(stream[0]["pixel_values"], stream[later]["pixel_values"]) == same


def test_worker_processes_give_the_same_tensors():
    def load(workers):
        loader = torch.utils.data.DataLoader(examples(), 4, num_workers=workers)
        return torch.cat([batch["pixel_values"] for batch in loader])

    assert torch.equal(load(0), load(2))


def test_two_processes_see_the_examples_of_one():
    class Rank:
        def __init__(self, index, world):
            self.process_index, self.num_processes, self.device = index, world, "cpu"

    one = take(Batches(Rank(0, 1), examples(), 4, seed=0), 8)
    two = [take(Batches(Rank(rank, 2), examples(), 2, seed=0), 8) for rank in (0, 1)]
    for whole, *parts in zip(one, *two, strict=True):
        assert torch.equal(whole, torch.cat(parts))


def test_processes_of_a_stream_draw_different_numbers():
    def flips(rank):
        seen = []
        for arguments in (NONE, AugmentationArguments(crop_min_scale=1.0, flip=0.5)):
            part = split_dataset_by_node(examples(arguments, stream=True), rank, 2)
            seen.append([row["pixel_values"] for row in itertools.islice(iter(part), 11)])
        return [not torch.equal(a, b) for a, b in zip(*seen, strict=True)]

    assert flips(0) != flips(1)


def test_without_augmentation_training_sees_what_evaluation_sees():
    data = ImageArguments(dataset="given", image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.25])
    processor = image_processor(data, 8)
    training = training_images(pictures(), data, NONE, processor, 8, 0)
    for stream in (False, True):
        images = pictures().to_iterable_dataset() if stream else pictures()
        for number, row in enumerate(evaluation_images(images, data, processor)):
            torch.testing.assert_close(row["pixel_values"], training[number]["pixel_values"], rtol=0, atol=1e-5)
            assert row["labels"] == number % 3 and row["pixel_values"].shape == (3, 8, 8)


def test_flip_can_be_off_and_is_off_for_the_embedded_digits():
    image = PILImage.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    processor = image_processor(ImageArguments(num_channels=1), 8)

    def seen(arguments, digits):
        transform = augmentation(arguments, processor, 8, digits)
        return {tuple(transform(image).flatten().tolist()) for _ in range(20)}

    plain = AugmentationArguments(crop_min_scale=1.0)
    assert len(seen(NONE, False)) == len(seen(plain, True)) == 1 and len(seen(plain, False)) == 2


@pytest.mark.parametrize("channels", [1, 3])
def test_every_step_of_the_augmentation_acts(channels):
    plain = [row["pixel_values"] for row in [examples(NONE, channels=channels)[i] for i in range(8)]]
    for change in ({"crop_min_scale": 0.5}, {"flip": 1.0}, {"randaugment_magnitude": 27}, {"random_erasing": 1.0}):
        changed = examples(AugmentationArguments(**{"crop_min_scale": 1.0, "flip": 0.0} | change), channels=channels)
        different = [not torch.equal(plain[i], changed[i]["pixel_values"]) for i in range(8)]
        assert sum(different) > 4, change
        assert all(changed[i]["pixel_values"].shape == (channels, 8, 8) for i in range(8))
    flipped = examples(AugmentationArguments(crop_min_scale=1.0, flip=1.0), channels=channels)
    assert torch.equal(flipped[0]["pixel_values"], plain[0].flip(-1))


@pytest.mark.parametrize("stream", [False, True])
def test_mixup_mixes_pixels_and_labels_of_neighbours_alike(stream):
    plain, mixed = examples(NONE, stream=stream), examples(
        AugmentationArguments(crop_min_scale=1.0, flip=0.0, mixup=0.8, label_smoothing=0.3), stream=stream
    )  # fmt: skip
    if stream:
        before, after = (list(itertools.islice(iter(x), 4)) for x in (plain, mixed))
    else:
        before, after = plain.__getitems__([0, 1, 2]), mixed.__getitems__([0, 1, 2])
    for number, partner in [(0, 1), (1, 0), *([(2, 3)] if stream else [(2, 0)])]:
        x, y = before[number]["pixel_values"], before[partner]["pixel_values"]
        share = ((after[number]["pixel_values"] - y) / (x - y)).nanmedian()
        assert 0 <= share < 1
        torch.testing.assert_close(after[number]["pixel_values"], share * x + (1 - share) * y, rtol=0, atol=1e-4)
        expected = torch.full((3,), 0.3 / 3)
        expected[before[number]["labels"]] += 0.7 * share
        expected[before[partner]["labels"]] += 0.7 * (1 - share)
        torch.testing.assert_close(after[number]["labels"], expected, rtol=0, atol=1e-4)


def test_cutmix_labels_are_the_shares_of_the_pixels():
    plain = examples(NONE).__getitems__(list(range(8)))
    mixed = examples(AugmentationArguments(crop_min_scale=1.0, flip=0.0, cutmix=1.0)).__getitems__(list(range(8)))
    pasted = []
    for number, row in enumerate(mixed):
        own = (row["pixel_values"] == plain[number]["pixel_values"]).all(0).float().mean()
        assert row["labels"][plain[number]["labels"]] == pytest.approx(own.item(), abs=1e-5)
        assert row["labels"].sum() == pytest.approx(1)
        pasted.append(own.item())
    assert min(pasted) < 0.9


def test_soft_cross_entropy_is_the_sum_over_classes():
    logits, labels = torch.randn(5, 3), torch.rand(5, 3).softmax(-1)
    expected = -(labels * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(soft_cross_entropy(labels, logits), expected)
    numbers = torch.tensor([0, 1, 2, 0, 1])
    torch.testing.assert_close(soft_cross_entropy(numbers, logits), torch.nn.functional.cross_entropy(logits, numbers))


def tiny(**options) -> ViTForImageClassification:
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    return ViTForImageClassification(ViTConfig(**sizes, image_size=8, patch_size=4, num_labels=3, **options))


def test_a_stock_model_takes_soft_labels_and_stays_a_classifier_of_single_labels():
    model = tiny()
    use_soft_targets(model)
    batch = torch.utils.data.default_collate(examples().__getitems__([0, 1, 2, 3]))
    out = model(**batch)
    torch.testing.assert_close(out.loss, -(batch["labels"] * out.logits.log_softmax(-1)).sum(-1).mean())
    assert model.config.problem_type == "single_label_classification"


@pytest.mark.parametrize(("channels", "crop"), [(3, 1.0), (3, 0.8), (1, 1.0)], ids=["colour", "centre crop", "grey"])
def test_the_pipeline_on_the_exported_folder_sees_what_evaluation_saw(tmp_path, channels, crop):
    logging.disable_progress_bar()
    data = ImageArguments(dataset="given", num_channels=channels, image_mean=[0.4], image_std=[0.2], eval_crop=crop)
    processor, images = image_processor(data, 8), pictures(mode="RGB" if channels == 3 else "L", size=(20, 15))
    model = tiny(num_channels=channels).eval()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoImageProcessor.from_pretrained(tmp_path)
    classify = pipeline("image-classification", model=str(tmp_path))
    decoded = images.cast_column("image", Image())
    for number, row in enumerate(evaluation_images(images, data, processor)):
        image = decoded[number]["image"]
        image = image if channels == 3 else np.array(image)[None]
        assert torch.equal(loaded(images=image, return_tensors="pt")["pixel_values"][0], row["pixel_values"])
        scores = {score["label"]: score["score"] for score in classify(image)}
        with torch.no_grad():
            expected = model(row["pixel_values"][None]).logits.softmax(-1)[0]
        found = torch.tensor([scores[model.config.id2label[n]] for n in range(3)])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_accuracy_is_that_of_a_loop_and_stops_after_its_batches():
    data = ImageArguments(dataset="given")
    rows, model = evaluation_images(pictures(), data, image_processor(data, 8)), tiny()
    model.train()
    with torch.no_grad():
        model.eval()
        logits = torch.stack([model(row["pixel_values"][None]).logits[0] for row in rows])
        model.train()
    labels = torch.tensor([number % 3 for number in range(22)])
    for batches, count in ((None, 22), (2, 10)):
        scores = accuracy(model, rows, 5, batches)
        expected = torch.nn.functional.cross_entropy(logits[:count], labels[:count]).item()
        assert scores["loss"] == pytest.approx(expected, rel=1e-5)
        assert scores["accuracy"] == pytest.approx((logits.argmax(-1) == labels)[:count].float().mean().item())
    assert model.training


def test_unlabelled_images_of_a_stream_are_named():
    images = pictures().cast_column("image", Image(decode=False)).map(lambda row: {"label": -1})
    data = ImageArguments(dataset="given")
    with pytest.raises(ValueError, match="image 0 of the stream has no label"):
        next(iter(evaluation_images(images.to_iterable_dataset(), data, image_processor(data, 8))))


@pytest.mark.parametrize(
    ("name", "value"),
    [("crop_min_scale", 0.0), ("flip", 1.5), ("randaugment_magnitude", 31), ("random_erasing", -0.1), ("mixup", -1.0),
     ("cutmix", -1.0), ("label_smoothing", 1.0)],
)  # fmt: skip
def test_settings_out_of_range_are_named(name, value):
    with pytest.raises(ValueError, match=name):
        AugmentationArguments(**{name: value})


@pytest.fixture(autouse=True)
def no_bars():
    datasets.disable_progress_bars()
