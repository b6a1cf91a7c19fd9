import subprocess
import sys

import pytest

from e2etts.train.memory import keep_freed_memory

FAULTS = """
import resource, torch
from e2etts.train.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(2**24)  # 64 MiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

before = faults()
kept = keep_freed_memory()
faults()
print(int(kept), before, faults())
"""


def test_large_tensors_reuse_freed_memory():
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True,
                          check=True)
    kept, before, after = map(int, done.stdout.split())
    if not kept:
        pytest.skip("the C library has no mallopt")
    assert after < before / 10, (before, after)


def test_without_mallopt_nothing_is_done(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert not keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
