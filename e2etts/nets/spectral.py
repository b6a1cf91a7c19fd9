"""Waveform reconstruction losses on (B, S), in float32; 0 for identical inputs.

Legend: B batch, S samples, N frames, F bins.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torchaudio
from torch import Tensor

FLOOR = 1e-5
PHASE_FFT_SAMPLES = 1024


@lru_cache
def _window(fft_samples: int, device: str) -> Tensor:
    return torch.hann_window(fft_samples, device=device)


@lru_cache
def _bank(fft_samples: int, bands: int, sample_rate_hz: int, device: str) -> Tensor:
    return torchaudio.functional.melscale_fbanks(
        fft_samples // 2 + 1, 0.0, sample_rate_hz / 2, bands, sample_rate_hz,
        norm="slaney", mel_scale="slaney").to(device)


def stft(wav: Tensor, fft_samples: int) -> Tensor:
    """(B, S) -> (B, F, N) complex, Hann window, hop of a quarter window."""
    with torch.autocast(wav.device.type, enabled=False):
        return torch.stft(wav.float(), fft_samples, fft_samples // 4, return_complex=True,
                          window=_window(fft_samples, str(wav.device)), pad_mode="constant")


def magnitude(spectrum: Tensor) -> Tensor:
    """Absolute value with a bounded gradient at 0."""
    return (spectrum.real.square() + spectrum.imag.square() + FLOOR**2).sqrt()


def stft_loss(fake: Tensor, real: Tensor, fft_samples: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Multi-resolution STFT loss (Parallel WaveGAN, arXiv 1910.11480).

    Returns (spectral convergence, mean absolute difference of log magnitudes), each the mean over
    resolutions.
    """
    convergence, log_distance = [], []
    for size in fft_samples:
        a, b = (magnitude(stft(x, size)) for x in (fake, real))
        convergence.append((a - b).norm() / b.norm().clamp_min(FLOOR))
        # Below 1e-3 a bin is under the noise floor of recordings: ignore its shape.
        log_distance.append((a.clamp_min(1e-3).log() - b.clamp_min(1e-3).log()).abs().mean())
    return torch.stack(convergence).mean(), torch.stack(log_distance).mean()


def mel_loss(fake: Tensor, real: Tensor, sample_rate_hz: int,
             resolutions: Sequence[tuple[int, int]]) -> Tensor:
    """L1 distance of log-mels, averaged over (fft_samples, bands) resolutions."""
    parts = []
    for size, bands in resolutions:
        bank = _bank(size, bands, sample_rate_hz, str(fake.device))
        with torch.autocast(fake.device.type, enabled=False):  # a product would become bfloat16
            a, b = ((magnitude(stft(x, size)).transpose(1, 2) @ bank).clamp_min(FLOOR).log()
                    for x in (fake, real))
        parts.append((a - b).abs().mean())
    return torch.stack(parts).mean()


def anti_wrapping(angle: Tensor) -> Tensor:
    """Distance of an angle to the nearest multiple of 2 pi (APNet, arXiv 2305.07952)."""
    return (angle - 2 * math.pi * torch.round(angle / (2 * math.pi))).abs()


def phase_loss(fake: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Instantaneous phase, group delay and instantaneous frequency (APNet, arXiv 2305.07952).

    Bins are weighted by the square root of the magnitude in ``real``, since the phase of silence is
    arbitrary. Returns "phase", "group_delay", "frequency", each in radians.
    """
    a, b = stft(fake, PHASE_FFT_SAMPLES), stft(real, PHASE_FFT_SAMPLES)
    weight = magnitude(b).sqrt().detach()
    turn = _angle(a) - _angle(b)
    return {
        "phase": _weighted(anti_wrapping(turn), weight),
        "group_delay": _weighted(anti_wrapping(turn.diff(dim=1)), weight[:, 1:]),
        "frequency": _weighted(anti_wrapping(turn.diff(dim=2)), weight[:, :, 1:]),
    }


def _angle(spectrum: Tensor) -> Tensor:
    safe = torch.where(spectrum.abs() < FLOOR, torch.ones_like(spectrum), spectrum)
    return safe.angle()


def _weighted(value: Tensor, weight: Tensor) -> Tensor:
    return (value * weight).sum() / weight.sum().clamp_min(FLOOR)


def waveform_loss(fake: Tensor, real: Tensor) -> Tensor:
    """L1 distance of samples, relative to the mean absolute sample of ``real``."""
    return (fake.float() - real.float()).abs().mean() / real.float().abs().mean().clamp_min(FLOOR)
