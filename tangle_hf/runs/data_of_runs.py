"""The data of a finished search, cut into training, validation and test data as it had them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from ..data.examples import Examples
from ..data.text_examples import load_text
from ..data.text_settings import DataArguments
from .folder import from_settings


def examples_of(folder: Path, settings: Mapping[str, Any], supernet: PreTrainedModel) -> Examples:
    """The data of a run.

    Args:
        folder: Of the run.
        settings: Of the run, name -> value.
        supernet: Of the run.

    Raises:
        ValueError: The data cannot be read.
    """
    if supernet.main_input_name == "pixel_values":
        from .images_of_runs import load_images_of  # needs the extra vision

        return load_images_of(folder, settings, supernet)
    # The tokenizer is the one that the search trained or was given.
    own = {"tokenizer": str(folder / "supernet"), "vocab_size": 0}
    return load_text(replace(from_settings(DataArguments, settings), **own))
