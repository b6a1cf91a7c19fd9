"""Tokens from files: those of a published tokenizer, of clustered units, or of a run of ours.

What a code means is fixed; its embedding is learned by whoever reads it first, such as the FM.

Legend: B batch, F mel frames, T tokens, V codes, D digits of a code, Q size of q.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import nn

from e2etts.nets.options import training_option
from e2etts.nets.tokenizer import SpeechTokenizer, Tokens, digits_of


@dataclass(frozen=True, kw_only=True)
class Config:
    """ark: name of the files of each set, ``dump/<set>/<ark>.scp``. codebook_size: V. levels: of
    the digits that a code is made of, the first one fastest, if it is (eight times 3 for the 6561
    codes of an S3 tokenizer); codes that share digits then share what the LM learns. q_dim: size
    of the embedding."""

    reads_codes: ClassVar[bool] = True

    kind: Literal["codes"]
    ark: str = training_option("codes")
    codebook_size: int
    levels: tuple[int, ...] | None = None
    q_dim: int = 256

    def __post_init__(self):
        if "/" in self.ark or not self.ark:
            raise ValueError("ark is the name of files in dump/<set>/, without a folder")
        if self.codebook_size < 2:
            raise ValueError("codebook_size must be at least 2")
        if self.levels is not None and math.prod(self.levels) != self.codebook_size:
            raise ValueError(f"levels {list(self.levels)} make {math.prod(self.levels)} codes, "
                             f"codebook_size is {self.codebook_size}")

    def build(self, *, mel_bands: int, frames_per_token: int) -> "CodesTokenizer":
        return CodesTokenizer(self, frames_per_token=frames_per_token)


class CodesTokenizer(SpeechTokenizer):
    """An embedding table for codes that come with the batch."""

    reads_codes = True

    def __init__(self, config: Config, *, frames_per_token: int):
        super().__init__()
        self.codebook_size, self.frames_per_token = config.codebook_size, frames_per_token
        self.digit_levels = config.levels
        self.table = nn.Embedding(config.codebook_size, config.q_dim)

    def forward(self, mel: torch.Tensor, mel_lens: torch.Tensor) -> Tokens:
        raise ValueError("tokens of kind 'codes' come from files, and this batch has none")

    def embed(self, index: torch.Tensor) -> torch.Tensor:
        if index.numel() and (int(index.min()) < 0 or int(index.max()) >= self.codebook_size):
            raise IndexError(f"token index outside 0..{self.codebook_size - 1}")
        return self.table(index)

    def codebook(self) -> torch.Tensor:
        return self.table.weight

    def digits(self) -> torch.Tensor | None:
        if self.digit_levels is None:
            return None
        index = torch.arange(self.codebook_size, device=self.table.weight.device)
        return digits_of(index, self.digit_levels)
