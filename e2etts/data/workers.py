"""Parallel map over processes, with results in order."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item, Result = TypeVar("Item"), TypeVar("Result")
_CHUNKS_ALONE = 6  # fewer are done before the processes have started


def in_order(work: Callable[[Item], Result], jobs: Sequence[Item], workers: int,
             chunk: int = 8) -> Iterator[Result]:
    """``map(work, jobs)`` in ``workers`` processes that take ``chunk`` jobs at a time."""
    if workers < 2 or len(jobs) <= _CHUNKS_ALONE * chunk:
        yield from map(work, jobs)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with multiprocessing.get_context(method).Pool(workers, _start_worker) as pool:
        yield from pool.imap(work, jobs, chunksize=chunk)


def _start_worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    if "torch" in sys.modules:  # otherwise it reads the variable on import
        sys.modules["torch"].set_num_threads(1)
    # The main process handles Ctrl-C, which is sent to the whole group.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
