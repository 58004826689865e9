"""Steps timed alternately in one process, and the peak memory of one step in a process of its own.

Alternately, so that a change of the machine's speed meets every step alike: numbers to quote are the ratios to the first
step, taken round by round.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable

import torch

from tangle_hf.analysis import in_turns


# glibc gives large blocks back to the system when they are freed, and the next step faults them in again.
KEEPING = {"MALLOC_TRIM_THRESHOLD_": str(2**40), "MALLOC_MMAP_MAX_": "0"}


def keep_memory() -> None:
    """Starts this process anew with an allocator that keeps freed memory, unless it has one; of glibc only."""
    if not KEEPING.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEPING})


def compare_time(steps: dict[str, Callable[[], None]], rounds: int, sums: dict[str, tuple[str, ...]]) -> list[dict]:
    """Median seconds of every step, and the median, smallest and largest ratio to the first one in the same round.

    Args:
        steps: Name -> step. Each runs once before the counted rounds.
        rounds: How often each is timed.
        sums: More rows: name -> steps whose times are added up within a round.
    """
    times = in_turns(steps, rounds)
    for name, parts in sums.items():
        times[name] = [sum(values) for values in zip(*(times[part] for part in parts), strict=True)]
    base = times[next(iter(steps))]
    rows = []
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(seconds, base, strict=True)]
        rows.append({"step": name, "seconds": statistics.median(seconds), "x": statistics.median(ratios),
                     "min": min(ratios), "max": max(ratios)})  # fmt: skip
    return rows


def print_rows(title: str, rows: list[dict]) -> None:
    """A table of `compare_time`, one line per step."""
    print(f"\n{title}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for row in rows:
        print("{step:<34} {seconds:7.3f} s {x:6.2f}x ({min:.2f} to {max:.2f})".format(**row), flush=True)


def compare_memory(script: str, cases: dict[str, dict]) -> None:
    """Prints the peak memory of every case, as measured by `script --case`, and its ratio to the first."""
    first = None
    for name, case in cases.items():
        command = [sys.executable, script, "--case", json.dumps(case)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak = int(done.stdout.split()[-1])
        first = first or peak
        print(f"{name:<34} {peak / 1024:8.0f} MiB {peak / first:6.2f}x", flush=True)


def peak_memory(build: Callable[[], Callable[[], None]]) -> int:
    """Peak resident memory of building a step and taking it three times, above what the process has now, in KiB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = build()
    for _ in range(3):
        step()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
