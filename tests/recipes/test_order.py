"""What is wrong with a search space is said before any data are read."""

import pytest
import search_cnn
import search_gpt
import search_vit
from transformers import GPT2Config, GPT2LMHeadModel

from tangle_hf.data.text_settings import DataArguments
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.space_settings import ConvSpaceArguments, SpaceArguments, ViTSpaceArguments
from tangle_hf.runs import image_search
from tangle_hf.runs.image_search import SmallAugmentationArguments
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse


TEXT = (SpaceArguments, DataArguments, SearchArguments, SearchHubArguments)
VIT = (ViTSpaceArguments, search_vit.ImageArguments, SmallAugmentationArguments, search_vit.ImageSearchArguments)
CNN = (ConvSpaceArguments, search_cnn.ConvImageArguments, SmallAugmentationArguments, search_cnn.ConvSearchArguments)


@pytest.fixture
def no_data(monkeypatch):
    def read(*_):
        raise AssertionError("data were read before the space was checked")

    monkeypatch.setattr("tangle_hf.data.text_examples.load_texts", read)
    monkeypatch.setattr(image_search, "load_images", read)


@pytest.mark.parametrize(
    ("recipe", "kinds", "argv", "message"),
    [
        (search_gpt, TEXT, ["--n_embd", "65", "--n_head", "2"], "n_embd=65 is not divisible"),
        (search_gpt, TEXT, ["--n_embd", "64", "--n_head", "2", "--start_from", "nowhere"], "start_from"),
        (search_gpt, TEXT, ["--start_from", "CHECKPOINT", "--block_size", "64"], "n_embd|8 positions, block_size=64"),
        (search_vit, VIT, ["--hidden_size", "65", "--num_attention_heads", "2"], "hidden_size=65 is not divisible"),
        (search_vit, VIT, ["--image_size", "9", "--patch_size", "2"], "patches of 2 pixels do not divide"),
        (search_cnn, CNN, ["--space", "nothing"], "space='nothing' is unknown"),
        (search_cnn, CNN, ["--kernel_size", "4"], "4"),
        (search_cnn, CNN, ["--table", "nothing.csv"], "nothing.csv"),
        (
            search_cnn,
            CNN,
            ["--space", "darts", "--num_cells", "3", "--max_flops", "50%"],
            "max_flops: chosen are the operations",
        ),
    ],
)
def test_the_space_comes_before_the_data(tmp_path, no_data, recipe, kinds, argv, message):
    if "CHECKPOINT" in argv:
        config = GPT2Config(n_embd=128, n_layer=4, n_head=4, n_positions=8, vocab_size=300)
        GPT2LMHeadModel(config).save_pretrained(tmp_path / "checkpoint")
        argv = [str(tmp_path / "checkpoint") if word == "CHECKPOINT" else word for word in argv]
    kinds = kinds if SearchHubArguments in kinds else (*kinds, SearchHubArguments)
    with pytest.raises(ValueError, match=message):
        recipe.main(*parse(*kinds, argv=["--output_dir", str(tmp_path / "run"), *argv]))
    assert not (tmp_path / "run").exists()
