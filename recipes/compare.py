"""Compare what searches found: every net trained under one recipe, beside baselines of equal cost, in one table.

    python recipes/compare.py --runs runs/drnas-0 runs/drnas-1 runs/spos-0 --seeds 0 1 2 --horizons 1 3 \\
        --baselines largest uniform random most_parameters --output_dir runs/compare
    python recipes/compare.py --runs a=runs/one b=runs/two --architectures hand=my/architecture.json
    python recipes/compare.py --runs runs/drnas-? runs/spos-? --protocol paper       # four searches, the best, four seeds

Data and training settings are those of the first run. Every training is a row of its own, kept when it is finished: the same
command goes on where it was stopped, and started several times at once it shares the rows among the processes. Runs, seeds,
horizons and baselines may be added later. Needs the extra `compare`, for images `vision`, too.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock
from transformers.utils.logging import disable_progress_bar

from tangle_hf.budgets.equal_cost import equal_cost
from tangle_hf.compare.nets import Comparison
from tangle_hf.compare.plan import (
    baseline_nets,
    best_of_four,
    check_generation,
    check_horizons,
    found_nets,
    limits_of,
    open_folder,
    planned,
    search_costs,
    training_settings,
)
from tangle_hf.compare.report import report
from tangle_hf.compare.rows import Row, claim, read_row, work
from tangle_hf.compare.runs import load_data, read_runs, supernet_of
from tangle_hf.compare.settings import CompareArguments
from tangle_hf.compare.standings import read_standings
from tangle_hf.errors import readable_errors
from tangle_hf.settings import parse


def main(settings: CompareArguments) -> None:
    """All rows that no other process works on, one after another, and the table."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError(
            "a row is trained by one process; start the same command several times instead of with several"
        )
    disable_progress_bar()  # of loading and saving; training has its own
    runs, folder = read_runs(settings.runs), Path(settings.output_dir)
    named, reference = {run.name: run for run in runs}, runs[0]
    training, supernet = training_settings(settings, reference), supernet_of(reference.folder)
    standings = read_standings(settings, runs, supernet.space)
    data = load_data(reference)
    max_steps = settings.max_steps or reference.settings["max_steps"]
    check_generation(settings, supernet)
    budgets = limits_of(settings, runs, supernet, data.sequence_length)
    cost = equal_cost(supernet.space, budgets) if budgets else None
    baselines = baseline_nets(settings, supernet, cost)
    check_horizons(settings.horizons, max_steps)
    if not found_nets(settings, runs) and not baselines:  # refused before there is a folder that holds the settings
        raise ValueError("no run found a net, as searches for a front do; give --architectures or --baselines")
    open_folder(folder, training, max_steps, settings.rank_batches, reference)

    def finish(rows: list[Row], wait: bool = False) -> None:
        times, left = [], sum(read_row(folder, row) is None for row in rows)
        for row in rows:
            with claim(folder, row, wait) as mine:
                if mine:
                    about = f", about {left * sum(times) / len(times) / 60:.0f} min in all" if times else ""
                    print(f"{row.name} ({left} to do{about})", flush=True)
                    start = time.monotonic()
                    work(row, named, reference, data, training, max_steps, folder,
                         rank_batches=settings.rank_batches, keep_models=settings.keep_models)  # fmt: skip
                    times.append(time.monotonic() - start)
            left -= mine

    spent = search_costs(runs, settings.protocol)
    if settings.protocol == "paper":
        found = {run: Row("rank", run.arch, run.name) for run in runs if run.arch is not None}
        finish(list(found.values()), wait=True)
        runs = best_of_four(runs, {run: read_row(folder, row)["validation"]["loss"] for run, row in found.items()})
    nets = [*found_nets(settings, runs), *baselines]
    rows = planned(settings, nets, runs)
    finish(rows)
    if all(read_row(folder, row) is not None for row in rows):
        for empty in (folder / "checkpoints", folder / "rows" / ".locks"):
            with suppress(OSError):  # another process may be at other rows
                empty.rmdir()
    with FileLock(folder / ".lock"):
        report(Comparison(nets, runs, settings, data, cost, folder, spent, standings), rows)


if __name__ == "__main__":
    with readable_errors():
        main(*parse(CompareArguments, description=__doc__))
