"""Finite scalar quantisation (FSQ, arXiv 2309.15505) with a fixed codebook.

Legend: B batch, T tokens, D dimensions of the code, V = product of the levels.
"""

import math
from typing import NamedTuple

import torch
from torch import nn

MOMENTUM = 0.02  # of the running statistics


class FSQOutput(NamedTuple):
    """code: (B, T, D) grid values in [-1, 1] with straight-through gradient;
    index: (B, T) in 0..V-1; bounded: (B, T, D) the value before rounding, in grid units / half."""

    code: torch.Tensor
    index: torch.Tensor
    bounded: torch.Tensor


class FSQ(nn.Module):
    """Round each dimension to one of ``levels[d]`` evenly spaced values in [-1, 1].

    The input is normalised per dimension over valid frames (batch norm without learned parameters;
    running statistics in evaluation). Without it, the token entropy stays below 2 of 10 bits for
    the first hundreds of steps. ``bound`` limits values to the grid: "tanh" (arXiv 2309.15505) or
    "sigmoid", 2 sigmoid(1.6 u) - 1, which uses the outer levels less (iFSQ, arXiv 2601.17124).
    """

    def __init__(self, levels: tuple[int, ...], bound: str = "tanh"):
        super().__init__()
        if not levels or min(levels) < 2:
            raise ValueError(f"FSQ needs at least 2 levels in each dimension, got {levels}")
        if bound not in ("tanh", "sigmoid"):
            raise ValueError(f"unknown FSQ bound '{bound}': tanh or sigmoid")
        self.levels, self.bound = tuple(levels), bound
        self.codebook_size = math.prod(levels)
        steps = [math.prod(levels[:d]) for d in range(len(levels))]
        self.register_buffer("_levels", torch.tensor(levels), persistent=False)
        self.register_buffer("_steps", torch.tensor(steps), persistent=False)
        self.register_buffer("mean", torch.zeros(len(levels)))
        self.register_buffer("var", torch.ones(len(levels)))
        self.register_buffer("updates", torch.zeros(()))

    def forward(self, u: torch.Tensor, mask: torch.Tensor) -> FSQOutput:
        """u: (B, T, D) pre-quantisation values; mask: (B, T) bool, True on valid tokens."""
        u = self._normalise(u.float(), mask)
        squashed = torch.tanh(u) if self.bound == "tanh" else 2 * torch.sigmoid(1.6 * u) - 1
        digits = self._spread(squashed)
        rounded = digits + (digits.round() - digits).detach()
        half = (self._levels - 1) / 2
        # NaN gets a valid index; the NaN stays visible in the code.
        index = (rounded.detach().nan_to_num(0.0).round().long() * self._steps).sum(-1)
        return FSQOutput(rounded / half - 1, index, squashed)

    def _spread(self, bounded: torch.Tensor) -> torch.Tensor:
        """(..., D) in (-1, 1) -> digits before rounding."""
        # Levels 0..L-1 are spread over the open interval (-1/2, L - 1/2): no level is favoured for
        # odd or even L, and rounding stays within the grid.
        return (bounded * (self._levels * 0.999) + self._levels - 1) / 2

    def soft_mean(
        self, values: torch.Tensor, bounded: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Expectation (...,) of a value of every code (..., V) under p(k) ~ exp(-|x - k|^2 /
        temperature), with x the value before rounding (..., D) and k the code, both in grid
        levels. Its gradient with respect to ``bounded`` is that of soft targets. p factorises over
        the dimensions, which are summed one by one."""
        digits = self._spread(bounded)
        for d, count in enumerate(self.levels):
            away = digits[..., d, None] - torch.arange(count, device=digits.device)
            p = (-away.square() / temperature).softmax(-1)
            values = (values.unflatten(-1, (-1, count)) * p.unsqueeze(-2)).sum(-1)
        return values.squeeze(-1)

    def _normalise(self, u: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if self.training:
            valid = u[mask]
            mean, var = valid.mean(0), valid.var(0, unbiased=False)
            with torch.no_grad():
                # A plain mean at first: short runs must not retain the initial values.
                self.updates += 1
                share = (1 / self.updates).clamp_min(MOMENTUM)
                self.mean.lerp_(mean, share)
                self.var.lerp_(var, share)
        else:
            mean, var = self.mean, self.var
        return (u - mean) * torch.rsqrt(var + 1e-5)

    def to_code(self, index: torch.Tensor) -> torch.Tensor:
        """(...,) indices -> (..., D) grid values in [-1, 1]. Raises IndexError out of range."""
        if index.numel() and (int(index.min()) < 0 or int(index.max()) >= self.codebook_size):
            raise IndexError(f"token index outside 0..{self.codebook_size - 1}")
        return self.to_digits(index) / ((self._levels - 1) / 2) - 1

    def to_digits(self, index: torch.Tensor) -> torch.Tensor:
        """(...,) indices -> (..., D) level of each dimension, from 0."""
        return index.unsqueeze(-1) // self._steps % self._levels

    def table(self) -> torch.Tensor:
        """(V, D) codebook; row = index."""
        return self.to_code(torch.arange(self.codebook_size, device=self._levels.device))
