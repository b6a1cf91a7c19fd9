"""What a step has freed, the next one uses again."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # of mallopt(3)


def keep_freed_memory() -> bool:
    """Tell the C library to keep what is freed on the CPU; False where it cannot be told.

    Left alone, glibc asks the system for every tensor of more than 32 MiB anew and gives it back
    at once, and each of its pages is cleared at first touch: with 15,625 codes that was a fifth of
    an LM's step and a third of a second-order one. The process stays as large as it has ever been.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
    return mallopt is not None and bool(mallopt(_MMAP_MAX, 0) and mallopt(_TRIM_THRESHOLD, -1))
