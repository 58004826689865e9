"""Search a Llama, Mistral, Qwen2 or Qwen3 space with entangled weights and export what it finds as a plain checkpoint.

    accelerate launch recipes/search_llama.py                                     # embedded text, a few minutes on a CPU
    accelerate launch recipes/search_llama.py --model_type qwen3 --output_dir runs/qwen3
    accelerate launch recipes/search_llama.py --config recipes/configs/tinystories_small_llama.yaml --dry_run
    accelerate launch recipes/search_llama.py --config recipes/configs/smollm2_135m.yaml --dry_run
    accelerate launch recipes/search_llama.py --max_params 50% --output_dir runs/half       # at most half the parameters
    accelerate launch recipes/search_llama.py --pareto params --output_dir runs/front       # nets of many sizes

Continue a stopped run with the same command and --resume.
"""

from dataclasses import dataclass
from functools import partial

from transformers import PreTrainedConfig

from tangle_hf import (
    ElasticLlamaForCausalLM,
    ElasticMistralForCausalLM,
    ElasticQwen2ForCausalLM,
    ElasticQwen3ForCausalLM,
)
from tangle_hf.data.text_examples import load_text
from tangle_hf.data.text_settings import DataArguments, of_checkpoint
from tangle_hf.errors import readable_errors
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.space_settings import LlamaSpaceArguments, search_space
from tangle_hf.models.spaces import default_range
from tangle_hf.runs.dry_runs import dry_run, made_up_text
from tangle_hf.runs.reports import report
from tangle_hf.runs.run import Run
from tangle_hf.runs.search import find
from tangle_hf.runs.text_supernets import from_checkpoint, text_supernet
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse, with_default


SUPERNETS = {
    "llama": ElasticLlamaForCausalLM,
    "mistral": ElasticMistralForCausalLM,
    "qwen2": ElasticQwen2ForCausalLM,
    "qwen3": ElasticQwen3ForCausalLM,
}


@dataclass
class LlamaSearchArguments(SearchArguments):
    """The trainer's settings, in a folder of this recipe."""

    output_dir: str = with_default(SearchArguments, "output_dir", "runs/search_llama")


def main(space: LlamaSpaceArguments, data: DataArguments, settings: SearchArguments, hub: SearchHubArguments) -> None:
    """The whole run: data, supernet, search, report."""
    kind, make_config = SUPERNETS[space.model_type], partial(supernet_config, space, data.block_size)
    config = make_config(vocab_size=data.vocab_size or 50257)  # an error is said before any text is read
    with Run(space, data, settings, hub) as run:
        if settings.dry_run:
            example = made_up_text(config.vocab_size, data.block_size)
            return dry_run(kind(config), settings, run.accelerator, example, "tokens", data.block_size)
        dropouts = {} if space.attention_dropout is None else {"attention_dropout": space.attention_dropout}
        started = from_checkpoint(kind, config, settings.start_from, data.block_size, dropouts)
        if started is not None:
            data = of_checkpoint(data, settings.start_from, started.config.vocab_size)
        with run.accelerator.main_process_first():
            text = load_text(data)
        supernet = text_supernet(kind, make_config, data, text.processor, started)
        weights, architecture = text.split(settings.train_portion, settings.seed)
        found = find(run, supernet, text, weights, architecture)
        if found is not None:  # None: stopped, or another process reports
            report(run, supernet, text, found)


def supernet_config(
    arguments: LlamaSpaceArguments, block_size: int, vocab_size: int, **special_tokens
) -> PreTrainedConfig:
    """The supernet's config of these arguments."""
    per_layer = ["intermediate_size", "num_key_value_heads", "num_key_value_groups"]
    return SUPERNETS[arguments.model_type].config_class(
        space=search_space(arguments, ["hidden_size", "num_hidden_layers"], per_layer),
        vocab_size=vocab_size,
        max_position_embeddings=block_size,
        head_dim=arguments.head_dim,
        layer_ranks=arguments.layer_ranks or None,
        tie_word_embeddings=arguments.tie_word_embeddings,
        attention_dropout=arguments.attention_dropout or 0.0,
        initializer_range=arguments.initializer_range or default_range(max(arguments.hidden_size)),
        **special_tokens,
    )


if __name__ == "__main__":
    with readable_errors():
        main(*parse(LlamaSpaceArguments, DataArguments, LlamaSearchArguments, SearchHubArguments, description=__doc__))
