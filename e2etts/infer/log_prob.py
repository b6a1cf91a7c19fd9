"""Log-probability of what ``roll_out`` has chosen, with gradient in the LM's predictions.

Legend: R roll-outs, T speech tokens, V speech codes, A classes of the advance, N rows of all
roll-outs at which something was drawn, W tokens of the repetition window.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from e2etts.infer.sampling import Rollout
from e2etts.nets.bridge import nucleus
from e2etts.nets.lm import LMOutput, lm_targets, row_positions
from e2etts.nets.sequence import length_mask
from e2etts.synthesis_config import SamplingConfig

NEVER = -1e9  # logarithm of a probability of 0: the gradient of -inf is not a number


class Choices(NamedTuple):
    """Log-probabilities (R, T + 1) of the choices at each row of the LM, 0 where there was none.
    end: to end, or to go on; token: which token, given that it goes on; advance: by how much the
    text position moves, None for an LM without aligned text_input."""

    end: Tensor
    token: Tensor
    advance: Tensor | None

    def joint(self, tokens: bool = True) -> Tensor:
        """(R, T + 1) of all choices at a row; without ``tokens`` of all but the token's."""
        total = self.end + self.token if tokens else self.end
        return total if self.advance is None else total + self.advance


def log_probs(out: LMOutput, made: Rollout, text_lens: Tensor, config: SamplingConfig) -> Choices:
    """Of ``made``, given the LM's predictions ``out`` at its rows (R, T + 1, ...) and the lengths
    (R,) of its texts; config: with numbers as limits (``SamplingConfig.with_limits``).

    It is the probability that ``roll_out`` draws this with ``config`` and no prompt: temperature,
    nucleus, a repeated pick drawn again, moves and ends that its limits exclude or force. So the
    score function of a roll-out is exact at any sampling settings; what is certain teaches
    nothing. A token that only rounding keeps out of the nucleus has the LM's own probability.
    """
    size, end = out.logits.shape[1], out.logits.shape[-1] - 1
    row = torch.arange(size, device=text_lens.device)
    early = row < (text_lens * config.min_ratio).long()[:, None]
    forced, advance = torch.zeros_like(early), None
    if made.position is not None:
        at = row_positions(made.position, made.lens, text_lens)
        began = F.pad(at[:, 1:] != at[:, :-1], (1, 0))
        stay = row - torch.where(began, row, 0).cummax(1).values  # earlier tokens at its position
        early = early | (at < text_lens[:, None] - 1)
        forced = (stay >= config.max_tokens_per_text_token) & ~early
        advance = _advance(out.advance, at, stay, made, text_lens, config)
    drawn = length_mask(made.lens + made.ended.long(), size)
    chosen = lm_targets(made.index, made.lens, end)[drawn]
    width = config.repeat_window
    window = F.pad(made.index, (width, 0), value=-1).unfold(1, width, 1)[drawn] if width else None
    log_p, log_end = _first_class(out.logits[drawn].float(), chosen, early[drawn], window, config)
    go_on, ends = _log_complement(log_end), chosen == end
    no_choice = (early | forced)[drawn]
    ending = torch.where(ends, log_end, go_on).masked_fill(no_choice, 0.0)
    token = (log_p - go_on).masked_fill(ends, 0.0)
    empty = ending.new_zeros(drawn.shape)
    return Choices(empty.masked_scatter(drawn, ending), empty.masked_scatter(drawn, token), advance)


def _first_class(logits: Tensor, chosen: Tensor, early: Tensor, window: Tensor | None,
                 config: SamplingConfig) -> tuple[Tensor, Tensor]:
    """Log-probability (N,) of the class ``chosen`` (N,) and of the end token, as ``pick`` draws
    from logits (N, V + 1); the end is excluded where ``early`` (N,); window: (N, W) last tokens,
    -1 for none."""
    end = logits.shape[1] - 1
    scaled = logits / max(config.temperature, 1e-4)
    scaled[:, end].masked_fill_(early, NEVER)
    whole = total = scaled.logsumexp(1, keepdim=True)
    least = torch.full_like(whole, NEVER)
    if config.top_k or config.top_p < 1:
        top, index = nucleus(scaled.detach(), config.top_k, config.top_p)
        kept = ~top.isneginf()
        total = scaled.gather(1, index).masked_fill(~kept, NEVER).logsumexp(1, keepdim=True)
        least = top.masked_fill(~kept, torch.inf).amin(1, keepdim=True)
    classes = torch.stack([chosen, torch.full_like(chosen, end)], dim=1)
    score = scaled.gather(1, classes)
    log_p = (score - total).masked_fill(score < least, NEVER)
    if window is not None:
        same = window.unsqueeze(2) == window.unsqueeze(1)
        often = same.sum(2) >= config.repeat_share * config.repeat_window
        often &= (window >= 0) & ~same.tril(-1).any(2)  # each banned token once
        banned = scaled.gather(1, window.clamp_min(0))
        picked = (banned - total).masked_fill(~often | (banned < least), NEVER)
        others = _log_complement(banned - whole)
        again = (picked - others).unsqueeze(1) + (score - whole).unsqueeze(2)
        itself = classes.unsqueeze(2) == window.unsqueeze(1)
        again = again.masked_fill(itself, NEVER).logsumexp(2)
        log_p = log_p.masked_fill((itself & often.unsqueeze(1)).any(2), NEVER)
        log_p = torch.logaddexp(log_p, again)
    log_own, log_end = log_p.unbind(1)
    log_own = torch.where(log_own < NEVER / 2, (score - whole)[:, 0], log_own)
    return log_own, torch.where(chosen == end, log_own, log_end)


def _advance(logits: Tensor, at: Tensor, stay: Tensor, made: Rollout, text_lens: Tensor,
             config: SamplingConfig) -> Tensor:
    """(R, T + 1) log-probability that the text position moves from ``at`` (R, T + 1) as it does;
    stay: earlier tokens at that position. Draws that end at the same position are one choice."""
    log_p = (logits.float() / max(config.temperature, 1e-4)).log_softmax(-1)
    move = F.pad(at[:, 1:] - at[:, :-1], (0, 1)).unsqueeze(-1)
    least = (stay + 1 >= config.max_tokens_per_text_token).long().unsqueeze(-1)
    left = (text_lens[:, None] - 1 - at).unsqueeze(-1)
    moves = torch.arange(logits.shape[-1], device=at.device).maximum(least).minimum(left)
    log_p = log_p.masked_fill(moves != move, NEVER).logsumexp(-1)
    moved = length_mask(made.lens - (~made.ended).long(), at.shape[1])
    return log_p.masked_fill(~moved, 0.0)


def _log_complement(log_p: Tensor) -> Tensor:
    """log(1 - p), for p up to 1 - 1e-6."""
    return (-torch.expm1(log_p.clamp_max(-1e-6))).log()
