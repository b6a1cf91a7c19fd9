"""Vocoder: log-mel -> ConvNeXt -> short-time spectrum -> inverse STFT (Vocos, arXiv 2306.00814).

Two types of spectrum. "phase": the net predicts magnitude and phase, as in the paper. "harmonic":
the net filters a pulse train at its predicted pitch and noise (harmonic plus noise, as in DDSP,
arXiv 2001.04643). The phase is then coherent from the first step, and clean voiced speech needs no
adversarial training.

Legend: B batch, T mel frames, M mel bands, N fine frames = T * frame_split, C channels, F bins,
S samples.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2etts.nets.sequence import length_mask
from e2etts.nets.source import PitchScale, Source

PITCH_BINS = 96
MEL_MEAN, MEL_DEVIATION = 5.0, 2.5  # of the negative log-mel of speech, roughly


@dataclass(frozen=True, kw_only=True)
class VocoderConfig:
    """``frame_split``: fine frames per mel frame; the inverse STFT hops by one fine frame."""

    frame_split: int = 2
    fft_samples: int = 640
    spectrum: Literal["harmonic", "phase"] = "harmonic"
    dim: int = 256
    layers: int = 4
    kernel: int = 7
    hidden_multiplier: int = 3

    def __post_init__(self):
        if not self.kernel % 2:
            raise ValueError("kernel must be odd")


class VocoderOutput(NamedTuple):
    """wav: (B, S). pitch_logits (B, N, PITCH_BINS), voicing_logits (B, N): None without pitch."""

    wav: Tensor
    pitch_logits: Tensor | None = None
    voicing_logits: Tensor | None = None


def _magnitude(log_magnitude: Tensor) -> Tensor:
    return torch.exp(log_magnitude.clamp_max(8.0))  # prevents overflow


class SameSTFT(nn.Module):
    """STFT and inverse STFT with frame n centred on sample (n + 1/2) * hop ("same" padding).

    ``inverse(forward(x)) == x``: the Hann window is used for analysis and synthesis, and the
    result is divided by the overlap-add of its square. Always float32.
    """

    def __init__(self, fft_samples: int, hop_samples: int):
        super().__init__()
        self.fft_samples, self.hop_samples = fft_samples, hop_samples
        self.side = (fft_samples - hop_samples) // 2
        self.register_buffer("window", torch.hann_window(fft_samples), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        """(B, N * hop) float samples -> (B, N, F) complex."""
        with torch.autocast(wav.device.type, enabled=False):
            padded = F.pad(wav.float(), (self.side, self.side))
            frames = padded.unfold(1, self.fft_samples, self.hop_samples)
            return torch.fft.rfft(frames * self.window)

    def inverse(self, spectrum: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, F) complex -> (B, N * hop) samples; samples of frames outside mask
        (B, N, 1) are 0."""
        with torch.autocast(spectrum.device.type, enabled=False):
            frames = torch.fft.irfft(spectrum, n=self.fft_samples) * self.window
            envelope = self.window.square().expand(1, frames.shape[1], -1)
            if mask is not None:
                frames, envelope = frames * mask, envelope * mask
            # the sum is never 0, since the hop is at most half the window
            wav = self._overlap_add(frames) / self._overlap_add(envelope).clamp_min(1e-6)
            if mask is not None:
                wav = wav * mask[..., 0].repeat_interleave(self.hop_samples, dim=1)
            return wav

    def _overlap_add(self, frames: Tensor) -> Tensor:
        batch, count, _ = frames.shape
        ratio = self.fft_samples // self.hop_samples
        parts = frames.reshape(batch, count, ratio, self.hop_samples)
        out = sum(F.pad(parts[:, :, r], (0, 0, r, ratio - 1 - r)) for r in range(ratio))
        return out.reshape(batch, -1)[:, self.side : self.side + count * self.hop_samples]


class DepthwiseConv(nn.Module):
    """Same-length depthwise convolution over time on (B, N, C)."""

    def __init__(self, dim: int, kernel: int):
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, (1, kernel), padding=(0, kernel // 2), groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        # 2-d convolution in channels-last format: on CPU up to 18 times as fast as the 1-d kernel.
        image = x.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)
        return self.conv(image).squeeze(2).transpose(1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution, norm, two-layer MLP, scaled residual (arXiv 2201.03545)."""

    def __init__(self, dim: int, kernel: int, hidden: int, scale: float):
        super().__init__()
        self.conv = DepthwiseConv(dim, kernel)
        self.norm = nn.LayerNorm(dim)
        self.up = nn.Linear(dim, hidden)
        self.down = nn.Linear(hidden, dim)
        self.scale = nn.Parameter(torch.full((dim,), scale))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (B, N, C); mask: (B, N, 1) or None."""
        y = self.norm(self.conv(x if mask is None else x * mask))
        return x + self.scale * self.down(F.gelu(self.up(y)))


class Vocoder(nn.Module):
    """Natural-log mel (B, T, mel_bands) -> samples (B, T * hop_samples) in about [-1, 1].

    Mel frame t is centred on sample (t + 1/2) * hop_samples. In evaluation
    the output is a function of the mel: the noise of the "harmonic" spectrum is then fixed.
    """

    def __init__(
        self, config: VocoderConfig, *, sample_rate_hz: int, hop_samples: int, mel_bands: int
    ):
        """Raises ValueError if the sizes do not match the hop."""
        super().__init__()
        self.config = c = config
        hop = hop_samples // c.frame_split
        if hop_samples % c.frame_split:
            raise ValueError("audio.hop_samples must be a multiple of vocoder.frame_split")
        if c.fft_samples % hop or c.fft_samples < hop * 2 or (c.fft_samples - hop) % 2:
            raise ValueError("vocoder.fft_samples must be 2 or more times hop_samples / "
                             "frame_split, their difference even")
        self.fine_hop_samples = hop
        self.stft = SameSTFT(c.fft_samples, hop)
        bins = c.fft_samples // 2 + 1
        self.embed = nn.Conv1d(mel_bands, c.dim, c.kernel, padding=c.kernel // 2)
        self.norm_in = nn.LayerNorm(c.dim)
        self.split = nn.Linear(c.dim, c.dim * c.frame_split)
        self.blocks = nn.ModuleList(
            ConvNeXtBlock(c.dim, c.kernel, c.dim * c.hidden_multiplier, 1 / c.layers)
            for _ in range(c.layers))
        self.norm_out = nn.LayerNorm(c.dim)
        self.harmonic = c.spectrum == "harmonic"
        self.head = nn.Linear(c.dim, bins * (3 if self.harmonic else 2))
        self.base = nn.Linear(mel_bands, bins)
        self._start_from_mel(bins, sample_rate_hz)
        if self.harmonic:
            self.pitch_scale = PitchScale(PITCH_BINS)
            self.pitch_head = nn.Linear(c.dim, PITCH_BINS + 1)
            self.source = Source(sample_rate_hz, hop)

    def _start_from_mel(self, bins: int, sample_rate_hz: int) -> None:
        """Initialise the log magnitude of each bin with that of the nearest mel bands."""
        bands, device = self.base.in_features, self.base.weight.device
        hz = torch.linspace(0, sample_rate_hz / 2, bins, device=device)
        # Slaney mel: linear to 1 kHz, then logarithmic.
        mel = torch.where(hz < 1000, hz * 3 / 200,
                          15 + torch.log(hz.clamp_min(1.0) / 1000) / 0.06875177742094912)
        place = mel / mel[-1] * (bands + 1) - 1
        weight = (1 - (place[:, None] - torch.arange(bands, device=device)).abs()).clamp_min(0)
        weight[place <= 0, 0] = 1
        weight[place >= bands - 1, -1] = 1
        with torch.no_grad():
            self.base.weight.copy_(weight)
            # Relative to the level of white noise, which the source has and the phase has not.
            self.base.bias.fill_(-0.5 if self.harmonic else 2.5)
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()

    def forward(self, mel: Tensor, lens: Tensor | None = None,
                pitch_hz: Tensor | None = None) -> VocoderOutput:
        """mel: (B, T, M); lens: (B,) valid frames, samples after them are 0.

        pitch_hz: (B, N) ground-truth pitch, 0 where unvoiced; replaces the predicted pitch.
        """
        c = self.config
        coarse = None if lens is None else length_mask(lens, mel.shape[1]).unsqueeze(-1)
        mask = None if lens is None else coarse.repeat_interleave(c.frame_split, dim=1)
        mel = mel.float()
        if coarse is not None:  # not a product: padding may be inf
            mel = torch.where(coarse, mel, -MEL_MEAN)
        x = self._trunk((mel + MEL_MEAN) / MEL_DEVIATION, mask)
        shape = self.head(x).float()
        logits = self.pitch_head(x).float() if self.harmonic else None
        with torch.autocast(mel.device.type, enabled=False):
            base = self.base(mel).repeat_interleave(c.frame_split, dim=1)
            level, turn, *hiss = shape.chunk(3 if self.harmonic else 2, dim=-1)
            spectrum = torch.polar(_magnitude(base + level), turn)
            if logits is None:
                return VocoderOutput(self.stft.inverse(spectrum, mask))
            pitch_logits, voicing_logits = logits[..., :-1], logits[..., -1]
            if pitch_hz is None:
                pitch_hz = self.pitch_scale.decode(pitch_logits.detach(), voicing_logits.detach())
            pulses, noise = self.source(pitch_hz, None if lens is None else lens * c.frame_split)
            spectrum = self.stft(pulses) * spectrum + self.stft(noise) * _magnitude(base + hiss[0])
            return VocoderOutput(self.stft.inverse(spectrum, mask), pitch_logits, voicing_logits)

    def _trunk(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.norm_in(self.embed(x.transpose(1, 2)).transpose(1, 2))
        batch, frames, _ = x.shape
        x = self.split(x).reshape(batch, frames * self.config.frame_split, -1)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm_out(x)

    @torch.no_grad()
    def synthesize(self, mel: Tensor, lens: Tensor | None = None) -> Tensor:
        """(B, T, M) -> (B, T * hop_samples), clipped to [-1, 1]."""
        return self(mel, lens).wav.clamp(-1, 1)
