"""Small multi-resolution spectrogram discriminator for optional adversarial training.

Legend: B batch, S samples, F' bins and N' frames of a feature map.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from e2etts.nets.spectral import FLOOR, magnitude, stft


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """One stack of ``layers`` strided convolutions per STFT size."""

    fft_samples: tuple[int, ...] = (512, 1024)
    channels: int = 16
    layers: int = 4


class Verdict(NamedTuple):
    """Per resolution: scores (B, F', N') and the hidden feature maps for feature matching."""

    scores: list[Tensor]
    features: list[list[Tensor]]


class SpectrogramDiscriminator(nn.Module):
    """2-d convolutions on complex STFTs with compressed magnitude, strided in frequency (as in
    UnivNet, arXiv 2106.07889, with the complex input of EnCodec, arXiv 2210.13438)."""

    def __init__(self, config: DiscriminatorConfig):
        super().__init__()
        self.config = config
        self.stacks = nn.ModuleList(self._stack() for _ in config.fft_samples)

    def _stack(self) -> nn.ModuleList:
        width = [2] + [self.config.channels] * self.config.layers
        weight_norm = nn.utils.parametrizations.weight_norm
        stack = [weight_norm(nn.Conv2d(a, b, (5, 3), stride=(2, 1), padding=(2, 1)))
                 for a, b in zip(width, width[1:], strict=False)]
        stack.append(weight_norm(nn.Conv2d(width[-1], 1, 3, padding=1)))
        return nn.ModuleList(stack)

    def forward(self, wav: Tensor) -> Verdict:
        """wav: (B, S)."""
        scores, features = [], []
        for size, stack in zip(self.config.fft_samples, self.stacks, strict=True):
            spectrum = stft(wav, size) / size**0.5
            spectrum = spectrum * magnitude(spectrum).clamp_min(FLOOR).rsqrt()
            x = torch.view_as_real(spectrum).permute(0, 3, 1, 2)
            x = x.contiguous(memory_format=torch.channels_last)
            maps = []
            for layer in stack[:-1]:
                x = F.leaky_relu(layer(x), 0.1)
                maps.append(x)
            scores.append(stack[-1](x).squeeze(1).float())
            features.append(maps)
        return Verdict(scores, features)


def discriminator_loss(real: Verdict, fake: Verdict) -> Tensor:
    """Hinge loss, mean over resolutions; 2 at chance level."""
    parts = [F.relu(1 - r).mean() + F.relu(1 + f).mean()
             for r, f in zip(real.scores, fake.scores, strict=True)]
    return torch.stack(parts).mean()


def adversarial_loss(fake: Verdict) -> Tensor:
    """Hinge loss of the generator, mean over resolutions."""
    return torch.stack([F.relu(1 - f).mean() for f in fake.scores]).mean()


def feature_matching_loss(real: Verdict, fake: Verdict) -> Tensor:
    """L1 distance of hidden feature maps, relative to their mean absolute value in ``real``."""
    parts = []
    for real_maps, fake_maps in zip(real.features, fake.features, strict=True):
        for r, f in zip(real_maps, fake_maps, strict=True):
            r = r.detach().float()
            parts.append((f.float() - r).abs().mean() / r.abs().mean().clamp_min(FLOOR))
    return torch.stack(parts).mean()
