"""Runs one metric over many wavs: worker processes of one thread, results cached by content."""

import hashlib
import json
import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import soundfile
import soxr
from tqdm import tqdm

from e2etts.data.datadir import write_text
from e2etts.errors import UserError

JUDGE_RATE_HZ = 16000  # what every recogniser and encoder here was trained on
SAVE_EVERY = 50
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

Measure = Callable[[np.ndarray, str], Any]


class Meter(Protocol):
    """A metric that looks at one wav. Sent to worker processes, so it holds plain settings."""

    name: str

    def key(self, lang: str) -> str:
        """Everything besides the wav that its value depends on."""

    def open(self) -> Measure:
        """Load models; returns f(wav (samples,) float32 at 16 kHz, language) -> JSON value."""


class Job(NamedTuple):
    path: Path
    lang: str


def load_16k(path: Path) -> np.ndarray:
    """(samples,) float32 in [-1, 1], one channel, 16 kHz; non-finite samples become silence."""
    wav, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
    wav = np.nan_to_num(wav.mean(1), posinf=0.0, neginf=0.0)
    if rate != JUDGE_RATE_HZ:
        wav = soxr.resample(wav, rate, JUDGE_RATE_HZ)
    return wav.clip(-1.0, 1.0)


def content_hash(path: Path) -> str:
    """Hash of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:32]


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
                self._hashes[path] = content_hash(path)
            except OSError:
                self._hashes[path] = None
        return self._hashes[path]

    def save(self) -> None:
        write_text(self.path, json.dumps(self.values, ensure_ascii=False) + "\n")

    def measure(self, meter: Meter, jobs: Iterable[Job], workers: int) -> dict[Job, Any]:
        """The value of every job whose file exists; ``{"error": why}`` where one failed.

        Equal contents are measured once. Raises UserError when the meter's models do not load.
        """
        wanted = [(job, meter.key(job.lang), self.hash_of(job.path)) for job in jobs]
        wanted = [w for w in wanted if w[2] is not None]
        todo: dict[tuple[str, str], Job] = {}
        for job, key, digest in wanted:
            if digest in self.values.get(key, {}):
                self.hits += 1
            else:
                todo.setdefault((key, digest), job)
        self.misses += len(todo)
        # Longest first, so that no worker is left with a long clip at the end.
        items = sorted(todo.items(), key=lambda item: -item[1].path.stat().st_size)
        failed: dict[tuple[str, str], Any] = {}
        bar = tqdm(total=len(items), desc=f"score {meter.name}", unit="clip",
                   disable=not items, mininterval=0.5)
        for (key, digest), value in _run(meter, items, min(workers, len(items))):
            if isinstance(value, dict) and "error" in value:
                failed[key, digest] = value
            else:
                self.values.setdefault(key, {})[digest] = value
            bar.update()
            if bar.n % SAVE_EVERY == 0:
                self.save()
        bar.close()
        if items:
            self.save()
        return {job: failed.get((key, digest)) or self.values[key][digest]
                for job, key, digest in wanted}


def _run(meter: Meter, items: list, workers: int):
    if not items:
        return
    if workers <= 1:
        _open(meter)
        try:
            for name, job in items:
                yield name, _checked(meter, _one(job))
        finally:
            _close()
        return
    before = {name: os.environ.get(name) for name in ONE_THREAD}
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # read when a worker loads its libraries
    try:
        pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"),
                                   initializer=_open, initargs=(meter,))
        try:
            futures = {pool.submit(_one, job): name for name, job in items}
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


def _checked(meter: Meter, value: Any) -> Any:
    if isinstance(value, dict) and "unusable" in value:
        raise UserError(f"{meter.name}: its model does not load: {value['unusable']}")
    return value


_state: dict[str, Any] = {}


def _open(meter: Meter) -> None:
    try:
        _state["measure"] = meter.open()
    except Exception as e:  # reported by the first job: an initialiser has no return value
        _state["unusable"] = " ".join(f"{type(e).__name__}: {e}".split())


def _close() -> None:
    _state.clear()


def _one(job: Job) -> Any:
    if "unusable" in _state:
        return {"unusable": _state["unusable"]}
    try:
        wav = load_16k(job.path)
    except Exception as e:
        return {"error": f"unreadable: {' '.join(str(e).split())}"}
    if not len(wav):
        return {"error": "no samples"}
    try:
        return _state["measure"](wav, job.lang)
    except Exception as e:
        return {"error": f"{type(e).__name__}: {' '.join(str(e).split())}"}
