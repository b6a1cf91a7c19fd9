"""Every metric: what runs it, what a set's figures are, and what they mean."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from e2etts.score import (
    dnsmos,
    duration,
    emotion,
    f0,
    recognition,
    rtf,
    seed_tts_eval,
    similarity,
    style,
    tokens,
    utmos,
    world,
)
from e2etts.score.config import METRICS, ScoreConfig
from e2etts.score.run import Run, Score, mean_of

Summary = Callable[[list[Score], ScoreConfig], dict[str, Any] | None]


@dataclass(frozen=True)
class Metric:
    """score: measures all clips of a run and raises Unavailable where it cannot run; summary:
    figures of one set, None where nothing was scored (absent: results.json has fields of its
    own for it); about: unit and direction."""

    score: Callable[[Run], None]
    about: str
    summary: Summary | None = None


def _mean(name: str) -> Summary:
    return partial(mean_of, name)


REGISTRY = {
    "wer": Metric(recognition.score, "errors over words of the whole set; lower is better"),
    "sim": Metric(similarity.score, "cosine of voices; higher is better"),
    "dnsmos": Metric(dnsmos.score, "DNSMOS P.835 overall, 1 to 5; higher is better"),
    "style": Metric(style.score, "share heard in the style that was asked for"),
    "utmos": Metric(utmos.score, "UTMOS, 1 to 5; higher is better", _mean("utmos")),
    "mcd": Metric(world.score_mcd, "mel-cepstral distortion, dB; lower is better (16 kHz, WORLD, "
                  "coefficients 1 to 24, time-warped, with pauses)", _mean("mcd")),
    "f0": Metric(world.score_f0, "pitch against the recording where both are voiced (16 kHz, "
                 "WORLD, 40 to 800 Hz, time-warped); errors: lower is better", f0.summary),
    "duration": Metric(duration.score, "seconds over the recording's; 1 is as long",
                       _mean("duration")),
    "emotion": Metric(emotion.score, "share heard as it should be", emotion.summary),
    "tokens": Metric(tokens.score, "speech tokens of the clips", tokens.summary),
    "rtf": Metric(rtf.score, "synthesis seconds over speech seconds; lower is faster",
                  rtf.summary),
    seed_tts_eval.WER: Metric(
        seed_tts_eval.score_wer, "seed-tts-eval, percent: macro_wer, the mean over utterances, is "
        "the published figure; corpus_wer is errors over words", seed_tts_eval.wer_summary),
    seed_tts_eval.SIM: Metric(
        seed_tts_eval.score_sim, "seed-tts-eval: asv, mean cosine to the prompt; higher is better",
        seed_tts_eval.sim_summary),
}
assert tuple(REGISTRY) == METRICS


def summaries(some: list[Score], config: ScoreConfig) -> dict[str, dict[str, Any]]:
    """Metric -> figures of one set, of those metrics that ran on it."""
    found = {name: REGISTRY[name].summary(some, config) for name in config.metrics
             if REGISTRY[name].summary}
    return {name: figures for name, figures in found.items() if figures}
