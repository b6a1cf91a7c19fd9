"""Speech tokenizer: mel -> transformer encoder -> FSQ -> q, the seam that LM, FM and RM read.

Legend: B batch, F mel frames, T = F / frames_per_token tokens, M mel bands, Q size of q.
"""

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from torch import nn

from e2etts.nets.fsq import FSQ
from e2etts.nets.sequence import length_mask
from e2etts.nets.transformer import Transformer, TransformerConfig


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """The encoder's trunk and context, the code grid and how it is bounded (``FSQ``), and the size
    of the embedding q."""

    trunk: TransformerConfig = field(default_factory=TransformerConfig)
    causal: bool = False
    levels: tuple[int, ...] = (8, 5, 5, 5)
    bound: Literal["tanh", "sigmoid"] = "tanh"
    q_dim: int = 256


class Tokens(NamedTuple):
    """q: (B, T, Q) with straight-through gradient; index: (B, T); bounded: (B, T, D) before
    rounding, in (-1, 1); lens: (B,) valid tokens."""

    q: torch.Tensor
    index: torch.Tensor
    bounded: torch.Tensor
    lens: torch.Tensor


def stack_frames(mel: torch.Tensor, count: int) -> torch.Tensor:
    """(B, F, M) -> (B, F / count, count * M)."""
    b, f, m = mel.shape
    if f % count:
        raise ValueError(f"{f} mel frames are not a multiple of {count}")
    return mel.reshape(b, f // count, count * m)


class Tokenizer(nn.Module):
    """One token for every ``frames_per_token`` mel frames (arXiv 2606.09234, section 2)."""

    def __init__(self, config: TokenizerConfig, *, mel_bands: int, frames_per_token: int):
        super().__init__()
        self.frames_per_token = frames_per_token
        dim = config.trunk.dim
        self.stem = nn.Linear(frames_per_token * mel_bands, dim)
        self.trunk = Transformer(config.trunk, causal=config.causal)
        self.down = nn.Linear(dim, len(config.levels))
        self.fsq = FSQ(config.levels, config.bound)
        self.up = nn.Linear(len(config.levels), config.q_dim, bias=False)
        nn.init.normal_(self.up.weight, std=len(config.levels) ** -0.5)

    @property
    def codebook_size(self) -> int:
        return self.fsq.codebook_size

    def forward(self, mel: torch.Tensor, mel_lens: torch.Tensor) -> Tokens:
        """mel: (B, F, M) normalised; mel_lens: (B,) multiples of frames_per_token."""
        lens = mel_lens // self.frames_per_token
        x = self.stem(stack_frames(mel, self.frames_per_token))
        u = self.down(self.trunk(x, lens=lens))
        code, index, bounded = self.fsq(u, length_mask(lens, u.shape[1]))
        return Tokens(self.up(code), index, bounded, lens)

    def embed(self, index: torch.Tensor) -> torch.Tensor:
        """(...,) token indices -> (..., Q), the same q that the encoder gives for them."""
        return self.up(self.fsq.to_code(index).to(self.up.weight.dtype))

    def codebook(self) -> torch.Tensor:
        """(V, Q) embedding of every code: C = G W_up^T."""
        return self.up(self.fsq.table().to(self.up.weight.dtype))
