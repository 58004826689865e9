"""Made-up inputs of a model: what a forward pass needs where there are no data at hand."""

import torch
from torch import Tensor
from transformers import PreTrainedModel


def example_inputs(
    supernet: PreTrainedModel, *, batch_size: int = 1, sequence_length: int | None = None
) -> dict[str, Tensor]:
    """Arguments of one forward pass: counting tokens, or random images; on the supernet's device, images in its type.

    Args:
        supernet: An `Elastic*` model, or a subnet.
        batch_size: Sequences, or images.
        sequence_length: Tokens of a sequence; 64, or as many as there are positions, if None. Images have none.

    Raises:
        ValueError: There would be no example, or a sequence has more tokens than the net has positions.
    """
    config = supernet.config
    if batch_size < 1:
        raise ValueError(f"batch_size={batch_size} must be at least 1")
    if supernet.main_input_name == "pixel_values":
        size = config.image_size
        height, width = (size, size) if isinstance(size, int) else size
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(batch_size, config.num_channels, height, width, generator=generator)
        return {"pixel_values": images.to(supernet.device, supernet.dtype)}
    positions = getattr(config, "max_position_embeddings", None)  # recurrent nets, and those with ALiBi, have none
    length = min(64, positions or 64) if sequence_length is None else sequence_length
    if not 1 <= length <= (positions or length):
        raise ValueError(f"sequence_length={length} must be between 1 and the {positions} positions of the net")
    tokens = torch.arange(batch_size * length, device=supernet.device) % config.vocab_size
    return {"input_ids": tokens.view(batch_size, length)}
