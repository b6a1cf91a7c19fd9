"""Speaker encoder: mel of a reference -> speaker embedding of unit length.

Legend: B batch, F mel frames, M mel bands, X size of the speaker embedding.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from e2etts.nets.sequence import length_mask


@dataclass(frozen=True, kw_only=True)
class SpeakerConfig:
    """Size of the speaker embedding, width, kernel and (per layer) dilation of the convolutions."""

    embedding_dim: int = 64
    dim: int = 128
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 2, 3)


class SpeakerEncoder(nn.Module):
    """Dilated residual convolutions and attentive statistics pooling (arXiv 1803.10963)."""

    def __init__(self, config: SpeakerConfig, *, mel_bands: int):
        super().__init__()
        self.stem = nn.Linear(mel_bands, config.dim)
        self.convs = nn.ModuleList(
            nn.Conv1d(config.dim, config.dim, config.kernel, padding="same", dilation=d)
            for d in config.dilations)
        self.score = nn.Linear(config.dim, 1)
        self.head = nn.Linear(2 * config.dim, config.embedding_dim)

    def forward(self, mel: torch.Tensor, lens: torch.Tensor) -> torch.Tensor:
        """mel: (B, F, M) normalised, lens: (B,) -> (B, X), unit length."""
        mask = length_mask(lens, mel.shape[1]).unsqueeze(-1)
        x = self.stem(mel) * mask
        for conv in self.convs:
            x = x + F.gelu(conv(x.transpose(1, 2)).transpose(1, 2)) * mask
        x = x.float()
        weight = self.score(x).float().masked_fill(~mask, -torch.inf).softmax(dim=1)
        mean = (weight * x).sum(1)
        spread = ((weight * (x - mean.unsqueeze(1)).square()).sum(1) + 1e-5).sqrt()
        return F.normalize(self.head(torch.cat([mean, spread], dim=-1)).float(), dim=-1)
