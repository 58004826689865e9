"""Checks of values that are wrong for every recipe: NaN and infinity, seeds that no generator takes, rates above their peak."""

import math
from dataclasses import fields
from typing import Any


SEEDS = 2**32  # what numpy takes, the narrowest of the generators that a seed goes to
LARGEST = 1e30  # what float32 holds, with room for the factors of an optimizer


def check_values(settings: Any, infinite: tuple[str, ...] = ()) -> None:
    """Refuses NaN and infinity, numbers that float32 does not hold, empty texts, and seeds that no generator takes.

    Args:
        settings: A dataclass instance; a field, or the entries of a list, whose name ends with seed or seeds is a seed.
        infinite: Fields that may be infinite.

    Raises:
        ValueError: A number is not finite or above 1e30, a text is empty, or a seed is not in [0, 2^32 - 1].
    """
    for field in fields(settings):
        value = getattr(settings, field.name)
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                if math.isnan(number) or field.name not in infinite:
                    raise ValueError(f"{field.name}={number} must be a finite number")
            elif isinstance(number, float) and abs(number) > LARGEST:
                raise ValueError(f"{field.name}={number} must be at most {LARGEST:g}, about what float32 holds")
            if (
                isinstance(number, str) and not number.strip()
            ):  # of a variable that is not set; the folder "" is this one
                raise ValueError(f"{field.name} is an empty text; leave it out, or say what is meant")
            if field.name.endswith(("seed", "seeds")) and isinstance(number, int) and not 0 <= number < SEEDS:
                raise ValueError(
                    f"{field.name}={number} must be from 0 to {SEEDS - 1}, the seeds that generators take"
                )


def share_of_peak(peak: float, divisor: int) -> float:
    """peak / divisor as one would write it: 0.003 / 10 is 0.0003, without the rounding of the last digit."""
    return float(f"{peak / divisor:.12g}")


def check_learning_rates(peaks: dict[str, float | None], lowest: dict[str, float | None]) -> None:
    """Refuses peaks that are not above 0, and other rates of a schedule that are negative or above a peak.

    Args:
        peaks: Name -> peak learning rate; None is not given.
        lowest: Name -> learning rate at an end of the schedule; None is not given.

    Raises:
        ValueError: A peak is not above 0, or another rate is negative or above a peak.
    """
    peaks = {name: peak for name, peak in peaks.items() if peak is not None}
    for name, peak in peaks.items():
        if peak <= 0:
            raise ValueError(f"{name}={peak} must be above 0")
    for name, rate in lowest.items():
        if rate is not None and rate < 0:
            raise ValueError(f"{name}={rate} must not be negative")
        for peak_name, peak in peaks.items():
            if rate is not None and rate > peak:
                raise ValueError(
                    f"{name}={rate} is above {peak_name}={peak}, its peak: the learning rate would rise; give a smaller one, "
                    "or leave it out for a share of the peak"
                )
