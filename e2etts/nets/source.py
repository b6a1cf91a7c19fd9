"""Pitch extraction, the pitch scale for prediction, and the source signals: pulses and noise.

Legend: B batch, N frames, S samples = N * hop.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
# YIN thresholds of the normalised difference: the first dip below the one is the period; the frame
# is voiced if the dip is below the other.
DIP_BELOW, VOICED_BELOW = 0.15, 0.3


def track_pitch(wav: Tensor, sample_rate_hz: int, hop_samples: int) -> Tensor:
    """Fundamental frequency by YIN (de Cheveigne and Kawahara, JASA 111, 2002).

    wav: (B, S). Returns (B, S // hop_samples) Hz, 0 where unvoiced; frame n is centred on sample
    (n + 1/2) * hop_samples.
    """
    shortest = int(sample_rate_hz / HIGHEST_HZ)
    longest = int(sample_rate_hz / LOWEST_HZ) + 1
    size = 2 * longest
    total = size + longest
    frames = wav.shape[1] // hop_samples
    left = (size + sample_rate_hz // 160) // 2 - hop_samples // 2  # centred for lags near 160 Hz
    padded = F.pad(wav.float(), (left, total))
    x = padded.unfold(1, total, hop_samples)[:, :frames]
    points = 2 ** math.ceil(math.log2(total + size))
    head = torch.fft.rfft(x[..., :size], n=points)
    product = torch.fft.irfft(torch.fft.rfft(x, n=points) * head.conj(), n=points)
    power = F.pad(x.double().square().cumsum(-1), (1, 0))
    energy = (power[..., size : total] - power[..., : longest]).float()  # of x[lag : lag + size]
    difference = (energy[..., :1] + energy - 2 * product[..., :longest]).clamp_min(0)
    lag = torch.arange(1, longest, device=wav.device)
    mean = difference[..., 1:].cumsum(-1) / lag
    dip = F.pad(difference[..., 1:] / mean.clamp_min(1e-8), (1, 0), value=1.0)
    dip[..., :shortest] = 1.0
    inner = dip[..., 1:-1]
    valley = (inner < DIP_BELOW) & (inner <= dip[..., 2:]) & (inner <= dip[..., :-2])
    best = torch.where(valley.any(-1), valley.int().argmax(-1), inner.argmin(-1)) + 1
    a, b, c = (dip.gather(-1, (best + d).unsqueeze(-1)).squeeze(-1) for d in (-1, 0, 1))
    curve = a - 2 * b + c
    shift = torch.where(curve > 1e-6, (a - c) / (2 * curve.clamp_min(1e-6)), 0.0).clamp(-1, 1)
    loud = energy[..., 0] / size > 1e-6  # -60 dB of full scale
    return torch.where((b < VOICED_BELOW) & loud, sample_rate_hz / (best + shift), 0.0)


class PitchScale(nn.Module):
    """Logarithmic pitch bins with soft targets and sub-bin resolution in decoding."""

    def __init__(self, bins: int):
        super().__init__()
        centres = torch.linspace(math.log(LOWEST_HZ), math.log(HIGHEST_HZ), bins)
        self.register_buffer("centres", centres, persistent=False)
        self.step = (math.log(HIGHEST_HZ) - math.log(LOWEST_HZ)) / (bins - 1)

    def targets(self, pitch_hz: Tensor) -> Tensor:
        """(B, N) Hz -> (B, N, bins) distribution, a Gaussian of one bin around the pitch."""
        where = pitch_hz.clamp_min(LOWEST_HZ).log().unsqueeze(-1)
        return torch.softmax(-0.5 * ((where - self.centres) / self.step).square(), -1)

    def decode(self, logits: Tensor, voicing: Tensor | None = None) -> Tensor:
        """(B, N, bins) logits -> (B, N) Hz, the mean of the bins near the most probable one; 0
        where the voicing logit (B, N) is negative."""
        best = logits.argmax(-1, keepdim=True)
        near = (torch.arange(logits.shape[-1], device=logits.device) - best).abs() <= 3
        weight = torch.softmax(logits.masked_fill(~near, -math.inf), -1)
        hz = (weight * self.centres).sum(-1).exp()
        return hz if voicing is None else torch.where(voicing > 0, hz, 0.0)


class Source(nn.Module):
    """Excitation: a band-limited pulse train at the pitch, and noise; both (B, S), float32."""

    def __init__(self, sample_rate_hz: int, hop_samples: int, noise_seconds: int = 4):
        super().__init__()
        self.sample_rate_hz, self.hop_samples = sample_rate_hz, hop_samples
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(noise_seconds * sample_rate_hz, generator=generator)
        self.register_buffer("noise", noise, persistent=False)

    def forward(self, pitch_hz: Tensor, lens: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """pitch_hz: (B, N), 0 where unvoiced; lens: (B,) valid frames; both are 0 after them."""
        if lens is None:
            return self.pulses(pitch_hz), self._noise(*pitch_hz.shape)
        frame = torch.arange(pitch_hz.shape[1], device=lens.device)
        # repeat the last valid frame: no interpolation towards padding
        held = pitch_hz.gather(1, torch.minimum(frame, lens[:, None] - 1))
        valid = (frame < lens[:, None]).repeat_interleave(self.hop_samples, dim=1)
        return self.pulses(held) * valid, self._noise(*pitch_hz.shape) * valid

    def pulses(self, pitch_hz: Tensor) -> Tensor:
        """Sum of all harmonics below the Nyquist frequency at unit power, 0 where unvoiced."""
        hop, nyquist = self.hop_samples, self.sample_rate_hz / 2
        voiced = pitch_hz > 0
        hz = self._between(_hold(pitch_hz, voiced))
        phase = (hz.double() / self.sample_rate_hz).cumsum(1).remainder(1.0).float() * math.pi
        count = (nyquist / _hold(pitch_hz, voiced).repeat_interleave(hop, 1)).floor()
        # sum of cos(2 k phase) for k = 1 .. count, in closed form
        sine = phase.sin()
        small = sine.abs() < 1e-4
        ratio = torch.sin((2 * count + 1) * phase) / torch.where(small, 1.0, sine)
        pulse = torch.where(small, count, (ratio - 1) / 2)
        return pulse * (2 / count).sqrt() * self._between(voiced.float())

    def _between(self, frames: Tensor) -> Tensor:
        """(B, N) at frame centres -> (B, S) by linear interpolation."""
        return F.interpolate(frames.unsqueeze(1), scale_factor=self.hop_samples,
                               mode="linear", align_corners=False).squeeze(1)

    def _noise(self, batch: int, frames: int) -> Tensor:
        samples, size = frames * self.hop_samples, len(self.noise)
        start = torch.zeros(batch, 1, dtype=torch.long, device=self.noise.device)
        if self.training:
            start = torch.randint(size, (batch, 1), device=self.noise.device)
        return self.noise[(start + torch.arange(samples, device=start.device)) % size]


def _hold(pitch_hz: Tensor, voiced: Tensor) -> Tensor:
    """Fill unvoiced frames with the last voiced pitch; 200 Hz before the first voiced frame."""
    index = torch.where(voiced, torch.arange(1, pitch_hz.shape[1] + 1, device=voiced.device), 0)
    index = index.cummax(1).values
    filled = F.pad(pitch_hz, (1, 0), value=200.0)
    return filled.gather(1, index)
