"""What is measured on the synthesised sets, and what the report shows."""

from dataclasses import dataclass, field

METRICS = ("wer", "sim", "dnsmos", "style")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Settings of ``e2etts score`` and ``e2etts report``.

    recognizer: folder of a CTranslate2 Whisper model; None looks in the cache, on the hub, and
    falls back to PocketSphinx. metrics: which of wer, sim, dnsmos and style (of
    clips that were asked for in one) run. workers: processes of one
    thread each. pad_seconds: silence before and after a clip that is recognised. window_seconds:
    what Whisper encodes of shorter clips; its own window is 30, at twice the time.
    rm_snr_db: signal-to-noise ratios at which e2etts score-rm measures besides clean recordings.
    references_per_speaker: recordings averaged for a speaker's voice. report_clips: clips a set
    in the report, by set name or its longest matching beginning ("" matches every set).
    """

    recognizer: str | None = None
    metrics: tuple[str, ...] = METRICS
    beam: int = 5
    bootstrap_samples: int = 1000
    seed: int = 0
    workers: int = 2
    pad_seconds: float = 0.5
    window_seconds: float = 20.0
    rm_snr_db: tuple[float, ...] = ()
    references_per_speaker: int = 30
    report_clips: dict[str, int] = field(
        default_factory=lambda: {"test_en": 12, "sentences": 1000, "": 4})

    def __post_init__(self):
        unknown = [m for m in self.metrics if m not in METRICS]
        if unknown:
            raise ValueError(f"no metric '{unknown[0]}'; metrics: {', '.join(METRICS)}")
        for name in ("beam", "bootstrap_samples", "workers", "references_per_speaker"):
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
