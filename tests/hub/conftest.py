"""Finished runs of the recipes on tiny spaces, and a Hub on the loopback device."""

import shutil

import huggingface_hub.utils._http
import pytest
import search_gpt
import search_vit
from huggingface_hub import constants
from loopback_hub import LoopbackHub
from search_vit import ImageSearchArguments

from tangle_hf.data.images.settings import ImageArguments
from tangle_hf.data.text_settings import DataArguments as TextArguments
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.space_settings import SpaceArguments, ViTSpaceArguments
from tangle_hf.runs.image_search import SmallAugmentationArguments
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse


RECIPES = {
    "gpt2": (search_gpt, (SpaceArguments, TextArguments, SearchArguments, SearchHubArguments)),
    "vit": (
        search_vit,
        (ViTSpaceArguments, ImageArguments, SmallAugmentationArguments, ImageSearchArguments, SearchHubArguments),
    ),
}
TINY = {
    "gpt2": ["--n_embd", "16", "32", "--n_layer", "2", "--head_dim", "16", "--n_head", "1", "2", "--block_size", "32",
             "--vocab_size", "300"],
    "vit": ["--hidden_size", "16", "32", "--num_hidden_layers", "2", "--patch_size", "4", "--samples_per_class", "20"],
}  # fmt: skip
SHORT = ["--max_steps", "2", "--per_device_batch_size", "4", "--eval_batches", "1", "--warmup_steps", "1",
         "--logging_steps", "1"]  # fmt: skip


def run_recipe(family, folder, *options):
    """A search of two steps, by the recipe."""
    recipe, kinds = RECIPES[family]
    recipe.main(*parse(*kinds, argv=["--output_dir", str(folder), *TINY[family], *SHORT, *options]))


@pytest.fixture(scope="session")
def text_files(tmp_path_factory):
    """Options that name a small text."""
    path = tmp_path_factory.mktemp("text") / "lines.txt"
    path.write_text("".join(f"line {i} of a small text.\n" for i in range(400)))
    return ["--train_file", str(path)]


@pytest.fixture(scope="session")
def finished(tmp_path_factory, text_files):
    """Family -> folder of a finished run; not to be changed."""
    folder = tmp_path_factory.mktemp("runs")
    run_recipe("gpt2", folder / "gpt2", *text_files, "--license", "apache-2.0")
    run_recipe("vit", folder / "vit", "--max_params", "90%")
    return {family: folder / family for family in RECIPES}


@pytest.fixture(params=sorted(RECIPES))
def run(request, finished, tmp_path):
    """A copy of a finished run, of each family."""
    return shutil.copytree(finished[request.param], tmp_path / request.param)


@pytest.fixture
def gpt2_run(finished, tmp_path):
    """A copy of a finished GPT-2 run."""
    return shutil.copytree(finished["gpt2"], tmp_path / "gpt2")


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A new Hub that this process talks to, with a token that may write."""
    with LoopbackHub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the server has the older way for large files only
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(huggingface_hub.utils._http.time, "sleep", lambda seconds: None)  # between attempts
        monkeypatch.setenv("HF_TOKEN", "write")
        yield server
