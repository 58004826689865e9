"""Search a GPT-2 space with entangled weights and export what it finds as a plain checkpoint.

    accelerate launch recipes/search_gpt.py                                       # embedded text, a few minutes on a CPU
    accelerate launch recipes/search_gpt.py --train_file austen/train.txt --validation_file austen/validation.txt \\
        --test_file austen/test.txt --output_dir runs/austen
    accelerate launch recipes/search_gpt.py --config recipes/configs/tinystories_small_lm.yaml --dry_run
    accelerate launch recipes/search_gpt.py --max_params 50% --output_dir runs/half         # at most half the parameters
    accelerate launch recipes/search_gpt.py --pareto params --output_dir runs/front         # nets of many sizes
    accelerate launch recipes/search_gpt.py --push_to_hub --hub_model_id me/found            # publish it with its card

Continue a stopped run with the same command and --resume.
"""

from functools import partial

from tangle_hf import ElasticGPT2Config, ElasticGPT2LMHeadModel
from tangle_hf.data.text_examples import load_text
from tangle_hf.data.text_settings import DataArguments, of_checkpoint
from tangle_hf.errors import readable_errors
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.space_settings import SpaceArguments, search_space
from tangle_hf.runs.dry_runs import dry_run, made_up_text
from tangle_hf.runs.reports import report
from tangle_hf.runs.run import Run
from tangle_hf.runs.search import find
from tangle_hf.runs.text_supernets import from_checkpoint, text_supernet
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse


DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def main(space: SpaceArguments, data: DataArguments, settings: SearchArguments, hub: SearchHubArguments) -> None:
    """The whole run: data, supernet, search, report."""
    make_config = partial(supernet_config, space, data.block_size)
    config = make_config(vocab_size=data.vocab_size or 50257)  # an error is said before any text is read
    with Run(space, data, settings, hub) as run:
        if settings.dry_run:
            example = made_up_text(config.vocab_size, data.block_size)
            return dry_run(
                ElasticGPT2LMHeadModel(config), settings, run.accelerator, example, "tokens", data.block_size
            )
        dropouts = {} if space.dropout is None else dict.fromkeys(DROPOUTS, space.dropout)
        started = from_checkpoint(ElasticGPT2LMHeadModel, config, settings.start_from, data.block_size, dropouts)
        if started is not None:
            data = of_checkpoint(data, settings.start_from, started.config.vocab_size)
        with run.accelerator.main_process_first():
            text = load_text(data)
        supernet = text_supernet(ElasticGPT2LMHeadModel, make_config, data, text.processor, started)
        weights, architecture = text.split(settings.train_portion, settings.seed)
        found = find(run, supernet, text, weights, architecture)
        if found is not None:  # None: stopped, or another process reports
            report(run, supernet, text, found)


def supernet_config(
    arguments: SpaceArguments, block_size: int, vocab_size: int, **special_tokens
) -> ElasticGPT2Config:
    """The supernet's config of these arguments."""
    space = search_space(arguments, ["n_embd", "n_layer"], ["n_head", "mlp_ratio"])
    dropouts = dict.fromkeys(DROPOUTS, arguments.dropout or 0.0)
    options = {"head_dim": arguments.head_dim, "superposition": arguments.superposition, "n_positions": block_size}
    options["layer_ranks"] = arguments.layer_ranks or None
    return ElasticGPT2Config(space=space, vocab_size=vocab_size, **options, **dropouts, **special_tokens)


if __name__ == "__main__":
    with readable_errors():
        main(*parse(SpaceArguments, DataArguments, SearchArguments, SearchHubArguments, description=__doc__))
