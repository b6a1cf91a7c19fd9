"""What a metric of single wavs or pairs of wavs is: how it reads them and what it returns."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr

from e2etts.files import file_sha256

JUDGE_RATE_HZ = 16000  # the rate that every recogniser and encoder here was trained on
SILENT_PEAK = 1e-4

Measure = Callable[[list[Any], str], list[Any]]


class WavJob(NamedTuple):
    """One wav to measure; reference: the wav that it is compared with, where a metric does."""

    path: Path
    lang: str
    reference: Path | None = None


class Meter:
    """A metric of single wavs or pairs. Worker processes receive it, so it holds plain settings.

    batch_clips: clips measured at once. longest_seconds: where a clip is cut off, None where it is
    not. remedy: how to get a model that does not load; empty where a given file is at fault.
    """

    name: str
    batch_clips: int = 1
    longest_seconds: float | None = None
    remedy = ""

    def key(self, lang: str) -> str:
        """Everything besides the wavs that the value depends on."""
        raise NotImplementedError

    def load(self, job: WavJob) -> Any:
        """The input of a job's measurement: (samples,) float32 at 16 kHz, one channel."""
        return load_16k(job.path)

    def open(self, device: str) -> Measure:
        """Load models; returns f(list of what ``load`` returned, language) -> list of JSON values.
        """
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


def seconds_of(wav: Path) -> float:
    """Duration of a wav; 0 where it cannot be read, which the metrics report."""
    try:
        return soundfile.info(str(wav)).duration
    except (OSError, soundfile.SoundFileError):
        return 0.0


def loop_to(wav: np.ndarray, samples: int) -> np.ndarray:
    """Repeat a clip until it has ``samples``; longer clips stay as they are.

    Encoders pad short clips with silence, which makes all short clips look alike.
    """
    if len(wav) >= samples:
        return wav
    return np.tile(wav, -(-samples // len(wav)))[:samples]


def pack(vector: np.ndarray, kind: str = "<f4") -> str:
    """(X,) numbers -> base64 of little-endian float32, or another ``kind``, for the cache."""
    return base64.b64encode(np.asarray(vector, kind).tobytes()).decode("ascii")


def unpack(text: str, kind: str = "<f4") -> np.ndarray:
    """(X,) from what ``pack`` returned."""
    return np.frombuffer(base64.b64decode(text), kind)
