"""Limits of the machine: matrix products and memory bandwidth."""

import statistics
import time
from collections.abc import Callable

import torch

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def device() -> torch.device:
    """Where training would run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def median_seconds(run: Callable[[], object], repeats: int) -> float:
    """Of a call, after one that is not counted."""
    run()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def matmul_rate(dtype: str, size: int = 2048, repeats: int = 7) -> float:
    """Floating-point operations a second of a square product in "bf16" or "fp32"."""
    a, b = (torch.randn(size, size, device=device()).to(DTYPES[dtype]) for _ in range(2))
    return 2 * size**3 / median_seconds(lambda: a @ b, repeats)


def memory_bandwidth(mib: int = 256, repeats: int = 7) -> float:
    """Bytes a second, read and written, of a copy too large for any cache."""
    a = torch.ones(mib * 2**18, device=device())
    b = torch.empty_like(a)
    return 2 * a.numel() * 4 / median_seconds(lambda: b.copy_(a), repeats)
