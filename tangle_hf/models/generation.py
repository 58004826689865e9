"""How a language model generates where the user does not say: lengths that fit, and what fills up a batch."""

import copy

from transformers import PreTrainedModel, PreTrainedTokenizerBase


# What transformers refuses to save in a generation config that was changed, unless it samples, or has several beams.
SAMPLING = ("temperature", "top_k", "top_p", "min_p", "top_h", "typical_p", "epsilon_cutoff", "eta_cutoff")
BEAMS = ("early_stopping", "length_penalty")


def set_generation_defaults(model: PreTrainedModel) -> None:
    """Sets the default number of new tokens and the pad token in a model's generation config, in place.

    The default of a pipeline, 256 new tokens, may go past the last position of a model. `min(256, positions // 2)` does not, as
    long as the prompt takes at most the other half. A `max_length` would hold for all prompts, but with it transformers warns
    at every call with `max_new_tokens`. The pad token is the end of text if there is none. Values that have no effect, as a
    temperature without sampling, are taken back: many a checkpoint has them, and a net that keeps them could not be saved.

    Args:
        model: A model that generates.
    """
    config = model.generation_config
    idle = () if config.do_sample else SAMPLING
    idle += () if (config.num_beams or 1) > 1 else BEAMS
    idle += () if config.return_dict_in_generate else config.extra_output_flags
    for name in idle:
        setattr(config, name, None)
    config.max_length = None
    if config.max_new_tokens is None:
        config.max_new_tokens = min(256, model.config.max_position_embeddings // 2)
    if config.pad_token_id is None or config.pad_token_id < 0:
        end = config.eos_token_id if config.eos_token_id is not None else model.config.eos_token_id
        config.pad_token_id = end[0] if isinstance(end, list) else end


def with_pad_token(processor):
    """A tokenizer that can fill up a batch: with its end of text, where it has no pad token. Others are returned unchanged."""
    if not isinstance(processor, PreTrainedTokenizerBase) or processor.pad_token is not None:
        return processor
    if processor.eos_token is None:
        return processor
    processor = copy.deepcopy(processor)
    processor.pad_token = processor.eos_token
    return processor
