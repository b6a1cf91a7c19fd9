"""Decoding the LM: repetition-aware nucleus sampling, many rows in lockstep.

Legend: R rows, L text tokens, V speech codes, Q size of q, X size of a voice.
"""

import torch

from e2etts.infer.config import SamplingConfig
from e2etts.nets.system import System


def pick(
    logits: torch.Tensor,
    history: torch.Tensor,
    config: SamplingConfig,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """One token a row from logits (R, C); history: (R, H) tokens so far. Returns (R,).

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
    often = (window == choice).sum(1, keepdim=True) >= config.repeat_share * config.repeat_window
    if bool(often.any()):
        # Banned among the logits: where the pick had all of the probability, the rest keep their
        # order, and what is impossible (an end before the minimal length) stays so.
        rest = scaled.scatter(1, choice, -torch.inf).softmax(-1)
        again = torch.multinomial(rest, 1, generator=generator)
        choice = torch.where(often, again, choice)
    return choice.squeeze(1)


def advance(
    logits: torch.Tensor, config: SamplingConfig, generator: torch.Generator | None = None
) -> torch.Tensor:
    """By how much each row's reading place moves, sampled from logits (R, A). Returns (R,)."""
    p = (logits.float() / max(config.temperature, 1e-4)).softmax(-1)
    return torch.multinomial(p, 1, generator=generator).squeeze(1)


@torch.no_grad()
def sample_tokens(
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
) -> list[torch.Tensor]:
    """Speech tokens for R texts, ``candidates`` samples each: R * candidates tensors (T,), those
    of one text next to each other, without the end token and without the prompt.

    text: (R, L), of which the last spoken_lens (R,) tokens are still to be spoken (default all);
    prompt: (R, P) speech tokens of what comes before; prompt_place: (R, P) their places in the
    text, for an LM that reads aligned; it ends only when all text is read. style: (R,) ids.
    Lengths are held between min_ratio and max_ratio tokens a text token to be spoken; the end
    token ends a row.
    """
    lm, end = system.lm, system.lm.end
    spoken = text_lens if spoken_lens is None else spoken_lens
    shortest = (spoken * config.min_ratio).long().repeat_interleave(candidates)
    longest = (spoken * config.max_ratio).long().clamp_min(4).repeat_interleave(candidates)
    prompt_q = None if prompt is None else system.tokenizer.embed(prompt)
    steps = int(longest.max())
    state = lm.start(text, text_lens, language, voice, prompt_q, steps, prompt_place, style)
    last = (text_lens - 1).repeat_interleave(candidates)
    rows = torch.arange(len(text), device=text.device).repeat_interleave(candidates)
    if candidates > 1:
        state.select(rows)
    out = torch.zeros(len(rows), steps, dtype=torch.long, device=text.device)
    history = torch.full((len(rows), config.repeat_window), -1, device=text.device)
    lens = longest.clone()
    done = torch.zeros(len(rows), dtype=torch.bool, device=text.device)
    stay = torch.zeros_like(lens)  # tokens said so far at the place where a row reads
    for t in range(steps):
        logits = state.out.logits.float()
        early = t < shortest
        if lm.aligned:
            early |= state.place < last
        logits[:, end] = logits[:, end].masked_fill(early, -torch.inf)
        token = pick(logits, history, config, generator)
        if lm.aligned:
            token = token.masked_fill((stay >= config.longest_stay) & ~early, end)
        ended = ~done & (token == end)
        lens = torch.where(ended, t, lens)
        done = done | ended | (t >= longest)
        if bool(done.all()):
            break
        token = token.masked_fill(token == end, 0)
        out[:, t] = token
        history = torch.cat([history[:, 1:], token[:, None]], dim=1)
        place = None
        if lm.aligned:
            move = advance(state.out.advance, config, generator)
            stay = stay + 1
            move = move.clamp_min((stay >= config.longest_stay).long())
            place = (state.place + move).minimum(last)
            stay = stay.masked_fill(place > state.place, 0)
        lm.step(state, system.tokenizer.embed(token), place)
    return [row[:n] for row, n in zip(out, lens.tolist(), strict=True)]
