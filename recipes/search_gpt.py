"""Search a GPT-2 space with entangled weights and export what it finds as a plain checkpoint.

    accelerate launch recipes/search_gpt.py                                       # embedded text, a few minutes on a CPU
    accelerate launch recipes/search_gpt.py --train_file austen/train.txt --validation_file austen/validation.txt \\
        --test_file austen/test.txt --output_dir runs/austen
    accelerate launch recipes/search_gpt.py --config recipes/configs/tinystories_small_lm.yaml --dry_run

Continue a stopped run with the same command and --resume.
"""

import json
from dataclasses import asdict
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from arguments import SpaceArguments, parse
from dry_run import dry_run
from evaluation import perplexity
from run_folder import check_run_folder, write_config
from text_data import DataArguments, load_texts, load_tokenizer, pack, split_for_search
from transformers import PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from tangle_hf import (
    ElasticGPT2Config,
    ElasticGPT2LMHeadModel,
    PerLayer,
    SearchSpace,
    flops,
    num_params,
    one_hot,
    sampler,
)
from tangle_hf.analysis import format_table, plot_losses, plot_shares, read_metrics
from tangle_hf.export import export
from tangle_hf.search import SearchArguments, search


FREE_ON_RESUME = {"resume", "output_dir", "report_to", "logging_steps", "eval_steps", "eval_batches", "save_steps"}


def main(space: SpaceArguments, data: DataArguments, settings: SearchArguments) -> None:
    """The whole run: data, supernet, search, export, table."""
    accelerator = Accelerator(
        mixed_precision=settings.mixed_precision,
        log_with=None if settings.report_to == "none" else settings.report_to,
        project_dir=settings.output_dir,
        kwargs_handlers=ddp_options(settings),
    )
    run_dir = Path(settings.output_dir)
    resolved = {**asdict(space), **asdict(data), **asdict(settings)}
    if not settings.dry_run:
        check_run_folder(run_dir, resolved, settings.resume, FREE_ON_RESUME)
    set_seed(settings.seed)
    disable_progress_bar()  # of loading and saving; the search has its own
    if settings.dry_run:
        supernet = ElasticGPT2LMHeadModel(supernet_config(space, data.block_size, data.vocab_size or 50257))
        return dry_run(supernet, settings, accelerator, data.block_size)

    with accelerator.main_process_first():
        texts = load_texts(data)
        tokenizer = load_tokenizer(data, texts)
        blocks = {name: pack(text, tokenizer, data, name) for name, text in texts.items()}
    train_blocks, arch_blocks = split_for_search(blocks["train"], settings.train_portion, settings.seed)
    supernet = build_supernet(space, data, tokenizer)
    if accelerator.is_main_process:
        write_config(run_dir, resolved)
        print(f"{supernet.space.size:,} architectures, the largest has {supernet.num_parameters():,} parameters")
    if settings.report_to != "none":
        accelerator.init_trackers("tangle_hf", config={k: str(v) for k, v in resolved.items()})

    batch_size = settings.per_device_batch_size

    def evaluate(arch):
        return perplexity(supernet, blocks["validation"], batch_size, settings.eval_batches, arch=arch)["loss"]

    arch_parameters = search(supernet, train_blocks, arch_blocks, settings, accelerator, evaluate)
    if arch_parameters is None:
        if accelerator.is_main_process:
            print(f"stopped; continue with the same command and --resume (checkpoint in {run_dir / 'checkpoints'})")
    elif accelerator.is_main_process:
        report(supernet, arch_parameters, tokenizer, blocks["test"], settings, data.block_size)
    accelerator.end_training()


def ddp_options(settings: SearchArguments) -> list:
    """A single path leaves parameters without gradients, which data parallelism must be told; a mixture does not."""
    from accelerate.utils import DistributedDataParallelKwargs

    return (
        [DistributedDataParallelKwargs(find_unused_parameters=True)] if sampler(settings.sampler).single_path else []
    )


def supernet_config(
    arguments: SpaceArguments, block_size: int, vocab_size: int, **special_tokens
) -> ElasticGPT2Config:
    """The supernet's config of these arguments."""
    choices = {name: getattr(arguments, name) for name in ("n_embd", "n_layer", "n_head", "mlp_ratio")}
    per_layer = {"n_head", "mlp_ratio"} - set(arguments.shared)
    space = SearchSpace(**{name: PerLayer(c) if name in per_layer else c for name, c in choices.items()})
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
        return ElasticGPT2LMHeadModel(config)
    supernet = ElasticGPT2LMHeadModel.from_pretrained(
        arguments.start_from, space=config.space, head_dim=config.head_dim, superposition=config.superposition
    )
    if supernet.config.vocab_size < len(tokenizer) or supernet.config.n_positions < data.block_size:
        raise ValueError(
            f"{arguments.start_from} has {supernet.config.vocab_size} tokens and {supernet.config.n_positions} positions, "
            f"the data {len(tokenizer)} and {data.block_size}; use its own --tokenizer and a smaller --block_size"
        )
    return supernet


def report(supernet, arch_parameters, tokenizer, test_blocks, settings: SearchArguments, block_size: int) -> None:
    """Leaves the supernet, the subnet, the plots and the results, and prints the table."""
    from transformers import AutoModelForCausalLM

    run_dir, space, config = Path(settings.output_dir), supernet.space, supernet.config
    method, batch_size = sampler(settings.sampler), settings.per_device_batch_size
    arch_parameters.save(run_dir / "arch_parameters.safetensors")
    supernet.generation_config.max_length = config.n_positions  # a pipeline's default goes past the last position
    supernet.save_pretrained(run_dir / "supernet")
    tokenizer.save_pretrained(run_dir / "supernet")
    metrics = read_metrics(run_dir / "metrics.jsonl")
    plot_losses(metrics, run_dir / "losses.png")
    rows = []

    def row(name, arch, scores):
        cost = {"parameters": num_params(space, arch, config)}
        cost["FLOPs/token"] = flops(space, arch, config, sequence_length=block_size) // block_size
        rows.append({"net": name, **cost, "test loss": scores["loss"], "perplexity": scores["perplexity"]})

    results = {"largest": space.largest.to_dict()}
    if not method.single_path:
        arch = arch_parameters.argmax()
        plot_shares(metrics, space.choices, run_dir / "shares.png")
        (run_dir / "architecture.json").write_text(arch.to_json() + "\n")
        inputs = {"input_ids": next(iter(test_blocks))["input_ids"][None].to(supernet.device)}
        written = export(supernet, arch, run_dir / "subnet", inputs, processor=tokenizer)
        subnet = AutoModelForCausalLM.from_pretrained(written.folder, trust_remote_code=written.form == "compact")
        subnet.to(supernet.device)
        row(
            "found, in the supernet", arch, perplexity(supernet, test_blocks, batch_size, mixture=one_hot(space, arch))
        )
        row(f"found, exported ({written.form})", arch, perplexity(subnet, test_blocks, batch_size))
        results |= {"found": arch.to_dict(), "form": written.form, "logit_difference": written.difference}
        results |= {"logit_scale": written.scale, "entropy": arch_parameters.entropy(method)}
    row("largest, in the supernet", space.largest, perplexity(supernet, test_blocks, batch_size, arch=space.largest))
    results["table"] = rows
    (run_dir / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print("\n" + format_table(rows))
    if method.single_path:
        return print(
            f"\n{settings.sampler} trains weights and chooses nothing; the supernet is in {run_dir / 'supernet'}"
        )
    loading = ", trust_remote_code=True" if written.form == "compact" else ""
    print(f"\nfound: {arch}\nentropy of the architecture parameters: {results['entropy']:.3f} of 1 (undecided)")
    print(
        f"reloaded files against the supernet: logits differ by {written.difference:.1e} of {written.scale:.1e} at most"
    )
    print(f'load it: pipeline("text-generation", model="{written.folder}"{loading})')


if __name__ == "__main__":
    main(*parse(SpaceArguments, DataArguments, SearchArguments, description=__doc__))
