"""From the LM's distribution to q: the differentiable stand-in for sampled tokens.

Legend: ... any leading shape, V speech codes, Q size of q.
"""

from dataclasses import dataclass

import torch

TINY = 1e-30  # of what is drawn from (0, 1): its logarithm is finite


@dataclass(frozen=True, kw_only=True)
class BridgeConfig:
    """Which codes are sampled, and what gradient their logits get.

    noise: draw with Gumbel noise, else take the most likely code (plain straight-through argmax).
    sampling_temperature, top_k, top_p: what is sampled is the LM's distribution at this
    temperature, of which the ``top_k`` most likely codes (0: all) and of these the fewest that
    reach ``top_p`` are kept, as in decoding.
    hard: the forward pass picks one code (straight-through), else it is a mixture.
    temperature: of the mixture; final_temperature: where it goes by the end of the stage,
    geometrically (None: it stays). They do not change which code is picked.
    """

    temperature: float = 1.0
    final_temperature: float | None = None
    hard: bool = True
    noise: bool = True
    sampling_temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        for name in ("temperature", "final_temperature", "sampling_temperature", "top_p"):
            if getattr(self, name) is not None and getattr(self, name) <= 0:
                raise ValueError(f"{name} must be more than 0")

    @property
    def restricted(self) -> bool:
        """Is something else sampled than the LM's distribution?"""
        return self.sampling_temperature != 1 or self.top_k > 0 or self.top_p < 1

    def temperature_at(self, progress: float) -> float:
        """Of the mixture, at training progress 0 to 1."""
        if self.final_temperature is None:
            return self.temperature
        progress = min(progress, 1.0)
        return self.temperature ** (1 - progress) * self.final_temperature**progress


def bridge(
    logits: torch.Tensor, codebook: torch.Tensor, config: BridgeConfig, progress: float = 0.0,
    picked: torch.Tensor | None = None,
) -> torch.Tensor:
    """Gumbel-softmax (arXiv 1611.01144) onto the code table: q_hat = s C.

    logits: (..., V), speech codes only (drop special tokens before: softmax renormalises);
    codebook: (V, Q). picked: (...,) codes that have been sampled already: the noise is drawn as it
    is where it picks these. Returns (..., Q).
    """
    score = restrict(logits.float(), config)
    if config.noise:
        # Only noise that knows what it picks asks for the normalised scores.
        log_p = score if picked is None else score.log_softmax(-1)
        score = score + gumbel_noise(log_p.detach(), picked)
    soft = (score / config.temperature_at(progress)).softmax(-1)
    if not config.hard:
        return soft.to(codebook.dtype) @ codebook
    pick = codebook[score.argmax(-1) if picked is None else picked]
    mixture = soft.to(codebook.dtype) @ codebook.detach()
    # Written on q: (onehot + s - sg(s)) C without a second (..., V) tensor. The bracket is exactly
    # zero, so that what is read is exactly a row of the table, in any precision.
    return pick + (mixture - mixture.detach())


def gumbel_noise(log_p: torch.Tensor, picked: torch.Tensor | None = None) -> torch.Tensor:
    """Standard Gumbel noise for log-probabilities (..., V); given that log_p + noise is greatest at
    ``picked`` (...,), where there is one (arXiv 2010.04838)."""
    # As -log of uniform numbers: on CPU exponential_ is several times slower, and in one thread.
    wait = torch.empty_like(log_p).uniform_(TINY, 1).log_().neg_().log_()
    if picked is None:
        return -wait
    # exp(-score) are arrival times with rates p: the picked comes first, at a rate of 1, and the
    # others wait from then on.
    at = picked.unsqueeze(-1)
    first = wait.gather(-1, at)
    time = torch.logaddexp(wait - log_p, first).scatter(-1, at, first)
    return -time - log_p


def restrict(logits: torch.Tensor, config: BridgeConfig) -> torch.Tensor:
    """(..., V) logits of the distribution that is sampled: -inf for codes that are left out."""
    logits = logits / config.sampling_temperature
    if not config.top_k and config.top_p >= 1:
        return logits
    top, _ = nucleus(logits.detach(), config.top_k, config.top_p)
    least = top.masked_fill(top.isneginf(), torch.inf).amin(-1, keepdim=True)
    return logits.masked_fill(logits.detach() < least, -torch.inf)


def nucleus(logits: torch.Tensor, top_k: int, top_p: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The ``top_k`` (0: all) most likely of (..., V) and of these the fewest that reach ``top_p``
    (arXiv 1904.09751): their logits (..., K), likeliest first, -inf behind, and their indices."""
    size = logits.shape[-1]
    top, index = logits.topk(min(top_k or size, size), dim=-1)
    p = (top - logits.logsumexp(-1, keepdim=True)).exp()
    # One is kept while those before it have not reached top_p: the first one always is.
    return top.masked_fill(p.cumsum(-1) - p >= top_p, -torch.inf), index
