"""Configuration of scoring and of the report."""

import difflib
from dataclasses import dataclass, field
from typing import Any

from e2etts.config import build, merge, parse_overrides
from e2etts.errors import UserError
from e2etts.score.metrics.registry import DEFAULT_METRICS, REGISTRY

MODELS = ("whisper-large-v3", "paraformer-zh", "wavlm-sv", "ecapa", "utmos", "emotion", "system")
SPEAKERS = ("resemblyzer", "wavlm-sv", "ecapa")


def checked(name: str, known: tuple[str, ...], what: str) -> None:
    """Raises ValueError, naming the nearest, where ``name`` is not among ``known``."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
        raise ValueError(f"no {what} '{name}', nearest '{near}'; {what}s: {', '.join(known)}")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Settings of ``e2etts score`` and ``e2etts report``.

    recognizer: for wer: BACKEND[:MODEL] with the backends faster-whisper, transformers, funasr,
    pocketsphinx, rm, or a folder of a CTranslate2 Whisper model; None looks in the cache, on the
    hub, and falls back to PocketSphinx. speaker: the model of speaker embeddings for sim. metrics:
    names of ``REGISTRY``, measured in this order. models: model -> file, folder or hub name, for
    those not in the cache. devices: one process each, such as cuda:0; none: workers processes of
    one thread. batch_clips: clips in one batch of a model where that changes nothing. pad_seconds:
    silence before and after a clip that is recognised. window_seconds: what Whisper encodes of
    shorter clips; its own window is 30, at twice the time. rm_snr_db: signal-to-noise ratios at
    which e2etts score-rm measures besides clean recordings. references_per_speaker: recordings
    averaged for a speaker's embedding. report_clips: clips per set in the report, by set name or
    its longest matching prefix ("" matches every set).
    """

    recognizer: str | None = None
    speaker: str = "resemblyzer"
    metrics: tuple[str, ...] = DEFAULT_METRICS
    models: dict[str, str] = field(default_factory=dict)
    beam: int = 5
    bootstrap_samples: int = 1000
    seed: int = 0
    workers: int = 2
    devices: tuple[str, ...] = ()
    batch_clips: int = 1
    pad_seconds: float = 0.5
    window_seconds: float = 20.0
    rm_snr_db: tuple[float, ...] = ()
    references_per_speaker: int = 30
    report_clips: dict[str, int] = field(
        default_factory=lambda: {"test_en": 12, "sentences": 1000, "": 4})

    def __post_init__(self):
        for metric in self.metrics:
            checked(metric, tuple(REGISTRY), "metric")
        for model in self.models:
            checked(model, MODELS, "model")
        checked(self.speaker, SPEAKERS, "speaker model")
        for name in ("beam", "bootstrap_samples", "workers", "batch_clips",
                     "references_per_speaker"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if not 5 <= self.window_seconds <= 30:
            raise ValueError("window_seconds must be between 5 and 30")
        if self.pad_seconds < 0:
            raise ValueError("pad_seconds must not be negative")

    def clips_of(self, name: str) -> int:
        """How many clips of set ``name`` the report shows."""
        matching = [k for k in self.report_clips if name.startswith(k)]
        return self.report_clips[max(matching, key=len)] if matching else 0


def config_of(section: dict[str, Any], overrides: list[str], option: str) -> ScoreConfig:
    """The ``score`` section of a configuration with overrides, for commands without a recipe.

    Raises UserError for an override of another section; option: what excludes those.
    """
    tree = parse_overrides(overrides)
    if other := sorted(set(tree) - {"score"}):
        raise UserError(f"'{other[0]}': with {option} only score.KEY=VALUE can be set")
    return build(ScoreConfig, merge(section, tree.get("score", {})), "score")
