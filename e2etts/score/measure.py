"""Runs one metric over many wavs: one process a device, results cached by content."""

import json
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from e2etts.errors import UserError
from e2etts.files import file_sha256, write_text
from e2etts.score.models import Unavailable

JUDGE_RATE_HZ = 16000  # what every recogniser and encoder here was trained on
SAVE_EVERY = 50
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

CPU = "cpu"

Measure = Callable[[list[Any], str], list[Any]]


class Job(NamedTuple):
    """One wav to measure; reference: the wav that it is compared with, where a metric does."""

    path: Path
    lang: str
    reference: Path | None = None


class Meter:
    """A metric of single wavs or pairs. Sent to worker processes, so it holds plain settings.

    batch_clips: how many clips are measured at once. longest_seconds: where a clip is cut off, None
    where it is not. remedy: how to get a model that does not load;
    empty where a file that was given is at fault.
    """

    name: str
    batch_clips: int = 1
    longest_seconds: float | None = None
    remedy = ""

    def key(self, lang: str) -> str:
        """Everything besides the wavs that the value depends on."""
        raise NotImplementedError

    def load(self, job: Job) -> Any:
        """What is measured of a job: (samples,) float32 at 16 kHz, one channel."""
        return load_16k(job.path)

    def open(self, device: str) -> Measure:
        """Load models; returns f(list of what ``load`` gave, language) -> list of JSON values."""
        raise NotImplementedError


@dataclass(frozen=True)
class CheckpointMeter(Meter):
    """A metric whose model is one file. identity: hash of its content; kind, title: short and
    whole name of the model."""

    checkpoint: str
    identity: str
    kind = title = ""

    @classmethod
    def of(cls, path: Path) -> "CheckpointMeter":
        return cls(str(path), file_sha256(path))

    def describe(self) -> dict[str, str]:
        return {"name": self.title, "source": self.checkpoint, "model_sha256": self.identity}

    def key(self, lang: str) -> str:
        return f"{self.kind} {self.identity}"


def each(measure: Callable[[Any, str], Any]) -> Measure:
    """A measure of lists from one of single clips."""
    return lambda loaded, lang: [measure(one, lang) for one in loaded]


def read_samples(path: Path, dtype: str = "float32") -> tuple[np.ndarray, int]:
    """(samples, channels) and the rate. Raises OSError for a wav without sound."""
    wav, rate = soundfile.read(str(path), dtype=dtype, always_2d=True)
    if not len(wav):
        raise OSError("no samples")
    if not np.isfinite(wav).all():
        raise OSError("samples that are not finite")
    return wav, rate


def load_16k(path: Path) -> np.ndarray:
    """(samples,) float32 in [-1, 1], the mean of the channels, 16 kHz (soxr)."""
    wav, rate = read_samples(path)
    wav = wav.mean(1)
    if rate != JUDGE_RATE_HZ:
        wav = soxr.resample(wav, rate, JUDGE_RATE_HZ)
    return wav.clip(-1.0, 1.0)


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

    def measure(self, meter: Meter, jobs: Iterable[Job], workers: int,
                devices: tuple[str, ...] = ()) -> dict[Job, Any]:
        """The value of every job whose files exist; ``{"error": why}`` where one failed.

        One process for each of ``devices``; without any, ``workers`` processes of one thread.
        Equal contents are measured once. Raises Unavailable or UserError when the meter's models
        do not load.
        """
        wanted = [(job, meter.key(job.lang), self._digest(job)) for job in jobs]
        wanted = [w for w in wanted if w[2] is not None]
        todo: dict[tuple[str, str], Job] = {}
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

    def _digest(self, job: Job) -> str | None:
        digests = [self.hash_of(p) for p in (job.path, job.reference) if p is not None]
        return None if None in digests else "+".join(digests)


Batch = tuple[list[tuple[str, str]], list[Job]]


def _batches(meter: Meter, todo: dict[tuple[str, str], Job]) -> list[Batch]:
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
                            "memory: free some, or set score.workers=1; what was measured is kept"
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
        _state["unusable"] = _said(e)


def _measure(jobs: list[Job]) -> list[Any]:
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
            loaded.append({"error": _said(e)})
    good = [i for i, x in enumerate(loaded) if not isinstance(x, dict)]
    try:
        found = _state["measure"]([loaded[i] for i in good], jobs[0].lang) if good else []
    except Exception as e:
        if len(jobs) > 1:
            return [value for job in jobs for value in _measure([job])]
        found = [{"error": _said(e)}]
    for i, value in zip(good, found, strict=True):
        loaded[i] = value
    return loaded


def _said(e: Exception) -> str:
    return f"{type(e).__name__}: {' '.join(str(e).split())}"
