"""Speed from text to waveform, part by part, with random weights."""

import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from e2etts.bench.batches import TEXT, made_vocab
from e2etts.infer.pipeline import Synthesizer
from e2etts.recipe import RecipeConfig
from e2etts.tasks.build import build_system, build_vocoder

TEXT_TOKENS, SECONDS = 40, 3.0
# Methods of the synthesizer, in the order of the chain.
PARTS = {"lm": "sample", "rm": "score", "fm": "decode", "vocoder": "vocode"}


def synthesis_speed(recipe: RecipeConfig, rows: int, rounds: int) -> dict[str, object]:
    """Speak ``rows`` texts of three seconds each, once for every round after a warm-up.

    Returns {"rtf": seconds of work a second of audio, "first_audio_seconds": until the first
    sample is there, "parts": {name: seconds}}, medians. The chain is not streamed: its first
    sample is there with its last."""
    torch.manual_seed(0)
    vocab = made_vocab()
    ratio = SECONDS * recipe.audio.token_rate_hz / TEXT_TOKENS
    sampling = replace(recipe.synthesis.sampling, min_ratio=ratio, max_ratio=ratio)
    speaker = Synthesizer(
        build_system(recipe, vocab),
        build_vocoder(recipe.vocoder, recipe.audio), recipe.audio, recipe.text,
        None,  # texts come as tokens
        vocab, replace(recipe.synthesis, sampling=sampling))
    spent: dict[str, list[float]] = {part: [] for part in PARTS}
    for part, method in PARTS.items():
        setattr(speaker, method, _timed(getattr(speaker, method), spent[part]))
    texts = torch.randint(0, TEXT, (rows, TEXT_TOKENS)).tolist()
    speakers = list(torch.randn(rows, recipe.model.speaker.embedding_dim))
    whole: list[float] = []
    speak = _timed(speaker.speak, whole)
    for _ in range(rounds + 1):
        speak(texts, [vocab.languages[0]] * rows, speakers)
    total = statistics.median(whole[1:])
    return {"rtf": total / (rows * SECONDS), "first_audio_seconds": total,
            "parts": {part: statistics.median(s[1:]) for part, s in spent.items()}}


def _timed(call: Callable, seconds: list[float]) -> Callable:
    def run(*args, **kwargs):
        start = time.perf_counter()
        out = call(*args, **kwargs)
        seconds.append(time.perf_counter() - start)
        return out
    return run
