"""The contract of a speech tokenizer: all that LM, FM, RM, tasks and inference know of it.

A kind of tokenizer is one file of ``nets/tokenizers/``; ``model.tokenizer.kind`` chooses it.

Legend: B batch, F mel frames, T = F / frames_per_token tokens, M mel bands, V codes,
D digits of a code, Q size of q.
"""

from typing import NamedTuple

import torch
from torch import nn

from e2etts.nets.sequence import length_mask


class Tokens(NamedTuple):
    """q: (B, T, Q) token embeddings, through which gradient reaches the tokenizer; index: (B, T);
    lens: (B,) valid tokens; bounded: (B, T, D) values before rounding, in (-1, 1), of a kind that
    quantises, None for one that does not, and for tokens from files."""

    q: torch.Tensor
    index: torch.Tensor
    lens: torch.Tensor
    bounded: torch.Tensor | None = None

    def select(self, rows: slice | torch.Tensor) -> "Tokens":
        return Tokens(*(x if x is None else x[rows] for x in self))


class SpeechTokenizer(nn.Module):
    """Speech -> tokens and their embeddings q (arXiv 2606.09234, section 2).

    codebook_size: V. frames_per_token: mel frames a token lasts.
    reads_codes: whether the tokens of a recording come from files and not from its mel.
    has_soft_targets: whether ``soft_mean`` is defined.
    has_statistics: whether training uses statistics of the batch, evaluation those it has kept.
    digit_levels: number of levels of each digit of a code, None for codes without inner structure.
    """

    codebook_size: int
    frames_per_token: int
    reads_codes: bool = False
    has_soft_targets: bool = False
    has_statistics: bool = False
    digit_levels: tuple[int, ...] | None = None

    def forward(self, mel: torch.Tensor, mel_lens: torch.Tensor) -> Tokens:
        """mel: (B, F, M), normalised; mel_lens: (B,) multiples of frames_per_token. Raises
        ValueError where ``reads_codes``."""
        raise NotImplementedError

    def known(self, index: torch.Tensor, lens: torch.Tensor) -> Tokens:
        """Tokens (B, T) from files, as ``forward`` gives them, without ``bounded``. What pads them
        may be no code. Raises IndexError outside of the codebook."""
        index = index * length_mask(lens, index.shape[1])
        return Tokens(self.embed(index), index, lens)

    def freeze_statistics(self) -> None:
        """Until the next ``train()``, use the statistics that evaluation uses, and do not update
        them."""
        raise NotImplementedError

    def embed(self, index: torch.Tensor) -> torch.Tensor:
        """(...,) indices -> (..., Q), the q that ``forward`` gives for them. Raises IndexError
        outside of the codebook."""
        raise NotImplementedError

    def codebook(self) -> torch.Tensor:
        """(V, Q) embedding of every code, row = index."""
        raise NotImplementedError

    def digits(self) -> torch.Tensor | None:
        """(V, D) digits of every code, from 0; None for codes without inner structure."""
        return None

    def health(self, tokens: Tokens) -> dict[str, torch.Tensor]:
        """Scalars to log that only this kind has."""
        return {}

    def soft_mean(self, values: torch.Tensor, tokens: Tokens, temperature: float) -> torch.Tensor:
        """Mean (B, T) of values (B, T, V) under a soft assignment of each token to all codes, with
        gradient in what the token was quantised from."""
        raise NotImplementedError


def stack_frames(mel: torch.Tensor, count: int) -> torch.Tensor:
    """(B, F, M) -> (B, F / count, count * M). Raises ValueError where F is no multiple."""
    b, f, m = mel.shape
    if f % count:
        raise ValueError(f"{f} mel frames are not a multiple of {count}")
    return mel.reshape(b, f // count, count * m)


def digits_of(index: torch.Tensor, levels: tuple[int, ...]) -> torch.Tensor:
    """(...,) indices -> (..., D) digits from 0; the first digit varies fastest."""
    out = []
    for count in levels:
        out.append(index % count)
        index = index // count
    return torch.stack(out, -1)
