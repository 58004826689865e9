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

import torch
from transformers import PreTrainedTokenizerBase

from tangle_hf import ElasticGPT2Config, ElasticGPT2LMHeadModel, flops
from tangle_hf.data.text import DataArguments, describe, load_texts, load_tokenizer, pack, split_for_search
from tangle_hf.evaluation import perplexity
from tangle_hf.hub.settings import SearchHubArguments
from tangle_hf.models.checkpoint_errors import reading_checkpoint
from tangle_hf.models.space_settings import SpaceArguments, search_space
from tangle_hf.runs.dry_runs import dry_run
from tangle_hf.runs.folder import defaults_of, settings_of
from tangle_hf.runs.search_run import readable_errors, run, start
from tangle_hf.runs.task import SearchTask
from tangle_hf.search import SearchArguments
from tangle_hf.settings import parse


def main(space: SpaceArguments, data: DataArguments, settings: SearchArguments, hub: SearchHubArguments) -> None:
    """The whole run: data, supernet, search, export, table."""
    parts = (space, data, settings, hub)
    resolved = settings_of(*parts)
    accelerator = start(settings, hub, resolved, defaults_of(*parts))
    block_size, batch_size = data.block_size, settings.per_device_batch_size
    if settings.dry_run:
        supernet = ElasticGPT2LMHeadModel(supernet_config(space, block_size, data.vocab_size or 50257))

        def example(generator: torch.Generator) -> dict[str, torch.Tensor]:
            tokens = torch.randint(supernet.config.vocab_size, (block_size,), generator=generator)
            return {"input_ids": tokens, "labels": tokens}

        return dry_run(supernet, settings, accelerator, example, "tokens", block_size)

    with accelerator.main_process_first():
        texts = load_texts(data)
        tokenizer = load_tokenizer(data, texts)
        blocks = {name: pack(text, tokenizer, data, name) for name, text in texts.items()}
    train_data, arch_data = split_for_search(blocks["train"], settings.train_portion, settings.seed)
    supernet = build_supernet(space, data, tokenizer)

    def test(model, **chosen) -> dict[str, float]:
        scores = perplexity(model, blocks["test"], batch_size, **chosen)
        return {"test loss": scores["loss"], "perplexity": scores["perplexity"]}

    task = SearchTask(
        pipeline="text-generation",
        processor=tokenizer,
        train_data=train_data,
        arch_data=arch_data,
        validation_data=blocks["validation"],
        score=lambda data, batches, **chosen: perplexity(supernet, data, batch_size, batches, **chosen),
        test=test,
        compute=lambda arch: {
            "FLOPs/token": flops(supernet.space, arch, supernet.config, sequence_length=block_size) // block_size
        },
        sample={"input_ids": next(iter(blocks["test"]))["input_ids"][None]},
        example="block",
        data=describe(data),
        sequence_length=block_size,
    )
    run(supernet, task, settings, hub, accelerator, resolved)


def supernet_config(
    arguments: SpaceArguments, block_size: int, vocab_size: int, **special_tokens
) -> ElasticGPT2Config:
    """The supernet's config of these arguments."""
    space = search_space(arguments, ["n_embd", "n_layer"], ["n_head", "mlp_ratio"])
    dropouts = dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), arguments.dropout)
    options = {"head_dim": arguments.head_dim, "superposition": arguments.superposition, "n_positions": block_size}
    return ElasticGPT2Config(space=space, vocab_size=vocab_size, **options, **dropouts, **special_tokens)


def build_supernet(
    arguments: SpaceArguments, data: DataArguments, tokenizer: PreTrainedTokenizerBase
) -> ElasticGPT2LMHeadModel:
    """A new supernet, or one that starts from a GPT-2 checkpoint."""
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    vocab_size = max(data.vocab_size, len(tokenizer)) if data.tokenizer else len(tokenizer)
    config = supernet_config(arguments, data.block_size, vocab_size, **special)
    if arguments.start_from is None:
        supernet = ElasticGPT2LMHeadModel(config)
    else:
        own = {"space": config.space, "head_dim": config.head_dim, "superposition": config.superposition}
        with reading_checkpoint("start_from", arguments.start_from):
            supernet = ElasticGPT2LMHeadModel.from_pretrained(arguments.start_from, **own)
    if supernet.config.vocab_size < len(tokenizer) or supernet.config.n_positions < data.block_size:
        raise ValueError(
            f"{arguments.start_from} has {supernet.config.vocab_size} tokens and {supernet.config.n_positions} positions, "
            f"the data {len(tokenizer)} and {data.block_size}; use its own --tokenizer and a smaller --block_size"
        )
    # A pipeline's default goes past the last position.
    supernet.generation_config.max_length = supernet.config.n_positions
    return supernet


if __name__ == "__main__":
    with readable_errors():
        main(*parse(SpaceArguments, DataArguments, SearchArguments, SearchHubArguments, description=__doc__))
