"""Side by side: things that are timed in turns, so that a change of the machine's speed meets all of them alike."""

import time
from collections.abc import Callable, Mapping


def in_turns(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of every call, round by round; a first round warms up and is not counted.

    Args:
        calls: Name -> what to time.
        rounds: How often each has its turn.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if number:
                times[name].append(time.perf_counter() - start)
    return times
