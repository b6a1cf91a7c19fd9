"""Cases timed in turns, so that a machine whose speed drifts slows all of them alike."""

import contextlib
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

LEAST_SECONDS = 0.3


@dataclass(frozen=True)
class Timing:
    """Seconds a call: median, least and most over the rounds. peak_gib: most memory that the
    process held while it ran, None where the system does not report it."""

    median: float
    least: float
    most: float
    peak_gib: float | None


def in_turns(cases: dict[str, Callable[[], object]], rounds: int,
             say: Callable[[str], None]) -> dict[str, Timing]:
    """Time every case once a round, after one round that is not counted. A case that takes less
    than LEAST_SECONDS is called several times in a row: a single call would time the wake-up of
    threads."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    peaks: dict[str, float | None] = {}
    calls = dict.fromkeys(cases, 1)
    for turn in range(rounds + 1):
        say(f"round {turn} of {rounds}" if turn else "warm-up")
        for name, case in cases.items():
            _forget_peak()
            if not turn:
                case()
            start = time.perf_counter()
            for _ in range(calls[name]):
                case()
            _wait()
            spent = (time.perf_counter() - start) / calls[name]
            if turn:
                seconds[name].append(spent)
            else:
                calls[name] = max(1, math.ceil(LEAST_SECONDS / max(spent, 1e-6)))
            peaks[name] = _peak_gib()
    return {name: Timing(statistics.median(s), min(s), max(s), peaks[name])
            for name, s in seconds.items()}


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _forget_peak() -> None:
    """Reset the peak of resident memory (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak_gib() -> float | None:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 2**20
    return None
