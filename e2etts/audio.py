"""Audio configuration, log-mel features, and reading and writing of wav files."""

import contextlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio

from e2etts.errors import UserError


@dataclass(frozen=True, kw_only=True)
class AudioConfig:
    """Sample rate and mel analysis. One token spans ``frames_per_token`` mel frames."""

    sample_rate_hz: int = 16000
    hop_samples: int = 320
    window_samples: int = 1024
    mel_bands: int = 80
    mel_low_hz: float = 0.0
    mel_high_hz: float = 8000.0
    frames_per_token: int = 2

    def __post_init__(self):
        if min(self.sample_rate_hz, self.hop_samples, self.mel_bands, self.frames_per_token) < 1:
            raise ValueError("rates and sizes must be at least 1")
        if self.sample_rate_hz % (self.hop_samples * self.frames_per_token):
            raise ValueError("sample_rate_hz must be a multiple of hop_samples * frames_per_token")
        if self.mel_high_hz > self.sample_rate_hz / 2:
            raise ValueError("mel_high_hz is above half the sample rate")
        if not 0 <= self.mel_low_hz < self.mel_high_hz:
            raise ValueError("mel_low_hz must be at least 0 and below mel_high_hz")
        if self.window_samples < self.hop_samples or (self.window_samples - self.hop_samples) % 2:
            raise ValueError("window_samples must be hop_samples plus an even number")

    @property
    def frame_rate_hz(self) -> float:
        return self.sample_rate_hz / self.hop_samples

    @property
    def token_rate_hz(self) -> float:
        return self.frame_rate_hz / self.frames_per_token


LOG_FLOOR = 1e-5


@lru_cache
def _mel_constants(config: AudioConfig) -> tuple[torch.Tensor, torch.Tensor]:
    bank = torchaudio.functional.melscale_fbanks(
        config.window_samples // 2 + 1, config.mel_low_hz, config.mel_high_hz,
        config.mel_bands, config.sample_rate_hz, norm="slaney", mel_scale="slaney")
    return torch.hann_window(config.window_samples), bank


def log_mel(wav: torch.Tensor, config: AudioConfig) -> torch.Tensor:
    """Natural-log magnitude mel spectrogram.

    wav: (..., samples) in [-1, 1]. Returns (..., frames, mel_bands) with
    frames = samples // hop_samples, frame t centred on sample (t + 1/2) * hop_samples.
    """
    window, bank = (c.to(wav.device) for c in _mel_constants(config))
    frames = wav.shape[-1] // config.hop_samples
    wav = wav[..., : frames * config.hop_samples]
    side = (config.window_samples - config.hop_samples) // 2
    flat = wav.reshape(-1, 1, wav.shape[-1])
    flat = torch.nn.functional.pad(flat, (side, side)).squeeze(1)
    spec = torch.stft(flat, config.window_samples, config.hop_samples, window=window,
                      center=False, return_complex=True).transpose(1, 2)
    # In place and without abs(), which is slow on complex tensors: a third of the time. The minimum
    # power, far below LOG_FLOOR, keeps the gradient of the root finite in silence.
    power = spec.real.square().addcmul_(spec.imag, spec.imag)
    magnitude = power.clamp_min_(1e-20).sqrt_()
    mel = (magnitude @ bank).clamp_min_(LOG_FLOOR).log_()
    return mel.reshape(*wav.shape[:-1], frames, config.mel_bands)


def load_wav(path: str | Path, sample_rate_hz: int) -> np.ndarray:
    """Read mono float32 samples at exactly ``sample_rate_hz``; never resamples.

    Raises UserError naming the file when it is missing, unreadable, stereo or of another rate.
    """
    wav, rate = _read(path)
    if wav.shape[1] != 1:
        raise UserError(f"{path}: {wav.shape[1]} channels, expected one; mix it down first")
    if rate != sample_rate_hz:
        raise UserError(f"{path}: {rate} Hz, expected {sample_rate_hz} Hz; resample it first")
    return wav[:, 0]


def load_wav_as(path: str | Path, sample_rate_hz: int) -> np.ndarray:
    """Like ``load_wav``, but mixes down and resamples; for user audio such as voice prompts.

    Raises UserError for a file that is missing, unreadable or empty.
    """
    wav, rate = _read(path)
    if not len(wav):
        raise UserError(f"{path}: no audio in it; give a recording with speech")
    mono = torch.from_numpy(wav.mean(axis=1))
    return torchaudio.functional.resample(mono, rate, sample_rate_hz).numpy()


def _read(path: str | Path) -> tuple[np.ndarray, int]:
    """(samples, channels) and the sample rate."""
    try:
        return soundfile.read(str(path), dtype="float32", always_2d=True)
    except (OSError, soundfile.SoundFileError) as e:
        raise UserError(f"{path}: cannot read audio: {e}") from e


def save_wav(path: str | Path, wav: np.ndarray, sample_rate_hz: int) -> None:
    """Write (samples,), clipped to [-1, 1], as 16-bit PCM, atomically (temporary name, rename).

    Raises UserError if the write fails.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(str(part), np.clip(wav, -1.0, 1.0), sample_rate_hz, "PCM_16", format="WAV")
        part.replace(path)
    except (OSError, soundfile.SoundFileError) as e:
        with contextlib.suppress(OSError):
            part.unlink()
        raise UserError(f"{path}: cannot write: {e}") from e
