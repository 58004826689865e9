"""What a comparison concludes from its rows: times, tests, rank correlations, similarity of layers, pictures."""

import statistics
from dataclasses import asdict
from itertools import combinations

import torch
from transformers import PreTrainedModel

from ..analysis import (
    in_turns,
    layer_cka,
    plot_anytime,
    plot_architectures,
    plot_cka,
    plot_shares,
    read_metrics,
)
from ..analysis.anytime import anytime_chart, curves_of, looked_up_chart, read_curve
from ..analysis.differences import compare_nets
from ..analysis.statistics import plot_rank_correlation, rank_correlation, to_dict
from ..cost.counts import num_params
from ..cost.timing import measure
from ..runs.folder import write_json
from ..space import Architecture
from ..subnets.extraction import extract, new_subnet
from .nets import Comparison, different
from .runs import supernet_of


@torch.inference_mode()
def timings(comparison: Comparison) -> tuple[dict[str, float], dict[str, float]]:
    """Milliseconds of a forward pass over one example, and seconds of the fastest generation, of all nets in turns."""
    settings, data = comparison.settings, comparison.data
    (inputs,) = data.inputs(data.validation, 1, 1)
    milliseconds, seconds = {}, {}
    if not settings.latency_rounds and not settings.generate_tokens:
        return milliseconds, seconds
    models = {net.name: new_subnet(comparison.supernet, net.arch) for net in comparison.nets}
    inputs = {name: tensor.to(comparison.supernet.device) for name, tensor in inputs.items()}

    def generate(model: PreTrainedModel):
        start = inputs["input_ids"][:, :1]
        model.generate(start, attention_mask=torch.ones_like(start))

    if settings.latency_rounds:
        times = measure(list(models.values()), inputs, rounds=settings.latency_rounds, progress=False)
        milliseconds = dict(zip(models, times, strict=True))
    if settings.generate_tokens:
        length = {"min_new_tokens": settings.generate_tokens, "max_new_tokens": settings.generate_tokens}
        for model in models.values():
            model.generation_config.update(**length, max_length=None, do_sample=False, pad_token_id=0)
        calls = {name: lambda model=model: generate(model) for name, model in models.items()}
        seconds = {name: min(values) for name, values in in_turns(calls, 3).items()}
    return milliseconds, seconds


def differences(comparison: Comparison) -> list[dict]:
    """All pairs of methods but those of two baselines, at every length of training."""
    methods, tests = comparison.methods, []
    for mode, horizon in comparison.columns:
        found = {name: comparison.found(nets, mode, horizon) for name, nets in methods.items()}
        for first, second in combinations((name for name in found if found[name]), 2):
            if methods[first][0].baseline and methods[second][0].baseline:
                continue
            test = compare_nets(found[first], found[second])
            pair = {"mode": mode, "horizon": horizon, "first": first, "second": second}
            tests.append(pair | asdict(test) | {"too_few": test.too_few})
    return tests


def rank_correlations(comparison: Comparison) -> list[dict]:
    """How well inherited losses, and numbers of parameters, order nets by their retrained validation loss.

    Once over all nets, once over those of equal cost; a net counts once, whoever found it. Only validation data are read.
    """
    if not comparison.settings.rank_batches or "retrain" not in comparison.settings.modes:
        return []
    supernet = comparison.supernet
    unique = different(comparison.nets)
    sets = {"all": unique} | (
        {"equal cost": [n for n in unique if comparison.equal_cost(n)]} if comparison.cost else {}
    )
    found, pictures = [], {}
    for horizon in comparison.settings.horizons:
        retrained = {n.arch: comparison.scores(n, "retrain", horizon, "validation", "loss") for n in unique}
        predictors = {
            run.name: {net.arch: comparison.inherited(run, net.arch) for net in unique} for run in comparison.runs
        }
        predictors["more parameters"] = {n.arch: -num_params(supernet.space, n.arch, supernet.config) for n in unique}
        for which, nets in sets.items():
            for name, predicted in predictors.items():
                pairs = [
                    (predicted[net.arch], statistics.mean(retrained[net.arch]), net.name)
                    for net in nets
                    if predicted[net.arch] is not None and retrained[net.arch]
                ]
                result = rank_correlation([pair[0] for pair in pairs], [pair[1] for pair in pairs])
                if result is not None:
                    found.append({"predictor": name, "horizon": horizon, "nets": which} | to_dict(result))
                    pictures[f"{name}, {which}, x{horizon:g}"] = pairs
    numbers = {
        name: [dict(zip(("predicted", "retrained", "net"), pair, strict=True)) for pair in pairs]
        for name, pairs in pictures.items()
    }
    write_json(comparison.folder / "rank_correlation.json", numbers)
    drawn = {name: tuple(zip(*pairs, strict=True))[:2] for name, pairs in pictures.items() if "more" not in name}
    if drawn:
        plot_rank_correlation(drawn, ("inherited loss", "retrained loss"), comparison.folder / "rank_correlation.png")
    return found


@torch.no_grad()
def cka(comparison: Comparison) -> dict[str, dict]:
    """Similarity of every layer between the inherited, the fine-tuned and the retrained net of each run (table 25).

    At the first horizon, on validation data, mean over the seeds whose models are both there.
    """
    settings, found = comparison.settings, {}
    if not settings.cka_batches or not settings.keep_models:
        return found
    data = comparison.data
    batches = data.inputs(data.validation, settings.cka_batches, settings.per_device_batch_size or 16)
    horizon, folders = settings.horizons[0], {run.name: run.folder for run in comparison.runs}
    for net in (net for net in comparison.nets if net.run is not None):
        inherited = extract(supernet_of(folders[net.run]), net.arch).cpu()
        if inherited(**batches[0], output_hidden_states=True).get("hidden_states") is None:
            print("these nets give no hidden states, so that there is no CKA of their layers")
            return found
        pairs = {"inherit and retrain": [], "finetune and retrain": []}
        for seed in settings.seeds:
            models = {}
            for mode in ("finetune", "retrain"):
                (row,) = net.rows(mode, horizon, [seed])
                if (comparison.folder / "models" / row.name).is_dir():
                    models[mode] = type(inherited).from_pretrained(comparison.folder / "models" / row.name)
            if len(models) == 2:
                pairs["inherit and retrain"].append(layer_cka(inherited, models["retrain"], batches))
                pairs["finetune and retrain"].append(layer_cka(models["finetune"], models["retrain"], batches))
        if pairs["inherit and retrain"]:
            found[net.name] = {}
            for name, seeds in pairs.items():
                layers = [statistics.mean(values) for values in zip(*seeds, strict=True)]
                found[net.name][name] = {"mean": statistics.mean(layers), "layers": layers, "seeds": len(seeds)}
    if found:
        write_json(comparison.folder / "cka.json", found)
        curves = {
            pair: {net: pairs[pair]["layers"] for net, pairs in found.items()} for pair in next(iter(found.values()))
        }
        plot_cka(curves, comparison.folder / "cka.png")
    return found


def pictures(comparison: Comparison) -> None:
    """Found architectures layer by layer, shares over the steps, and any-time curves, each with its numbers."""
    folder, space = comparison.folder, comparison.supernet.space
    found = {net.name: net.arch for net in comparison.nets if not net.baseline}
    if found:
        plot_architectures(found, space, folder / "architectures.png")
        write_json(folder / "architectures.json", {name: arch.to_dict() for name, arch in found.items()})
    for run in comparison.runs:
        metrics = read_metrics(run.folder / "metrics.jsonl")
        if metrics and "shares" in metrics[0]:
            plot_shares(metrics, space.choices, folder / f"shares-{run.name}.png")  # its numbers are the metrics.jsonl
    numbers = anytime(comparison)
    if numbers:
        write_json(folder / "anytime.json", numbers)
    if curves := curves_of(numbers, "validation_losses"):
        plot_anytime(anytime_chart(curves), folder / "anytime.png")
    if curves := curves_of(numbers, "table_scores"):
        plot_anytime(looked_up_chart(curves, comparison.standings.metric), folder / "anytime_table.png")


def anytime(comparison: Comparison) -> dict[str, list[dict]]:
    """Method -> for each of its runs costs and architectures, and their losses and scores.

    The losses are all on the same validation data with the weights of the finished supernet. What a search measured itself is
    on data of its own choice and cannot be compared; it is there, too. The scores are those of a table, if there is one.
    """
    numbers: dict[str, list[dict]] = {}
    for run in comparison.runs:
        own = read_curve(run.folder)
        if not own.costs:
            continue
        archs = [Architecture(arch) for arch in own.archs]
        entry = {"run": run.name, "costs": own.costs, "archs": own.archs, "own_losses": own.values}
        entry["validation_losses"] = [comparison.inherited(run, arch) for arch in archs]
        if comparison.standings:
            entry["table_scores"] = [comparison.standings.scores.get(arch) for arch in archs]
        numbers.setdefault(run.method, []).append(entry)
    return numbers
