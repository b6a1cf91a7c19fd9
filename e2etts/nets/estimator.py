"""The velocity net: a transformer with adaptive norm on time and speaker.

Legend: B batch, N positions, C channels of the data, H size of the condition,
X size of a speaker embedding.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

from e2etts.nets.transformer import Transformer, TransformerConfig


class Condition(NamedTuple):
    """frames: (B, N, H) at every position; speaker: (B, X) embeddings."""

    frames: torch.Tensor
    speaker: torch.Tensor

    def dropped(self, keep: torch.Tensor) -> "Condition":
        """All conditions zeroed together where keep (B,) is False."""
        return Condition(self.frames * keep[:, None, None], self.speaker * keep[:, None])

    def select(self, rows: torch.Tensor) -> "Condition":
        """Rows (R,)."""
        return Condition(self.frames[rows], self.speaker[rows])

    def with_and_without(self) -> "Condition":
        """2 B rows: these, then as many with all conditions zeroed."""
        return Condition(*(torch.cat([x, torch.zeros_like(x)]) for x in self))


def time_embedding(time: torch.Tensor, dim: int) -> torch.Tensor:
    """(B,) times in [0, 1] -> (B, dim) sines and cosines."""
    freqs = torch.exp(-math.log(1e4) * torch.arange(dim // 2, device=time.device) / (dim // 2))
    angles = 1000 * time[:, None] * freqs
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Estimator(nn.Module):
    """v(x, t | condition); its head starts at zero."""

    def __init__(self, trunk: TransformerConfig, *, channels: int, condition: int,
                 speaker_dim: int):
        super().__init__()
        dim = trunk.dim
        self.stem = nn.Linear(channels + condition, dim)
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.speaker = nn.Linear(speaker_dim, dim)
        self.trunk = Transformer(trunk, causal=False, condition_dim=dim)
        self.head = nn.Linear(dim, channels)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(
        self, x: torch.Tensor, time: torch.Tensor, condition: Condition, lens: torch.Tensor
    ) -> torch.Tensor:
        """x: (B, N, C) at time (B,), lens: (B,) -> velocity (B, N, C)."""
        dim = self.stem.out_features
        given = self.time(time_embedding(time, dim)) + self.speaker(condition.speaker)
        h = self.stem(torch.cat([x, condition.frames.to(x.dtype)], dim=-1))
        return self.head(self.trunk(h, lens=lens, condition=nn.functional.silu(given)))
