"""Concatenation and slicing of padded sequences. Legend: B batch, A and C positions, D size."""

import torch


def length_mask(lens: torch.Tensor, size: int) -> torch.Tensor:
    """(B,) lengths -> (B, size) bool, True on valid positions."""
    return torch.arange(size, device=lens.device) < lens[:, None]


def join(
    left: torch.Tensor, left_lens: torch.Tensor, right: torch.Tensor, right_lens: torch.Tensor
) -> torch.Tensor:
    """Concatenate each row's valid ``left`` (B, A, D) and valid ``right`` (B, C, D).

    Returns (B, max(left_lens + right_lens), D); padding is arbitrary.
    """
    source = torch.cat([left, right], dim=1)
    size = int((left_lens + right_lens).max())
    at = torch.arange(size, device=left.device).expand(len(left), -1)
    gap = (left.shape[1] - left_lens)[:, None]
    at = torch.where(at < left_lens[:, None], at, at + gap).clamp_max(source.shape[1] - 1)
    return source.gather(1, at.unsqueeze(-1).expand(-1, -1, source.shape[-1]))


def pad_in_front(
    x: torch.Tensor, lens: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Convert right padding of x (B, A, D) to left padding, so that decoding appends to all rows
    in lockstep.

    Returns (x, first, source): first (B,) index of the first valid position, source (B, A) the
    original index of each position; padding repeats the first valid position.
    """
    size = x.shape[1]
    first = size - lens
    source = (torch.arange(size, device=x.device) - first[:, None]).clamp_min(0)
    return x.gather(1, source.unsqueeze(-1).expand_as(x)), first, source


def cut(x: torch.Tensor, start: torch.Tensor, size: int) -> torch.Tensor:
    """Return x[b, start[b] : start[b] + size] for each row b; the last position is repeated."""
    at = (start[:, None] + torch.arange(size, device=x.device)).clamp_max(x.shape[1] - 1)
    return x.gather(1, at.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def masked_mean(x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of x (B, T) or (B, T, D) over positions where mask (B, T) is True; 0 if none is."""
    if x.ndim == mask.ndim + 1:
        x = x.mean(-1)
    return (x * mask).sum() / mask.sum().clamp_min(1)
