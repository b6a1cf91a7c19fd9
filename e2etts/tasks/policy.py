"""What rewards of roll-outs teach: advantages, the score function, pairs, the KL to a reference.

Legend: R = N * K roll-outs, N texts, K roll-outs of each, P pairs, T tokens.
"""

import torch

from e2etts.nets.lm import LMOutput
from e2etts.nets.sequence import length_mask, masked_mean
from e2etts.tasks.rollouts import Rollouts

STD_FLOOR = 1e-4


def advantages(rolled: Rollouts, std: bool) -> torch.Tensor:
    """(R,) reward minus the mean of the other rewards of its group, which leaves the score function
    unbiased (leave-one-out, arXiv 2402.14740); with ``std`` divided by the standard deviation of
    the group (arXiv 2402.03300, whose mean includes the roll-out itself: the same up to a factor of
    (K - 1) / K). 0 where there is nothing to compare with."""
    judged = rolled.rewards.isfinite()
    rewards = rolled.rewards.masked_fill(~judged, 0.0)
    count = judged.sum(1, keepdim=True)
    others = (count - 1).clamp_min(1)
    gain = (rewards - rewards.sum(1, keepdim=True) / count.clamp_min(1)) * count / others
    gain = gain.masked_fill(~judged | (count < 2), 0.0)
    if std:
        # A gain is count / others times the distance from the mean.
        variance = (gain * others / count.clamp_min(1)).square().sum(1, keepdim=True) / others
        gain = gain / (variance.sqrt() + STD_FLOOR)
    return gain.flatten()


def score_function(log_p: torch.Tensor, advantage: torch.Tensor, before: torch.Tensor | None = None,
                   clip: float | None = None) -> torch.Tensor:
    """(R, T + 1) whose gradient is that of the expected advantage: the advantage (R,) times the
    ratio of each choice's probability, by log_p (R, T + 1), to that ``before``, at first 1
    (REINFORCE). clip: how far from 1 a ratio may bring more (arXiv 1707.06347, equation 7)."""
    ratio = (log_p - (log_p if before is None else before).detach()).exp()
    gain = ratio * advantage[:, None]
    if clip is None:
        return gain
    return gain.minimum(ratio.clamp(1 - clip, 1 + clip) * advantage[:, None])


def reward_loss(rolled: Rollouts, gain: torch.Tensor) -> torch.Tensor:
    """Minus the mean reward of the roll-outs, with the gradient of minus the mean gain (R,). Its
    value can be compared between steps and on the dev set; that of a gain cannot."""
    gain, judged = gain.mean(), rolled.rewards.isfinite()
    reward = rolled.rewards.masked_fill(~judged, 0.0).sum() / judged.sum().clamp_min(1)
    return gain.detach() - gain - reward


def pairs(rolled: Rollouts) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (P,) among the roll-outs: the best of a group, and the worst. A group without two
    different rewards has none."""
    judged = rolled.rewards.isfinite()
    high, best = rolled.rewards.masked_fill(~judged, -torch.inf).max(1)
    low, worst = rolled.rewards.masked_fill(~judged, torch.inf).min(1)
    first = torch.arange(len(best), device=best.device) * rolled.rewards.shape[1]
    differ = judged.any(1) & (high > low)
    return (first + best)[differ], (first + worst)[differ]


def divergence(out: LMOutput, reference: LMOutput, lens: torch.Tensor, moves: bool = False
               ) -> torch.Tensor:
    """KL of an LM from its reference in nats, by their predictions at the same rows: mean over
    valid positions, the end included; with ``moves`` that of the advance is added."""
    valid = length_mask(lens + 1, out.logits.shape[1])
    kl = _divergence(out.logits, reference.logits)
    if moves and out.advance is not None:
        kl = kl + _divergence(out.advance, reference.advance) * length_mask(lens, kl.shape[1])
    return masked_mean(kl, valid)


def _divergence(logits: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    log_p, log_ref = logits.float().log_softmax(-1), reference.float().log_softmax(-1)
    return (log_p.exp() * (log_p - log_ref)).sum(-1)
