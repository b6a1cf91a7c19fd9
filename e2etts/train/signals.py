"""Signal handling: a run saves a checkpoint before it stops."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def signals_noted(on_request: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call ``on_request``; another one, 2 s later or more, kills the run."""
    def note(number: int, frame: object) -> None:
        now = time.monotonic()
        first.setdefault("time", now)
        # timeout(1) and terminals signal the process and then its group.
        if now - first["time"] > 2.0:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        on_request()

    first: dict[str, float] = {}
    try:
        before = {n: signal.signal(n, note) for n in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread
        yield
        return
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
