"""Checkpoints that cannot be read: one error that names them, whichever library met it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pickle import UnpicklingError

from safetensors import SafetensorError


@contextmanager
def reading_checkpoint(option: str, checkpoint: str) -> Iterator[None]:
    """Within it, a checkpoint that is missing, incomplete or damaged is an error of the user.

    Args:
        option: The setting that names the checkpoint.
        checkpoint: Folder or Hub name.

    Raises:
        ValueError: It cannot be read.
    """
    try:
        yield
    except (OSError, SafetensorError, UnpicklingError) as error:
        raise ValueError(
            f"{option}={checkpoint} could not be loaded ({' '.join(str(error).split())}); give a folder that "
            "save_pretrained wrote, with config.json and the weights, or a Hub name"
        ) from error
