"""From text to waveform, part by part, with random weights: speed does not depend on them."""

import statistics
import time
from dataclasses import replace

import torch

from e2etts.bench.batches import TEXT, made_vocab
from e2etts.infer.sampling import sample_tokens
from e2etts.nets.system import System
from e2etts.recipe import RecipeConfig
from e2etts.tasks.build import build_vocoder, system_sizes

TEXT_TOKENS, SECONDS = 40, 3.0


@torch.no_grad()
def synthesis_speed(recipe: RecipeConfig, rows: int, rounds: int) -> dict[str, object]:
    """Speak ``rows`` texts of three seconds each, once for every round after a warm-up.

    Returns {"rtf": seconds of work a second of audio, "first_audio_seconds": until the first
    sample is there, "parts": {name: seconds}}, medians. The chain is not streamed: its first
    sample is there with its last."""
    torch.manual_seed(0)
    system = System(recipe.model, system_sizes(recipe, made_vocab())).eval()
    vocoder = build_vocoder(recipe.vocoder, recipe.audio).eval()
    config, tokens = recipe.synthesis, int(SECONDS * recipe.audio.token_rate_hz)
    ratio = tokens / TEXT_TOKENS
    sampling = replace(config.sampling, min_ratio=ratio, max_ratio=ratio)
    text = torch.randint(0, TEXT, (rows, TEXT_TOKENS))
    lens = torch.full((rows,), TEXT_TOKENS)
    voice = torch.randn(rows, recipe.model.speaker.voice_dim)
    spent: dict[str, list[float]] = {"lm": [], "rm": [], "fm": [], "vocoder": []}

    def timed(part: str, start: float) -> float:
        now = time.perf_counter()
        spent[part].append(now - start)
        return now
    for _ in range(rounds + 1):
        at = time.perf_counter()
        made = sample_tokens(system, text, lens, torch.zeros(rows, dtype=torch.long), voice,
                             sampling, candidates=config.candidates)
        at = timed("lm", at)
        q, many = system.tokenizer.embed(torch.stack(made)), torch.full((len(made),), tokens)
        system.rm.ctc_loss(system.rm.encode(q, many), many,
                           text.repeat_interleave(config.candidates, 0),
                           lens.repeat_interleave(config.candidates))
        at = timed("rm", at)
        mel = system.fm.sample(q[:: config.candidates], many[:rows], voice, flow=config.flow)
        at = timed("fm", at)
        vocoder.synthesize(system.denormalise(mel))
        timed("vocoder", at)
    parts = {name: statistics.median(s[1:]) for name, s in spent.items()}
    total = sum(parts.values())
    return {"rtf": total / (rows * SECONDS), "first_audio_seconds": total, "parts": parts}
