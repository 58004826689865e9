"""A dry run takes micro-batches that fit, and says what the whole one would need."""

import dry_run
import pytest
from accelerate import Accelerator
from dry_run import Measured, extrapolated, measured


def runs_of(whole, monkeypatch, seconds=0.0, bytes_per_example=1, limit=1000):
    """Sizes that are measured of a machine with so much memory, and what is extrapolated."""
    clock = [0.0]
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(dry_run, "MOST_CPU_MEMORY", limit)
    monkeypatch.setattr(dry_run.torch.cuda, "is_available", lambda: False)

    def run(size):
        clock[0] += seconds * size
        return Measured(size, 1.0, 2.0 * size, 100 + bytes_per_example * size)

    runs = measured(whole, run, Accelerator(cpu=True))
    return [r.size for r in runs], extrapolated(runs, whole, "step"), extrapolated(runs, whole, "memory")


@pytest.mark.parametrize(
    ("whole", "options", "sizes"),
    [
        (1, {}, [1]),
        (5, {}, [2, 4, 5]),
        (256, {"bytes_per_example": 50}, [2, 4, 8, 16]),  # 32 examples would need 1,700 bytes of 1,000
        (256, {"bytes_per_example": 500}, [2, 4]),
        (256, {"seconds": 5.0}, [2, 4]),
    ],
)
def test_sizes_grow_as_long_as_the_next_one_fits(whole, options, sizes, monkeypatch):
    found, step, memory = runs_of(whole, monkeypatch, **options)
    assert found == sizes
    if len(sizes) > 1:
        assert step == 2.0 * whole and memory == 100 + options.get("bytes_per_example", 1) * whole
