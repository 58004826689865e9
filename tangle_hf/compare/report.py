"""The tables of a comparison, from the rows that are finished, and `results.json`."""

import statistics
from collections.abc import Iterable, Sequence

from ..analysis import format_table
from ..analysis.summaries import as_text, difference_row, summary
from ..cost.counts import flops, num_params
from ..runs.folder import write_json
from ..runs.reporting import refresh_report
from .analysis import cka, differences, pictures, rank_correlations, timings
from .nets import Comparison, Net, column, different
from .rows import Row, read_row
from .standings import Standings


def report(comparison: Comparison, rows: Sequence[Row]) -> None:
    """Prints the tables, and leaves `results.json`, pictures and their numbers.

    Args:
        comparison: Nets and their scores.
        rows: All rows that were planned.
    """
    folder = comparison.folder
    missing = [row.name for row in rows if read_row(folder, row) is None]
    milliseconds, seconds = timings(comparison)
    costs = {}
    for net in comparison.nets:
        times = {"latency_ms": milliseconds.get(net.name), "generation_s": seconds.get(net.name)}
        costs[net.name] = net_costs(comparison, net) | times
    tests = differences(comparison)
    correlations = rank_correlations(comparison)
    similarities = cka(comparison)
    pictures(comparison)
    results = {
        "metric": "accuracy in percent" if comparison.metric == "accuracy" else "loss in nats",
        "missing": missing,
        "methods": method_rows(comparison, costs, text=False),
        "nets": net_rows(comparison, costs, text=False),
        "tests": tests,
        "rank_correlation": correlations,
        "cka": similarities,
        "table_metric": comparison.standings and comparison.standings.metric,
    }
    write_json(folder / "results.json", results)
    print(format_table(method_rows(comparison, costs)))
    print(format_table(net_rows(comparison, costs)))
    shown = [test for test in tests if test["mode"] == "retrain"]
    if shown:
        print(
            "differences of retrained nets, each counted once: Welch's t-test, not corrected for the number of tests"
        )
        print(format_table([difference_row(test) for test in shown]))
    shown = [found for found in correlations if found["kendall"] is not None]
    if shown:
        print("rank correlation with the retrained validation loss")
        print(format_table(shown))
    if similarities:
        keys = ("inherit and retrain", "finetune and retrain")
        print("linear CKA, mean over layers and seeds")
        print(
            format_table([{"net": name} | {k: found[k]["mean"] for k in keys} for name, found in similarities.items()])
        )
    if missing:
        print(f"missing, or under way in another process: {len(missing)} of {len(rows)} rows: {', '.join(missing)}")
    if comparison.standings:
        print(f"{comparison.standings.words}")
    refresh_report(folder)
    print(f"test {results['metric']}: mean [95 % t-interval] and what it is over; all numbers are in "
          f"{folder / 'results.json'}, drawn in report.html")  # fmt: skip


def method_rows(comparison: Comparison, costs: dict[str, dict], text: bool = True) -> list[dict]:
    """A row per method: means over its different nets, and the test scores at every length of training."""
    rows = []
    for method, nets in comparison.methods.items():
        own, searches = different(nets), sum(net.run is not None for net in nets)
        row = {"method": method, "nets": len(own), "searches": searches or None}
        row["search cost"] = comparison.search_costs.get(method)
        row |= _mean_costs(comparison, [costs[net.name] for net in own])
        for mode, horizon in comparison.columns:
            values, unit = comparison.sample(nets, mode, horizon)
            row[column(mode, horizon)] = summary(values, unit)
        if comparison.standings:
            row |= _mean_standing(comparison.standings, nets)
        rows.append(as_text(row) if text else row)
    return rows


def net_rows(comparison: Comparison, costs: dict[str, dict], text: bool = True) -> list[dict]:
    """A row per net: what it is, its scores over seeds, and where it stands in a table of trained nets."""
    rows = []
    for net in comparison.nets:
        row = {"net": net.name, "architecture": str(net.arch) if text else net.arch.to_dict()}
        row["equal cost"] = comparison.equal_cost(net)
        row |= _mean_costs(comparison, [costs[net.name]])
        for mode, horizon in comparison.columns:
            unit = "searches" if mode == "inherit" else "seeds"
            for split in ("test",) if text else ("validation", "test"):
                name = column(mode, horizon) + ("" if split == "test" else f" {split}")
                row[name] = summary(comparison.scores(net, mode, horizon, split), unit)
        if comparison.standings:
            row |= comparison.standings.of(net.arch)
        rows.append(as_text(row) if text else row)
    return rows


def net_costs(comparison: Comparison, net: Net) -> dict:
    """Parameters, with and without embedding tables, and FLOPs of a net."""
    supernet, length = comparison.supernet, comparison.data.sequence_length
    space, config = supernet.space, supernet.config
    return {
        "parameters": num_params(space, net.arch, config),
        "parameters_without_embeddings": num_params(space, net.arch, config, embeddings=False),
        "flops": flops(space, net.arch, config, sequence_length=length) // (length or 1),
    }


def _mean_standing(standings: Standings, nets: Sequence[Net]) -> dict:
    """Score, regret and percentile over the searches of a method; the table is exact, so a net found twice counts twice."""
    placed = [standings.of(net.arch) for net in nets]
    of = "nets" if all(net.run is None for net in nets) else "searches"
    return {name: summary([place[name] for place in placed if place[name] is not None], of) for name in placed[0]}


def _mean_costs(comparison: Comparison, costs: Iterable[dict]) -> dict:
    costs = list(costs)
    names = {"parameters": "parameters", "parameters_without_embeddings": "without embeddings",
             "flops": f"FLOPs/{comparison.data.unit}", "latency_ms": "latency ms",
             "generation_s": f"{comparison.settings.generate_tokens} tokens in s"}  # fmt: skip
    means = {}
    for key, name in names.items():
        values = [cost[key] for cost in costs if cost[key] is not None]
        if values:
            mean = statistics.mean(values)
            means[name] = round(mean) if isinstance(values[0], int) else mean
    return means
