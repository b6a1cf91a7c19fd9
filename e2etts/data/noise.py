"""Additive noise augmentation at a given SNR: white, pink, babble of other clips, or from files.

The workers of the loader add noise to the waveform and compute features of the mixture: mels of
speech and noise are not additive, since the mixture depends on their phases.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import soundfile

from e2etts.errors import UserError

KINDS = ("white", "pink", "babble", "files")
SUFFIXES = (".wav", ".flac", ".ogg")


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """probability: share of rows with noise. snr_db: range of the signal-to-noise ratio, computed
    over a whole row. kinds: one is drawn per row; "babble" is a sum of babble_clips clips of the
    set, by other speakers if there are any. folder: recordings for the kind "files", at the sample
    rate of the data."""

    probability: float = 0.5
    snr_db: tuple[float, float] = (0.0, 20.0)
    kinds: tuple[Literal["white", "pink", "babble", "files"], ...] = ("white", "pink", "babble")
    babble_clips: int = 4
    folder: str | None = None

    def __post_init__(self):
        if not 0 <= self.probability <= 1:
            raise ValueError("probability must be between 0 and 1")
        if self.snr_db[0] > self.snr_db[1]:
            raise ValueError("snr_db must be written [low, high]")
        if not self.kinds or self.babble_clips < 1:
            raise ValueError("kinds must name at least one, and babble_clips be at least 1")
        if ("files" in self.kinds) != (self.folder is not None):
            raise ValueError('the kind "files" and a folder need each other: set both or neither')


class Noise:
    """Draws noise for a row. Raises UserError for a folder without recordings."""

    def __init__(self, config: NoiseConfig, sample_rate_hz: int):
        self.config, self.rate = config, sample_rate_hz
        self.files: list[Path] = []
        if config.folder is not None:
            self.files = sorted(p for p in Path(config.folder).rglob("*") if p.suffix in SUFFIXES)
            if not self.files:
                raise UserError(f"data.noise.folder: {config.folder}: no {', '.join(SUFFIXES)} "
                                "files in it; set it to a folder of recordings")

    def draw(self, speech: np.ndarray, random: np.random.Generator,
             clip: Callable[[np.random.Generator], np.ndarray]) -> np.ndarray:
        """Noise (S,) for speech (S,) at a random SNR of the range; zeros for rows without noise.
        ``clip(random)`` returns samples of another speaker, for babble."""
        if random.random() >= self.config.probability:
            return np.zeros_like(speech)
        kind = self.config.kinds[random.integers(len(self.config.kinds))]
        snr_db = random.uniform(*self.config.snr_db)
        if kind == "babble":
            clips = [clip(random) for _ in range(self.config.babble_clips)]
            noise = sum(_unit(loop(c, len(speech), random)) for c in clips)
        elif kind == "files":
            noise = loop(self._read(self.files[random.integers(len(self.files))]), len(speech),
                         random)
        else:
            noise = coloured(len(speech), random, 0.0 if kind == "white" else 1.0)
        return scaled(noise, speech, snr_db)

    def _read(self, path: Path) -> np.ndarray:
        try:
            wav, rate = soundfile.read(path, dtype="float32", always_2d=True)
        except (OSError, soundfile.SoundFileError) as e:
            raise UserError(f"{path}: cannot read noise: {e}") from e
        if rate != self.rate or not len(wav):
            raise UserError(f"{path}: {len(wav)} samples at {rate} Hz, expected some at "
                            f"{self.rate} Hz: resample or remove it")
        return wav.mean(axis=1)


def scaled(noise: np.ndarray, speech: np.ndarray, snr_db: float) -> np.ndarray:
    """Scale ``noise`` to ``snr_db`` decibels below ``speech``, by mean power; silence is kept."""
    power = np.mean(np.square(speech, dtype=np.float64))
    gain = np.sqrt(power / 10 ** (snr_db / 10))
    return (_unit(noise) * gain).astype(np.float32)


def coloured(samples: int, random: np.random.Generator, exponent: float) -> np.ndarray:
    """Gaussian noise whose power falls as frequency ** -exponent: 0 is white, 1 pink."""
    spectrum = np.fft.rfft(random.standard_normal(samples))
    place = np.maximum(np.arange(len(spectrum)), 1)
    return np.fft.irfft(spectrum * place ** (-exponent / 2), samples)


def loop(wav: np.ndarray, samples: int, random: np.random.Generator) -> np.ndarray:
    """Random crop of ``samples``; a shorter recording is repeated."""
    start = int(random.integers(max(1, len(wav) - samples + 1)))
    return np.resize(wav[start:], samples) if len(wav) < samples else wav[start : start + samples]


def _unit(wav: np.ndarray) -> np.ndarray:
    """Normalise to mean power 1; silence is kept."""
    power = np.mean(np.square(wav, dtype=np.float64))
    return wav / np.sqrt(power) if power > 0 else wav
