"""Runs one metric on many wavs: one process per device, results cached by content."""

import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import soundfile
from tqdm import tqdm

from e2etts.errors import UserError
from e2etts.files import file_sha256, write_text
from e2etts.score.judges.locate import Unavailable
from e2etts.score.meter import Meter, WavJob

SAVE_EVERY = 50
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
CPU = "cpu"


class ScoreCache:
    """``score_cache.json``: metric and settings -> content hash of a wav -> value."""

    def __init__(self, path: Path):
        self.path = path
        self.values: dict[str, dict[str, Any]] = {}
        self.hits = self.misses = 0
        self._hashes: dict[Path, str | None] = {}
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            self.values = {k: v for k, v in stored.items() if isinstance(v, dict)}
        except (OSError, ValueError, AttributeError):
            pass  # absent or damaged: everything is measured again

    def hash_of(self, path: Path) -> str | None:
        """Content hash, None where the file is missing or cannot be read."""
        path = Path(os.path.normpath(path))
        if path not in self._hashes:
            try:
                self._hashes[path] = file_sha256(path)
            except OSError:
                self._hashes[path] = None
        return self._hashes[path]

    def save(self) -> None:
        write_text(self.path, json.dumps(self.values, ensure_ascii=False) + "\n")

    def measure(self, meter: Meter, jobs: Iterable[WavJob], workers: int,
                devices: tuple[str, ...] = ()) -> dict[WavJob, Any]:
        """The value of every job whose files exist; ``{"error": why}`` where one failed.

        One process for each of ``devices``; without any, ``workers`` processes of one thread.
        Equal contents are measured once. Raises Unavailable or UserError when the meter's models
        do not load.
        """
        wanted = [(job, meter.key(job.lang), self._digest(job)) for job in jobs]
        wanted = [w for w in wanted if w[2] is not None]
        todo: dict[tuple[str, str], WavJob] = {}
        for job, key, digest in wanted:
            if digest in self.values.get(key, {}):
                self.hits += 1
            else:
                todo.setdefault((key, digest), job)
        self.misses += len(todo)
        failed: dict[tuple[str, str], Any] = {}
        bar = tqdm(total=len(todo), desc=f"score {meter.name}", unit="clip", disable=not todo,
                   mininterval=0.5)
        saved = 0
        for names, values in _run(meter, _batches(meter, todo), workers, devices):
            for (key, digest), value in zip(names, values, strict=True):
                if isinstance(value, dict) and "error" in value:
                    failed[key, digest] = value
                else:
                    self.values.setdefault(key, {})[digest] = value
            bar.update(len(names))
            if bar.n - saved >= SAVE_EVERY:
                self.save()
                saved = bar.n
        bar.close()
        if todo:
            self.save()
        return {job: failed.get((key, digest)) or self.values[key][digest]
                for job, key, digest in wanted}

    def _digest(self, job: WavJob) -> str | None:
        digests = [self.hash_of(p) for p in (job.path, job.reference) if p is not None]
        return None if None in digests else "+".join(digests)


Batch = tuple[list[tuple[str, str]], list[WavJob]]


def _batches(meter: Meter, todo: dict[tuple[str, str], WavJob]) -> list[Batch]:
    """Jobs of one language and similar length together; the longest first, so that no worker is
    left with a long clip at the end."""
    items = sorted(todo.items(), key=lambda item: (item[1].lang, -item[1].path.stat().st_size))
    out: list[Batch] = []
    for name, job in items:
        if not out or len(out[-1][1]) == meter.batch_clips or out[-1][1][0].lang != job.lang:
            out.append(([], []))
        out[-1][0].append(name)
        out[-1][1].append(job)
    return sorted(out, key=lambda batch: -batch[1][0].path.stat().st_size)


def _run(meter: Meter, batches: list[Batch], workers: int,
         devices: tuple[str, ...]) -> Iterator[tuple[list[tuple[str, str]], list[Any]]]:
    if not batches:
        return
    devices = devices or (CPU,) * min(workers, len(batches))
    if len(devices) == 1:
        _open(meter, devices[0])
        try:
            for names, jobs in batches:
                yield names, _checked(meter, _measure(jobs))
        finally:
            _state.clear()
        return
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # read when a worker loads its libraries
    context = multiprocessing.get_context("spawn")
    free = context.SimpleQueue()
    for device in devices:
        free.put(device)
    try:
        pool = ProcessPoolExecutor(len(devices), context, initializer=_open_next,
                                   initargs=(meter, free))
        try:
            futures = {pool.submit(_measure, jobs): names for names, jobs in batches}
            for future in as_completed(futures):
                yield futures[future], _checked(meter, future.result())
        except BrokenProcessPool as e:
            raise UserError(f"{meter.name}: a scoring process died, most likely for lack of "
                            "memory: free some, or set score.workers=1; finished clips are kept"
                            ) from e
        finally:
            pool.shutdown(cancel_futures=True)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def _checked(meter: Meter, values: list[Any]) -> list[Any]:
    for value in values:
        if isinstance(value, dict) and "unusable" in value:
            reason = f"its model does not load: {value['unusable']}"
            if meter.remedy:
                raise Unavailable(reason, meter.remedy)
            raise UserError(f"{meter.name}: {reason}")
    return values


_state: dict[str, Any] = {}


def _open_next(meter: Meter, free: Any) -> None:
    _open(meter, free.get())


def _open(meter: Meter, device: str) -> None:
    _state["meter"] = meter
    try:
        _state["measure"] = meter.open(device)
    except Exception as e:  # reported by the first job: an initialiser has no return value
        _state["unusable"] = _message(e)


def _measure(jobs: list[WavJob]) -> list[Any]:
    """The value of each job; an error of one clip leaves the others of its batch alone."""
    if "unusable" in _state:
        return [{"unusable": _state["unusable"]}] * len(jobs)
    loaded = []
    for job in jobs:
        try:
            loaded.append(_state["meter"].load(job))
        except (OSError, soundfile.SoundFileError) as e:
            loaded.append({"error": f"unreadable: {' '.join(str(e).split())}"})
        except Exception as e:  # one clip's, not the file's as such: other metrics may take it
            loaded.append({"error": _message(e)})
    good = [i for i, x in enumerate(loaded) if not isinstance(x, dict)]
    try:
        found = _state["measure"]([loaded[i] for i in good], jobs[0].lang) if good else []
    except Exception as e:
        if len(jobs) > 1:
            return [value for job in jobs for value in _measure([job])]
        found = [{"error": _message(e)}]
    for i, value in zip(good, found, strict=True):
        loaded[i] = value
    return loaded


def _message(e: Exception) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())}"
