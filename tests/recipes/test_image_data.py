"""Images: every source gives the same columns, parts are balanced and do not overlap, bad input is named."""

import io
import json
import struct
import zlib

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from datasets.distributed import split_dataset_by_node
from PIL import Image as PILImage

from tangle_hf.data.images import files as image_files
from tangle_hf.data.images.classes import class_names
from tangle_hf.data.images.files import open_image, to_channels
from tangle_hf.data.images.loading import load_images, resolve_image_size
from tangle_hf.data.images.settings import ImageArguments, describe
from tangle_hf.data.images.splits import split_for_search


def picture(number: int, mode: str = "RGB", size: tuple = (6, 6)) -> PILImage.Image:
    """A picture that no other number has."""
    pixels = np.random.default_rng(number).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return PILImage.fromarray(pixels).convert(mode)


def rows(count: int, classes: int = 3, mode: str = "RGB", first: int = 0) -> Dataset:
    """Pictures whose labels take turns."""
    labels = [number % classes for number in range(count)]
    features = Features({"image": Image(), "label": ClassLabel(names=[f"class {n}" for n in range(classes)])})
    pictures = [picture(first + number, mode) for number in range(count)]
    return Dataset.from_dict({"image": pictures, "label": labels}, features=features)


def parquet(path, dataset: Dataset) -> str:
    dataset.to_parquet(path)
    return str(path)


@pytest.fixture(autouse=True)
def no_bars():
    datasets.disable_progress_bars()


@pytest.fixture
def files(tmp_path):
    counts = {"train": 60, "validation": 12, "test": 15}
    return {f"{n}_file": parquet(tmp_path / f"{n}.parquet", rows(c, first=1000 * c)) for n, c in counts.items()}


def contents(split) -> list[bytes]:
    return [open_image(row["image"], "here", "RGB").tobytes() for row in split]


def labels(split) -> list[int]:
    return [row["label"] for row in split]


def test_the_embedded_digits_are_balanced_in_every_part():
    splits = load_images(ImageArguments())
    assert class_names(splits) == list("0123456789") and resolve_image_size(ImageArguments(), splits) == 8
    weights, arch = split_for_search(splits["train"], 0.8, seed=0)
    parts = [weights, arch, splits["validation"], splits["test"]]
    assert sum(len(part) for part in parts) == 1797 and len(weights) == round(0.8 * (len(weights) + len(arch)))
    for part in parts:
        counts = np.bincount(labels(part), minlength=10)
        assert counts.max() - counts.min() <= max(2, 0.06 * counts.sum()) and counts.min() > 0
    assert open_image(splits["train"][0]["image"], "here").getextrema()[1] == 255


@pytest.mark.parametrize("portion", [0.5, 0.8])
def test_the_parts_of_a_search_are_stratified_seeded_and_apart(files, portion):
    train = load_images(ImageArguments(**files))["train"]
    weights, arch = split_for_search(train, portion, seed=1)
    assert sorted(contents(weights) + contents(arch)) == sorted(contents(train))
    assert np.bincount(labels(weights)).tolist() == [round(portion * 20)] * 3
    assert contents(split_for_search(train, portion, seed=1)[0]) == contents(weights)
    assert contents(split_for_search(train, portion, seed=2)[0]) != contents(weights)


def test_every_source_gives_the_same_images(files, tmp_path, monkeypatch):
    expected = load_images(ImageArguments(**files))
    saved, folders = tmp_path / "saved", tmp_path / "here" / "imagefolder"
    splits = {name: split.cast_column("image", Image()) for name, split in expected.items()}
    DatasetDict(splits).save_to_disk(saved)
    for name, split in splits.items():
        for number, row in enumerate(split):
            path = folders / name / f"class {row['label']}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            row["image"].save(path)
    monkeypatch.chdir(folders.parent)
    beside = folders.parent / "train" / "class 0"
    beside.mkdir(parents=True)
    picture(0).save(beside / "0.png")
    for folder in (saved, folders, "imagefolder"):  # the last is the name of a builder of datasets, too
        for streaming in (False, True):
            found = load_images(ImageArguments(dataset=str(folder), streaming=streaming))
            assert class_names(found) == class_names(expected)
            for name, split in expected.items():
                assert sorted(zip(contents(found[name]), labels(found[name]), strict=True)) == sorted(
                    zip(contents(split), labels(split), strict=True)
                ), (folder, streaming, name)


def test_missing_splits_are_cut_from_train_and_stay_apart(files):
    splits = load_images(ImageArguments(train_file=files["train_file"]))
    parts = [set(contents(splits[name])) for name in ("train", "validation", "test")]
    assert [len(part) for part in parts] == [54, 3, 3] and len(set.union(*parts)) == 60
    assert sorted(labels(splits["test"])) == [0, 1, 2]


def test_validation_images_that_come_class_by_class_are_mixed(files, tmp_path):
    path = parquet(tmp_path / "sorted.parquet", rows(60).sort("label"))
    found, again, other = (
        load_images(ImageArguments(**files | {"validation_file": path}, data_seed=seed))["validation"]
        for seed in (0, 0, 1)
    )
    assert set(labels(found)[:12]) == {0, 1, 2} and sorted(labels(found)) == sorted(labels(rows(60)))
    assert contents(found) == contents(again) != contents(other)


def test_the_only_held_out_split_can_be_the_test(tmp_path):
    DatasetDict({"train": rows(60), "validation": rows(9, first=500)}).save_to_disk(tmp_path / "d")
    splits = load_images(ImageArguments(dataset=str(tmp_path / "d"), test_split="validation"))
    assert (len(splits["test"]), len(splits["validation"]), len(splits["train"])) == (9, 3, 57)
    with pytest.raises(ValueError, match="must be different splits"):
        load_images(
            ImageArguments(dataset=str(tmp_path / "d"), test_split="validation", validation_split="validation")
        )
    with pytest.raises(ValueError, match="none is 'held_out'; use --test_split"):
        load_images(ImageArguments(dataset=str(tmp_path / "d"), test_split="held_out"))


def test_subsamples_are_balanced_and_the_same_for_all_seeds(files):
    few = load_images(ImageArguments(**files, samples_per_class=4))["train"]
    assert np.bincount(labels(few)).tolist() == [4, 4, 4]
    assert contents(few) == contents(load_images(ImageArguments(**files, samples_per_class=4))["train"])
    assert contents(few) != contents(load_images(ImageArguments(**files, samples_per_class=4, data_seed=1))["train"])
    assert np.bincount(labels(load_images(ImageArguments(**files, max_train_samples=15))["train"])).tolist() == [5] * 3
    two = load_images(ImageArguments(**files, classes=2))
    assert class_names(two) == ["class 0", "class 1"] and set(labels(two["test"])) == {0, 1}
    with pytest.raises(ValueError, match="class 'class 0' has 20 training images, samples_per_class=21"):
        load_images(ImageArguments(**files, samples_per_class=21))
    with pytest.raises(ValueError, match="classes=4 is more than the 3"):
        load_images(ImageArguments(**files, classes=4))
    with pytest.raises(ValueError, match="max_train_samples=2"):
        load_images(ImageArguments(**files, max_train_samples=2))


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("shards", [1, 2, 3])
def test_parts_of_a_stream_never_overlap(tmp_path, processes, shards):
    folder = tmp_path / "data"
    folder.mkdir()
    for shard in range(shards):
        parquet(folder / f"train-{shard}.parquet", rows(101, first=1000 * shard))
    splits = load_images(ImageArguments(dataset=str(folder), streaming=True))
    parts = [*split_for_search(splits["train"], 0.5, seed=0), splits["validation"], splits["test"]]
    seen = [
        {x for rank in range(processes) for x in contents(split_dataset_by_node(part, rank, processes))}
        for part in parts
    ]
    assert all(seen) and sum(len(part) for part in seen) == len(set.union(*seen)) == 101 * shards
    assert len(seen[0]) > 0.3 * 101 * shards < len(seen[1]) * 2


def test_words_and_numbers_as_labels_become_classes(tmp_path):
    for values, names in ((["dog", "cat"], ["cat", "dog"]), ([10, 9], ["9", "10"])):
        table = {"img": [picture(n) for n in range(60)], "kind": [values[n % 2] for n in range(60)]}
        kind = Value("string") if isinstance(values[0], str) else Value("int64")
        path = parquet(tmp_path / "x.parquet", Dataset.from_dict(table, Features({"img": Image(), "kind": kind})))
        splits = load_images(ImageArguments(train_file=path))
        assert class_names(splits) == names
        for split in splits.values():
            for row in split:
                number = next(n for n in range(60) if picture(n).tobytes() == contents([row])[0])
                assert names[row["label"]] == str(values[number % 2])
        with pytest.raises(ValueError, match="not known before the stream"):
            load_images(ImageArguments(train_file=path, streaming=True))
    test = Dataset.from_dict({"img": [picture(0)], "kind": [77]}, Features({"img": Image(), "kind": Value("int64")}))
    with pytest.raises(ValueError, match=r"test images have classes \[77\]"):
        load_images(ImageArguments(train_file=path, test_file=parquet(tmp_path / "t.parquet", test)))


def test_columns_must_be_clear(files, tmp_path):
    base = rows(60)
    several = base.add_column("coarse", [0] * 60).cast_column("coarse", ClassLabel(names=["all"]))
    path = parquet(tmp_path / "several.parquet", several)
    with pytest.raises(ValueError, match=r"several may hold the labels, \['label', 'coarse'\]; use --label_column"):
        load_images(ImageArguments(train_file=path))
    assert class_names(load_images(ImageArguments(train_file=path, label_column="label")))[0] == "class 0"
    with pytest.raises(ValueError, match="label_column='image' holds images, no labels"):
        load_images(ImageArguments(train_file=path, label_column="image"))
    path = parquet(tmp_path / "none.parquet", base.remove_columns("label"))
    with pytest.raises(ValueError, match="none holds labels; images of a folder must"):
        load_images(ImageArguments(train_file=path))
    path = parquet(tmp_path / "blind.parquet", base.remove_columns("image"))
    with pytest.raises(ValueError, match="none holds images; use --image_column"):
        load_images(ImageArguments(train_file=path))
    path = parquet(tmp_path / "other.parquet", rows(9).rename_column("label", "kind"))
    with pytest.raises(ValueError, match="the test images have columns.*none is 'label'"):
        load_images(ImageArguments(**files | {"test_file": path}))
    path = parquet(tmp_path / "classes.parquet", rows(8, classes=2))
    with pytest.raises(ValueError, match="train and test have different classes"):
        load_images(ImageArguments(**files | {"test_file": path}))


def test_missing_classes_labels_and_images_are_named(files, tmp_path):
    path = parquet(tmp_path / "x.parquet", rows(30).filter(lambda row: row["label"] != 1))
    with pytest.raises(ValueError, match=r"test has no image of 1 of 3 classes: \['class 1'\]"):
        load_images(ImageArguments(**files | {"test_file": path}))
    unlabelled = rows(6).remove_columns("label").add_column("label", [-1, 0, 1, 2, -1, 0])
    path = parquet(tmp_path / "x.parquet", unlabelled.cast(rows(6).features))
    with pytest.raises(ValueError, match="2 of 6 test images have no label; use another --test_split"):
        load_images(ImageArguments(**files | {"test_file": path}))
    for streaming in (False, True):
        path = parquet(tmp_path / "x.parquet", rows(6).select([]))
        with pytest.raises(ValueError, match="no images that could be read|there are no validation images"):
            load_images(ImageArguments(**files | {"validation_file": path}, streaming=streaming))
    path = parquet(tmp_path / "x.parquet", rows(31).select([0, 1, 3, 4, 6, 7, 2]))
    with pytest.raises(ValueError, match="'class 2', the rarest of 3 classes, has 1 image:"):
        load_images(ImageArguments(train_file=path))
    train = load_images(ImageArguments(**files))["train"]
    with pytest.raises(ValueError, match="train_portion=0.99"):
        split_for_search(train, 0.99, seed=0)
    stream = load_images(ImageArguments(**files, streaming=True))["train"]
    with pytest.raises(ValueError, match="train_portion=0.99"):
        split_for_search(stream, 0.99, seed=0)


@pytest.fixture
def damaged(tmp_path):
    folder = tmp_path / "damaged"
    for number in range(60):
        path = folder / "train" / f"class {number % 3}" / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture(number, size=(30, 30)).save(path)
    for name in ("class 1/01.png", "class 2/02.png"):
        path = folder / "train" / name
        path.write_bytes(path.read_bytes()[:300])  # the header is whole, the pixels are not
    return folder


def test_corrupt_images_are_named_or_skipped_and_counted(damaged, capsys):
    with pytest.raises(ValueError, match=r"0[12]\.png is not a readable image.*--skip_corrupt_images"):
        [contents(split) for split in load_images(ImageArguments(dataset=str(damaged))).values()]
    splits = load_images(ImageArguments(dataset=str(damaged), skip_corrupt_images=True))
    said = capsys.readouterr().out
    assert "2 of 60 train images cannot be used" in said and "01.png" in said and "02.png" in said
    assert sum(len(contents(split)) for split in splits.values()) == 58
    splits = load_images(ImageArguments(dataset=str(damaged), skip_corrupt_images=True, streaming=True))
    assert sum(len(contents(split)) for split in splits.values()) == 58
    said = capsys.readouterr().out
    assert said.count("class 1/01.png is not a readable image") == 1 and "--skip_corrupt_images" not in said
    with pytest.raises(ValueError, match="image 3 is missing"):
        open_image({"bytes": None, "path": None}, "image 3")
    with pytest.raises(ValueError, match=r"image 3 is not .*\(cannot identify image file\);.*in a new --output_dir"):
        open_image({"bytes": b"no image", "path": None}, "image 3")


@pytest.mark.parametrize("name", ["validation", "test"])
def test_the_first_image_of_every_split_is_checked(files, tmp_path, capsys, name):
    for mode, message in (("RGB", "the first .* image is coloured"), ("LA", None)):
        path = parquet(tmp_path / f"{mode}.parquet", rows(9, mode=mode))
        given = {n: parquet(tmp_path / f"{n}.parquet", rows(60, mode="L", first=99)) for n in ("train_file",)}
        given |= {f"{n}_file": parquet(tmp_path / f"{n}.parquet", rows(9, mode="L")) for n in ("validation", "test")}
        data = ImageArguments(**given | {f"{name}_file": path}, num_channels=1)
        if message is None:
            load_images(data)
            assert capsys.readouterr().out.count("alpha channel; it is dropped") == 1
        else:
            with pytest.raises(ValueError, match=message):
                load_images(data)


def test_images_without_class_folders_are_told_of_them(tmp_path):
    for folder in (tmp_path / "flat", tmp_path / "one" / "train" / "cat"):
        folder.mkdir(parents=True)
        picture(0).save(folder / "0.png")
    for name in ("flat", "one"):
        with pytest.raises(ValueError, match="must be in class folders, at least two"):
            load_images(ImageArguments(dataset=str(tmp_path / name)))


def test_a_stream_too_small_for_its_parts_is_refused(tmp_path):
    path = parquet(tmp_path / "few.parquet", rows(3))
    with pytest.raises(ValueError, match="there are no (validation|test) images"):
        load_images(ImageArguments(train_file=path, streaming=True))
    stream = rows(30).cast_column("image", Image(decode=False)).to_iterable_dataset()
    with pytest.raises(ValueError, match=r"the weights' part .* has \d+ images, one batch is 28"):
        split_for_search(stream, 0.5, seed=0, batch=28)


def test_grey_becomes_colour_and_is_said_once_but_colour_not_grey(tmp_path, files, capsys):
    path = parquet(tmp_path / "grey.parquet", rows(60, mode="L"))
    splits = load_images(ImageArguments(train_file=path))
    assert capsys.readouterr().out.count("grey") == 1
    assert to_channels(open_image(splits["train"][0]["image"], ""), 3, "").mode == "RGB"
    assert load_images(ImageArguments(train_file=path, num_channels=1)) and "grey" not in capsys.readouterr().out
    load_images(ImageArguments(**files))
    assert "grey" not in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"coloured \(mode RGB\), num_channels=1"):
        load_images(ImageArguments(**files, num_channels=1))
    with pytest.raises(ValueError, match="image 5 has mode I;16, more than 8 bits"):
        to_channels(PILImage.fromarray(np.zeros((2, 2), np.uint16)), 3, "image 5")


def test_sizes_must_fit(tmp_path):
    table = {"image": [picture(n, size=(8, 6)) for n in range(60)], "label": [n % 3 for n in range(60)]}
    path = parquet(tmp_path / "wide.parquet", Dataset.from_dict(table, rows(3).features))
    splits = load_images(ImageArguments(train_file=path))
    with pytest.raises(ValueError, match="8 wide and 6 high.*--image_size"):
        resolve_image_size(ImageArguments(train_file=path), splits)
    assert resolve_image_size(ImageArguments(train_file=path, image_size=16), splits) == 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_size": 0}, "image_size=0"),
        ({"num_channels": 4}, "num_channels=4 must be 1"),
        ({"image_mean": [0.5, 0.5]}, "image_mean=.*one for each of 3"),
        ({"image_std": [0.0]}, "image_std=.*above 0"),
        ({"eval_crop": 0.0}, "eval_crop=0.0"),
        ({"classes": 1}, "classes=1"),
        ({"dataset": "a", "train_file": "b.parquet"}, "choose one"),
        ({"test_file": "b.parquet"}, "need a train_file"),
        ({"samples_per_class": 2, "max_train_samples": 5}, "choose one"),
        ({"samples_per_class": 2, "streaming": True}, "leave out --streaming"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        ImageArguments(**settings)


def test_sources_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "train.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match=r"train.csv must be an existing file ending in .parquet"):
        load_images(ImageArguments(train_file=str(tmp_path / "train.csv")))
    with pytest.raises(ValueError, match="'somebody/something' could not be loaded"):
        load_images(ImageArguments(dataset="somebody/something"))
    with pytest.raises(ValueError, match="could not be loaded"):
        load_images(ImageArguments(dataset=str(tmp_path / "nothing")))


def test_files_of_one_archive_are_told_apart():
    cells = [{"bytes": None, "path": f"zip://class 1/{n}.png::hf://datasets/a/b/train.zip"} for n in range(100)]
    stream = Dataset.from_dict({"image": cells}).to_iterable_dataset()
    weights, arch = split_for_search(stream, 0.5, seed=0)
    parts = [{row["image"]["path"] for row in part} for part in (weights, arch)]
    assert min(len(part) for part in parts) > 30 and len(set.union(*parts)) == 100


def folder_of(root, files: dict[str, int]):
    """A folder of pictures: place -> how many, each with a number of its own."""
    number = 0
    for place, count in files.items():
        (root / place).mkdir(parents=True, exist_ok=True)
        for n in range(count):
            picture(number).save(root / place / f"old train {n}.png")
            number += 1
    return root


def counts(splits) -> dict[str, tuple[int, list[str]]]:
    return {name: (sum(1 for _ in split), class_names(splits)) for name, split in splits.items()}


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("files", "sizes"),
    [
        (("train/{}", "test/{}", "val/{}"), (40, 6, 8)),
        (("Training/{}", "Testing/{}", "Dev/{}"), (40, 6, 8)),
        (("archive [1]/TRAIN/{}", "archive [1]/eval/{}", "archive [1]/valid/{}"), (40, 6, 8)),
        (("{}", "__MACOSX/{}"), None),  # the class folders come first: all is train
        (("photos/{}",), None),
    ],
)
def test_only_first_folders_are_splits(tmp_path, files, sizes, streaming, capsys):
    classes = ("dev", "test", "train", "truck")  # which are no splits here
    numbers = dict(zip(files, (10, 6, 2) if sizes is None else (10, 1.5, 2), strict=False))
    folder_of(
        tmp_path, {place.format(c): int(n + (c in classes[:2]) / 2) for place, n in numbers.items() for c in classes}
    )
    found = counts(load_images(ImageArguments(dataset=str(tmp_path), streaming=streaming)))
    assert all(names == list(classes) for _, names in found.values())
    if sizes is None:
        assert sum(size for size, _ in found.values()) == 40
    else:
        assert (found["train"][0], found["test"][0], found["validation"][0]) == sizes
        assert streaming or "train: 40 images of 4 classes; validation: 8 images" in capsys.readouterr().out


@pytest.mark.parametrize("place", ["test", "test/test", "test/unknown"])
def test_unlabelled_images_beside_labelled_ones_are_left_out(tmp_path, capsys, place):
    folder_of(tmp_path, {"train/cat": 20, "train/dog": 20, place: 7})
    found = counts(load_images(ImageArguments(dataset=str(tmp_path))))
    assert found == {"train": (36, ["cat", "dog"]), "validation": (2, ["cat", "dog"]), "test": (2, ["cat", "dog"])}
    assert "the 7 images of test, which are not in class folders" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"no labels; sort them into \['cat', 'dog'\], or .*--test_split cut"):
        load_images(ImageArguments(dataset=str(tmp_path), test_split="test"))


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({"train": 9, "test": 9}, {}, "the train images of .* must be in class folders, at least two"),
        ({"train/cat": 9, "test/cat": 9, "test/dog": 9}, {}, "the train images of .* must be in class folders"),
        ({"train/cat": 9, "train/dog": 9, "test/cat": 5}, {}, r"test has no image of 1 of 2 classes: \['dog'\]"),
        ({"train/cat": 9, "train/dog": 9, "test/cat": 5, "test/cow": 5}, {}, r"train has no image .* \['cow'\]"),
        ({"val/cat": 9, "val/dog": 9}, {}, r"has splits \['val'\], none is 'train'; use --train_split"),
        ({"val/cat": 9, "val/dog": 9}, {"train_split": "Val"}, None),
    ],
)
def test_splits_that_do_not_fit_are_named(tmp_path, files, options, message):
    folder = ImageArguments(dataset=str(folder_of(tmp_path, files)), **options)
    if message is None:
        assert counts(load_images(folder))["train"] == (14, ["cat", "dog"])
    else:
        with pytest.raises(ValueError, match=message):
            load_images(folder)


def test_what_is_of_no_split_is_said_and_kinds_are_not_mixed(tmp_path, capsys):
    folder_of(tmp_path, {"train/cat": 9, "train/dog": 9, "more/cat": 5})
    load_images(ImageArguments(dataset=str(tmp_path)))
    assert "of no split by their name or first folder: more/cat/old train 0.png" in capsys.readouterr().out
    for name in ("train.parquet", "train.zip"):
        (tmp_path / name).write_bytes(b"?")
        with pytest.raises(ValueError, match=f"it holds .*1 {name[5:]}.*and no archives"):
            load_images(ImageArguments(dataset=str(tmp_path)))
        (tmp_path / name).unlink()


def test_a_table_beside_the_pictures_has_their_labels(tmp_path):
    def table(place, files) -> None:
        lines = [json.dumps({"file_name": file, "kind": "ab"[n % 2]}) for n, file in enumerate(files)]
        (tmp_path / place / "metadata.jsonl").write_text("\n".join(lines))

    folder_of(tmp_path, {"all/pictures": 40, "parts/train": 40, "parts/test": 4})
    table("all", [f"pictures/old train {n}.png" for n in range(40)])
    assert counts(load_images(ImageArguments(dataset=str(tmp_path / "all"))))["train"] == (36, ["a", "b"])
    for place, size in (("train", 40), ("test", 4)):
        table(f"parts/{place}", [f"old train {n}.png" for n in range(size)])
    parts = ImageArguments(dataset=str(tmp_path / "parts"))
    found = {"train": (38, ["a", "b"]), "validation": (2, ["a", "b"]), "test": (4, ["a", "b"])}
    assert counts(load_images(parts)) == found
    table("parts", ["train/old train 1.png", "test/old train 1.png"])
    with pytest.raises(ValueError, match="metadata.jsonl of .* lies beside the folders of the splits"):
        load_images(parts)


def test_a_file_of_two_splits_is_refused(files, tmp_path):
    with pytest.raises(ValueError, match="train.parquet is in train and in test"):
        load_images(ImageArguments(**files | {"test_file": files["train_file"]}))
    parts = [parquet(tmp_path / f"{n}.parquet", rows(30, first=30 * n)) for n in (1, 2)]
    assert sum(size for size, _ in counts(load_images(ImageArguments(train_file=parts))).values()) == 60


def test_each_part_has_an_image_of_the_rarest_class(tmp_path):
    labels_ = [0] * 150 + [1] * 150 + [2] * 6
    table = {"image": [picture(n) for n in range(306)], "label": labels_}
    path = parquet(tmp_path / "x.parquet", Dataset.from_dict(table, rows(3).features))
    for seed in range(2):
        splits = load_images(ImageArguments(train_file=path, data_seed=seed))
        parts = [*split_for_search(splits["train"], 0.8, seed), splits["validation"], splits["test"]]
        assert [len(splits[name]) for name in ("train", "validation", "test")] == [277, 15, 14]
        assert all(np.bincount(labels(part), minlength=3).min() > 0 for part in parts)
        assert len(set().union(*(contents(part) for part in parts))) == 306


def test_classes_without_images_are_dropped_and_said(tmp_path, capsys):
    names = ClassLabel(names=["N/A", "a", "b", "none", "c"])
    table = {"image": [picture(n) for n in range(60)], "label": [(1, 2, 4)[n % 3] for n in range(60)]}
    path = parquet(tmp_path / "x.parquet", Dataset.from_dict(table, Features({"image": Image(), "label": names})))
    splits = load_images(ImageArguments(train_file=path))
    assert class_names(splits) == ["a", "b", "c"]
    assert "2 of 5 classes have no image and are dropped: N/A, none" in capsys.readouterr().out
    for split in splits.values():
        for row in split:
            number = next(n for n in range(60) if picture(n).tobytes() == contents([row])[0])
            assert row["label"] == number % 3


def png(number: int) -> bytes:
    buffer = io.BytesIO()
    picture(number).save(buffer, "png")
    return buffer.getvalue()


PNGS = [png(number) for number in range(60)]
CELLS = [{"bytes": content, "path": "x.png", "height": 6} for content in PNGS]
NUMBERS = [number % 2 for number in range(60)]


@pytest.mark.parametrize(
    ("image", "label", "names"),
    [
        (pa.array(CELLS), pa.array(["ab"[n] for n in NUMBERS], pa.large_string()), ["a", "b"]),
        (pa.array(PNGS), pa.array(["ab"[n] for n in NUMBERS], pa.string_view()), ["a", "b"]),
        (pa.array(PNGS, pa.large_binary()), pa.array(NUMBERS).cast(pa.bool_()), ["False", "True"]),
        (pa.array([{"bytes": content} for content in PNGS]), pa.array(NUMBERS, pa.float64()), ["0", "1"]),
        (pa.array(CELLS), pa.array(NUMBERS, pa.uint8()), ["0", "1"]),
    ],
)
def test_columns_of_other_libraries_are_read(tmp_path, image, label, names):
    pa.parquet.write_table(pa.table({"image": image, "label": label}), tmp_path / "x.parquet")
    splits = load_images(ImageArguments(train_file=str(tmp_path / "x.parquet")))
    assert class_names(splits) == names
    found = [
        (pixels, row["label"]) for split in splits.values() for pixels, row in zip(contents(split), split, strict=True)
    ]
    assert sorted(found) == sorted((picture(n).tobytes(), n % 2) for n in range(60))


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (
            pa.array([[n, 3] for n in NUMBERS]),
            r"'label' holds lists of numbers \(int64\): several labels for an image",
        ),
        (pa.array([n + 0.5 for n in NUMBERS]), "have the label 0.5; numbers of classes are whole"),
        (pa.array([None, *map(float, NUMBERS[1:])]), "1 of 60 train images have no label"),
        (pa.array([b"a"] * 60), r"none holds labels|label_column='label' holds bytes, no labels"),
    ],
)
def test_labels_of_something_else_are_named(tmp_path, label, message):
    pa.parquet.write_table(pa.table({"image": pa.array(CELLS), "label": label}), tmp_path / "x.parquet")
    for column in (None, "label"):
        with pytest.raises(ValueError, match=message):
            load_images(ImageArguments(train_file=str(tmp_path / "x.parquet"), label_column=column))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"dataset": "photos.zip"}, "photos.zip is an archive; unpack it"),
        ({"dataset": "https://x.org/photos"}, "is a URL"),
        ({"train_file": "https://x.org/a.parquet"}, "is a URL"),
        ({"train_file": "photos"}, "class folders of images go to --dataset"),
    ],
)
def test_names_that_are_no_images_are_refused(tmp_path, monkeypatch, given, message):
    (tmp_path / "photos.zip").write_bytes(b"?")
    folder_of(tmp_path / "photos", {"cat": 1, "dog": 1})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_images(ImageArguments(**given))


def test_the_folder_one_is_in(tmp_path, monkeypatch):
    monkeypatch.chdir(folder_of(tmp_path / "photos", {"cat": 20, "dog": 20}))
    assert counts(load_images(ImageArguments(dataset=".")))["train"] == (36, ["cat", "dog"])
    assert describe(ImageArguments(dataset=".")) == "photos"


@pytest.mark.parametrize("streaming", [False, True])
def test_a_later_image_of_another_kind_is_left_out(tmp_path, monkeypatch, capsys, streaming):
    folder_of(tmp_path, {"cat": 60, "dog": 60})
    PILImage.fromarray(np.zeros((6, 6), np.uint16)).save(tmp_path / "dog" / "old train 7.png")
    upright = image_files.ImageOps.exif_transpose

    def refuse_one(image):
        if image.tobytes() == picture(3).tobytes():
            struct.pack("I", "x")  # as Pillow does with some damaged EXIF tags
        return upright(image)

    monkeypatch.setattr(image_files.ImageOps, "exif_transpose", refuse_one)
    splits = load_images(ImageArguments(dataset=str(tmp_path), skip_corrupt_images=True, streaming=streaming))
    assert sum(size for size, _ in counts(splits).values()) == 118
    said = capsys.readouterr().out
    assert "old train 3.png is not a readable image" in said and "old train 7.png has mode I" in said


def class_folders(folder, *classes, count: int = 30) -> None:
    for name in classes:
        for number in range(count):
            path = folder / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture(zlib.crc32(str(path).encode())).save(path)


def test_a_class_folder_may_be_a_link_but_not_into_another_split(tmp_path):
    for split in ("train", "val", "test"):
        class_folders(tmp_path / "d" / split, "cat", "dog")
        class_folders(tmp_path / "elsewhere" / split, "emu")
        (tmp_path / "d" / split / "emu").symlink_to(tmp_path / "elsewhere" / split / "emu")
    splits = load_images(ImageArguments(dataset=str(tmp_path / "d")))
    assert class_names(splits) == ["cat", "dog", "emu"] and [len(split) for split in splits.values()] == [90] * 3
    class_folders(tmp_path / "flat", "cat", "dog")
    (tmp_path / "flat" / "emu").symlink_to(tmp_path / "elsewhere" / "train" / "emu")
    assert class_names(load_images(ImageArguments(dataset=str(tmp_path / "flat")))) == ["cat", "dog", "emu"]
    (tmp_path / "d" / "dev").symlink_to("val")  # another name of the same
    assert len(load_images(ImageArguments(dataset=str(tmp_path / "d")))["validation"]) == 90
    (tmp_path / "d" / "test" / "emu").unlink()
    (tmp_path / "d" / "test" / "emu").symlink_to("../train/emu")
    with pytest.raises(ValueError, match="emu is in test and in train|emu is in train and in test"):
        load_images(ImageArguments(dataset=str(tmp_path / "d")))
