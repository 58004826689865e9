"""Arguments: the command line wins over the file, unknown keys are refused, every ready config is readable."""

import re
from pathlib import Path

import pytest
import search_cnn
import search_gpt
import search_vit
import torch

from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.text import DataArguments
from tangle_hf.models.space_settings import ConvSpaceArguments, SpaceArguments, ViTSpaceArguments
from tangle_hf.models.vit.spaces_vit import AUTOFORMER_B, AUTOFORMER_HEAD_DIM, AUTOFORMER_S, AUTOFORMER_T
from tangle_hf.runs.image_search import SmallAugmentationArguments
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse, read_config


KINDS = (SpaceArguments, DataArguments, SearchArguments)
IMAGE_KINDS = (
    ViTSpaceArguments,
    ImageArguments,
    SmallAugmentationArguments,
    search_vit.ImageSearchArguments,
)
CONV_KINDS = (
    ConvSpaceArguments,
    search_cnn.ConvImageArguments,
    SmallAugmentationArguments,
    search_cnn.ConvSearchArguments,
)
CONFIGS = sorted((Path(__file__).parents[2] / "recipes" / "configs").glob("*.yaml"))


def test_the_command_line_wins_over_the_file_and_the_file_over_defaults(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("n_embd: [32, 64]\nlearning_rate: 5e-4\nmax_steps: 7\n")
    space, data, settings = parse(*KINDS, argv=["--config", str(path), "--max_steps", "9"])
    assert (space.n_embd, settings.learning_rate, settings.max_steps) == ([32, 64], 5e-4, 9)
    assert settings.method == "drnas" and data.block_size == 128


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_step: 3", "max_step.*did you mean max_steps"),
        ("max_steps: many", "whole number"),
        ("n_embd: 64", "list"),
        ("- 3", "key: value"),
        ("method: adam", "adam"),
    ],
)
def test_bad_files_are_refused(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        parse(*KINDS, argv=["--config", str(path)])


def test_unknown_flags_and_missing_files_are_refused():
    with pytest.raises(ValueError, match="max_stepz"):
        parse(*KINDS, argv=["--max_stepz", "3"])
    with pytest.raises(ValueError, match="no such file"):
        parse(*KINDS, argv=["--config", "missing.yaml"])


def test_help_lists_every_field(capsys):
    with pytest.raises(SystemExit):
        parse(*KINDS, argv=["--help"], description="The recipe.")
    text = capsys.readouterr().out
    assert "The recipe." in text and "--arch_learning_rate" in text and "--n_embd" in text


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_ready_configs_are_complete_settings_of_a_space_that_can_be(path):
    (recipe,) = set(re.findall(r"recipes/(search_\w+)\.py --config recipes/configs/" + path.name, path.read_text()))
    kinds = {"search_gpt": KINDS, "search_vit": IMAGE_KINDS, "search_cnn": CONV_KINDS}[recipe]
    assert read_config(path, *kinds)
    space, data, *_, settings = parse(*kinds, argv=["--config", str(path)])
    if recipe == "search_gpt":
        config = search_gpt.supernet_config(space, data.block_size, data.vocab_size)
    elif recipe == "search_vit":
        config = search_vit.supernet_config(space, data.num_channels, data.image_size or 8, ["a", "b"])
    else:
        space.start_from = None  # what another run has to write first
        with torch.device("meta"):
            config = search_cnn.supernet_for(space, data.num_channels, data.image_size, ["a", "b"]).config
    assert config.space.size > 1 and settings.max_steps > 0


@pytest.mark.parametrize(("name", "kinds"), [("small.yaml", KINDS), ("small_vit.yaml", IMAGE_KINDS)])
def test_small_configs_are_the_defaults(name, kinds):
    small = parse(*kinds, argv=["--config", str(next(path for path in CONFIGS if path.name == name))])
    assert small == parse(*kinds, argv=[])


@pytest.mark.parametrize(("name", "space"), [("tiny", AUTOFORMER_T), ("small", AUTOFORMER_S), ("base", AUTOFORMER_B)])
def test_autoformer_configs_are_the_librarys_spaces_on_all_classes(name, space):
    path = next(path for path in CONFIGS if path.name == f"autoformer_{name}_imagenet.yaml")
    arguments, data, augmentation, settings = parse(*IMAGE_KINDS, argv=["--config", str(path)])
    config = search_vit.supernet_config(arguments, 3, data.image_size, [str(n) for n in range(data.classes)])
    assert config.space == space and config.head_dim == AUTOFORMER_HEAD_DIM
    assert (config.num_patches, config.num_labels, config.patch_size) == (196, 1000, 16)
