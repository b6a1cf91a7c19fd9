"""Decoding the LM: repetition-aware nucleus sampling, many rows in lockstep.

Legend: R rows, L text tokens, V speech codes, Q size of q, X size of a voice.
"""

from typing import NamedTuple

import torch

from e2etts.infer.config import SamplingConfig
from e2etts.nets.packed import PackedLM
from e2etts.nets.system import System


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
    top, ids = scaled.softmax(-1).topk(min(config.top_k, scaled.shape[-1]), dim=-1)
    top = top * (top.cumsum(-1) - top < config.top_p)
    choice = ids.gather(1, torch.multinomial(top, 1, generator=generator))
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
    """By how much each row's reading place moves, sampled from logits (R, A). Returns (R,)."""
    p = (logits.float() / max(config.temperature, 1e-4)).softmax(-1)
    return torch.multinomial(p, 1, generator=generator).squeeze(1)


class Rollout(NamedTuple):
    """index: (R, T) tokens; lens: (R,) without the end token; ended: (R,) bool, False for a row
    that the longest length has cut; place: (R, T) of each token in its text, for an LM that reads
    aligned. What lies behind a row's length is arbitrary."""

    index: torch.Tensor
    lens: torch.Tensor
    ended: torch.Tensor
    place: torch.Tensor | None


@torch.inference_mode()
def sample_tokens(*args, **kwargs) -> list[torch.Tensor]:
    """What ``roll_out`` says of the same arguments: a tensor (T,) a row, without the end token."""
    made = roll_out(*args, **kwargs)
    return [row[:n] for row, n in zip(made.index, made.lens.tolist(), strict=True)]


@torch.no_grad()
def roll_out(
    system: System,
    text: torch.Tensor,
    text_lens: torch.Tensor,
    language: torch.Tensor,
    voice: torch.Tensor,
    config: SamplingConfig,
    *,
    candidates: int = 1,
    prompt: torch.Tensor | None = None,
    prompt_place: torch.Tensor | None = None,
    spoken_lens: torch.Tensor | None = None,
    style: torch.Tensor | None = None,
    generator: torch.Generator | None = None,
    packed: PackedLM | None = None,
) -> Rollout:
    """Speech tokens for R texts, ``candidates`` samples each: R * candidates rows, those of one
    text next to each other, without the prompt.

    text: (R, L), of which the last spoken_lens (R,) tokens are still to be spoken (default all);
    prompt: (R, P) speech tokens of what comes before; prompt_place: (R, P) their places in the
    text, for an LM that reads aligned; it ends only when all text is read. style: (R,) ids.
    Lengths are held between min_ratio and max_ratio tokens a text token to be spoken; the end
    token ends a row.
    packed: the LM's fast step, made of its present weights.
    """
    lm, end = system.lm, system.lm.end
    spoken = text_lens if spoken_lens is None else spoken_lens
    shortest = (spoken * config.min_ratio).long().repeat_interleave(candidates)
    longest = (spoken * config.max_ratio).long().clamp_min(4).repeat_interleave(candidates)
    codebook = system.tokenizer.codebook() if lm.table is None else lm.table.weight
    prompt_q = None if prompt is None else codebook[prompt]
    steps = int(longest.max())
    state = lm.start(text, text_lens, language, voice, prompt_q, steps, prompt_place, style)
    last = (text_lens - 1).repeat_interleave(candidates)
    rows = torch.arange(len(text), device=text.device).repeat_interleave(candidates)
    if candidates > 1:
        state.select(rows)
    step = (packed or lm).step
    out = torch.zeros(len(rows), steps, dtype=torch.long, device=text.device)
    places = torch.full_like(out, -1) if lm.aligned else None
    history = torch.full((len(rows), config.repeat_window), -1, device=text.device)
    limit, lens = longest, longest.clone()
    # What follows is of the rows of ``out`` that go on; those at their end are left behind.
    alive, said = torch.arange(len(rows), device=text.device), longest.clone()
    stay = torch.zeros_like(lens)  # tokens said so far at the place where a row reads
    done = torch.zeros_like(lens, dtype=torch.bool)
    for t in range(steps):
        logits = state.out.logits.float()
        early = t < shortest
        if lm.aligned:
            early |= state.place < last
        logits[:, end].masked_fill_(early, -torch.inf)
        token = pick(logits, history, config, generator)
        if lm.aligned:
            token = token.masked_fill((stay >= config.longest_stay) & ~early, end)
        at_end = token == end
        said = torch.where(at_end & ~done, t, said)
        done |= at_end | (t >= longest)
        count = int(done.sum())
        if count == len(done):
            break
        token = token.masked_fill(at_end, 0)
        out[:, t].index_copy_(0, alive, token)
        if lm.aligned:
            places[:, t].index_copy_(0, alive, state.place)
        if config.repeat_window:
            history[:, t % config.repeat_window] = token
        place = None
        if lm.aligned:
            move = advance(state.out.advance, config, generator)
            stay = stay + 1
            move = move.clamp_min((stay >= config.longest_stay).long())
            place = (state.place + move).minimum(last)
            stay = stay.masked_fill(place > state.place, 0)
        if count > len(done) // 2:
            lens[alive] = said
            keep = (~done).nonzero().squeeze(1)
            state.select(keep)
            alive, said, done, token, history, shortest, longest, last, stay = (
                x[keep] for x in (alive, said, done, token, history, shortest, longest, last, stay))
            place = None if place is None else place[keep]
        step(state, codebook[token], place)
    lens[alive] = said
    size = max(1, int(lens.max()))
    return Rollout(out[:, :size], lens, lens < limit,
                   None if places is None else places[:, :size])
