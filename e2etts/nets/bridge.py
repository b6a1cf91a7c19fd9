"""From the LM's distribution to q: the differentiable stand-in for sampled tokens.

Legend: ... any leading shape, V speech codes, Q size of q.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class BridgeConfig:
    """hard: the forward pass picks one code (straight-through), else it is a mixture;
    noise: sample with Gumbel noise, else take the most likely code."""

    temperature: float = 1.0
    hard: bool = True
    noise: bool = True


def bridge(logits: torch.Tensor, codebook: torch.Tensor, config: BridgeConfig) -> torch.Tensor:
    """Gumbel-softmax (arXiv 1611.01144) onto the code table: q_hat = s C.

    logits: (..., V), speech codes only (drop special tokens before: softmax renormalises);
    codebook: (V, Q). Returns (..., Q).
    """
    score = logits.float().log_softmax(-1)
    if config.noise:
        score = score - torch.empty_like(score).exponential_().log()
    soft = (score / config.temperature).softmax(-1)
    if not config.hard:
        return soft.to(codebook.dtype) @ codebook
    pick = codebook[score.argmax(-1)]
    mixture = soft.to(codebook.dtype) @ codebook.detach()
    # Written on q: (onehot + s - sg(s)) C without a second (..., V) tensor. The bracket is exactly
    # zero, so that what is read is exactly a row of the table, in any precision.
    return pick + (mixture - mixture.detach())
