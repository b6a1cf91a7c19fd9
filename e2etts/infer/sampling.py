"""Decoding the LM: repetition-aware nucleus sampling, many rows in lockstep.

Legend: R rows, T speech tokens, V speech codes, C classes, A classes of the advance.
"""

from typing import NamedTuple

import torch

from e2etts.nets.bridge import nucleus
from e2etts.nets.lm import LMCondition
from e2etts.nets.packed import PackedLM
from e2etts.nets.system import System
from e2etts.synthesis_config import SamplingConfig


def pick(
    logits: torch.Tensor,
    history: torch.Tensor,
    config: SamplingConfig,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """One token a row from logits (R, C); history: (R, H) last tokens, in any order. Returns (R,).

    Nucleus sampling; a pick that is frequent in the last ``repeat_window`` tokens is banned and
    drawn again from the whole distribution (arXiv 2406.05370, section 3.3).
    """
    scaled = logits.float() / max(config.temperature, 1e-4)
    top, index = nucleus(scaled, config.top_k, config.top_p)
    choice = index.gather(1, torch.multinomial(top.softmax(-1), 1, generator=generator))
    if config.repeat_window < 1:
        return choice.squeeze(1)
    window = history[:, -config.repeat_window :]
    often = (window == choice).sum(1) >= config.repeat_share * config.repeat_window
    rows = often.nonzero().squeeze(1)
    if len(rows):
        # Banned among the logits: where the pick had all of the probability, the rest keep their
        # order, and what is impossible (an end before the minimal length) stays so.
        rest = scaled[rows].scatter(1, choice[rows], -torch.inf).softmax(-1)
        choice[rows] = torch.multinomial(rest, 1, generator=generator)
    return choice.squeeze(1)


def advance(
    logits: torch.Tensor, config: SamplingConfig, generator: torch.Generator | None = None
) -> torch.Tensor:
    """By how much each row's text position moves, sampled from logits (R, A). Returns (R,)."""
    p = (logits.float() / max(config.temperature, 1e-4)).softmax(-1)
    return torch.multinomial(p, 1, generator=generator).squeeze(1)


class Rollout(NamedTuple):
    """index: (R, T) tokens; lens: (R,) without the end token; ended: (R,) bool, False for a row
    that was cut at its maximal length; position: (R, T) of each token in its text, for an LM with
    aligned text_input. What lies behind a row's length is arbitrary."""

    index: torch.Tensor
    lens: torch.Tensor
    ended: torch.Tensor
    position: torch.Tensor | None


class TokenPrompt(NamedTuple):
    """Speech tokens before those to be generated, the same for all rows: index (P,), position (P,)
    in the text for an LM with aligned text_input, and how many text tokens they cover."""

    index: torch.Tensor
    position: torch.Tensor | None
    text_tokens: int


@torch.inference_mode()
def sample_tokens(*args, **kwargs) -> list[torch.Tensor]:
    """The tokens of ``roll_out`` for the same arguments: (T,) for each row, without the end."""
    made = roll_out(*args, **kwargs)
    return [row[:n] for row, n in zip(made.index, made.lens.tolist(), strict=True)]


@torch.no_grad()
def roll_out(
    system: System,
    given: LMCondition,
    config: SamplingConfig,
    *,
    candidates: int = 1,
    prompt: TokenPrompt | None = None,
    generator: torch.Generator | None = None,
    packed: PackedLM | None = None,
) -> Rollout:
    """Speech tokens for R texts, ``candidates`` samples each: R * candidates rows, those of one
    text next to each other, without the prompt.

    given: condition of R rows, its text beginning with that of the prompt. With aligned text_input
    a row ends only when all of its text is read. Lengths behind the prompt are held within
    ``SamplingConfig.limits``; the end token ends a row.
    packed: the LM's fast step, made of its present weights.
    """
    lm, end, limits = system.lm, system.lm.end, config.limits(system)
    text_lens, device = given.text_lens, given.text.device
    remaining = text_lens - (prompt.text_tokens if prompt else 0)
    shortest = (remaining * limits.min_ratio).long().repeat_interleave(candidates)
    longest = (remaining * limits.max_ratio).long().clamp_min(4).repeat_interleave(candidates)
    codebook = system.tokenizer.codebook() if lm.table is None else lm.table.weight
    prompt_q = prompt_position = None
    if prompt is not None:
        prompt_q = codebook[prompt.index.to(device)].expand(len(text_lens), -1, -1)
        if prompt.position is not None:
            prompt_position = prompt.position.to(device).expand(len(text_lens), -1)
    steps = int(longest.max())
    state = lm.start(given, steps, prompt_q, prompt_position)
    last = (text_lens - 1).repeat_interleave(candidates)
    rows = torch.arange(len(text_lens), device=device).repeat_interleave(candidates)
    if candidates > 1:
        state.select(rows)
    step = (packed or lm).step
    out = torch.zeros(len(rows), steps, dtype=torch.long, device=device)
    positions = torch.full_like(out, -1) if lm.aligned else None
    history = torch.full((len(rows), config.repeat_window), -1, device=device)
    limit, lens = longest, longest.clone()
    # What follows is of the rows of ``out`` that continue; those at their end are left behind.
    alive, length = torch.arange(len(rows), device=device), longest.clone()
    stay = torch.zeros_like(lens)  # tokens generated so far at a row's text position
    done = torch.zeros_like(lens, dtype=torch.bool)
    for t in range(steps):
        logits = state.out.logits.float()
        early = t < shortest
        if lm.aligned:
            early |= state.text_position < last
        logits[:, end].masked_fill_(early, -torch.inf)
        token = pick(logits, history, config, generator)
        if lm.aligned:
            token = token.masked_fill((stay >= limits.max_tokens_per_text_token) & ~early, end)
        at_end = token == end
        length = torch.where(at_end & ~done, t, length)
        done |= at_end | (t >= longest)
        count = int(done.sum())
        if count == len(done):
            break
        token = token.masked_fill(at_end, 0)
        out[:, t].index_copy_(0, alive, token)
        if lm.aligned:
            positions[:, t].index_copy_(0, alive, state.text_position)
        if config.repeat_window:
            history[:, t % config.repeat_window] = token
        position = None
        if lm.aligned:
            move = advance(state.out.advance, config, generator)
            stay = stay + 1
            move = move.clamp_min((stay >= limits.max_tokens_per_text_token).long())
            position = (state.text_position + move).minimum(last)
            stay = stay.masked_fill(position > state.text_position, 0)
        if count > len(done) // 2:
            lens[alive] = length
            keep = (~done).nonzero().squeeze(1)
            state.select(keep)
            alive, length, done, token, history, shortest, longest, last, stay = (x[keep] for x in (
                alive, length, done, token, history, shortest, longest, last, stay))
            position = None if position is None else position[keep]
        step(state, codebook[token], position)
    lens[alive] = length
    size = max(1, int(lens.max()))
    return Rollout(out[:, :size], lens, lens < limit,
                   None if positions is None else positions[:, :size])
