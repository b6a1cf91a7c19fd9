"""Batches of random speech in the proportions of a corpus; the time of a step does not depend on
content."""

import numpy as np
import torch

from e2etts.data.batch import Batch
from e2etts.data.sampler import BatchSampler, Plan
from e2etts.data.vocab import Vocab
from e2etts.recipe import RecipeConfig

SPEAKERS, LANGUAGES, TEXT = 12, 5, 80
TEXT_TOKENS_A_SECOND = 13.0
UTTERANCES = 3000


def made_vocab() -> Vocab:
    """The labels of a corpus of 12 speakers in 5 languages."""
    return Vocab(speakers=[f"s{i}" for i in range(SPEAKERS)],
                 languages=[f"l{i}" for i in range(LANGUAGES)], emotions=[], mel_mean=-5.0,
                 mel_std=2.0, text_size=TEXT, space=[0], mean_tokens_per_text_token=2.0)


def made_batches(recipe: RecipeConfig, stage: str, count: int, seed: int = 0
                 ) -> tuple[list[Batch], float]:
    """``count`` batches as ``stage`` would plan them, and the share of padding in all of the
    sampler's first epoch. Utterances last 1 to 12 seconds, 2.6 in the median."""
    config, audio = recipe.stage(stage), recipe.audio
    random = np.random.default_rng(seed)
    seconds = np.clip(2.6 * np.exp(0.55 * random.standard_normal(UTTERANCES)), 1.0, 12.0)
    frames = (seconds * audio.frame_rate_hz).astype(int)
    plan = Plan(
        utts=[str(i) for i in range(UTTERANCES)], frames=frames.tolist(),
        groups=(np.arange(UTTERANCES) % SPEAKERS).tolist(), repeats=[1.0] * UTTERANCES,
        budget_frames=int(config.train.batch_seconds * audio.frame_rate_hz),
        concat_probability=config.data.concat_probability,
        concat_max_frames=int(config.data.concat_max_seconds * audio.frame_rate_hz),
        round_to=audio.frames_per_token)
    sampler = BatchSampler(plan, seed=seed)
    rows = [[sampler.row_frames(e.utts) for e in batch] for batch in sampler.epoch(0)]
    padded = sum(max(r) * len(r) for r in rows)
    padding = 1 - sum(map(sum, rows)) / padded
    return [_batch(recipe, r, seed + i) for i, r in enumerate(rows[:count])], padding


def _batch(recipe: RecipeConfig, frames: list[int], seed: int) -> Batch:
    audio, g = recipe.audio, torch.Generator().manual_seed(seed)
    lens, rows, bands = torch.tensor(frames), len(frames), audio.mel_bands
    text_lens = (lens / audio.frame_rate_hz * TEXT_TOKENS_A_SECOND).long().clamp_min(1)
    reference = int(3 * audio.frame_rate_hz)
    codes = None
    if recipe.codes:
        codes = torch.arange(max(frames) // audio.frames_per_token).expand(rows, -1)
        codes = codes % recipe.codes[1]
    return Batch(
        utts=[str(i) for i in range(rows)], mel_lens=lens, text_lens=text_lens,
        mel=torch.randn(rows, max(frames), bands, generator=g) * 2 - 5,
        text=torch.randint(0, TEXT, (rows, int(text_lens.max())), generator=g),
        language=torch.arange(rows) % LANGUAGES, speaker=torch.arange(rows) % SPEAKERS,
        emotion=torch.full((rows,), -1), reference_lens=torch.full((rows,), reference),
        reference_mel=torch.randn(rows, reference, bands, generator=g) * 2 - 5, codes=codes)
