"""Times of clips: length beside recordings of the same text (metric duration), and real-time factor
of synthesis (metric rtf)."""

from functools import partial
from typing import Any

from e2etts.score.config import ScoreConfig
from e2etts.score.judges.locate import Unavailable
from e2etts.score.meter import seconds_of
from e2etts.score.score_run import ClipScore, ScoreRun, mean_of

summarise_duration = partial(mean_of, "duration")


def score_duration(run: ScoreRun) -> None:
    """Fill ``duration``, seconds over the recording's. Raises Unavailable without recordings."""
    for s in run.with_target():
        clip, recording = seconds_of(s.clip.wav), seconds_of(s.clip.target)
        if clip and recording:
            s.values["duration"] = clip / recording
        else:
            s.failures["duration"] = "unreadable" if not clip else \
                f"its recording {s.clip.target} is missing or unreadable"


def score_rtf(run: ScoreRun) -> None:
    """Fill ``rtf`` of clips whose synthesis was timed. Raises Unavailable where none was."""
    timed = [s for s in run.good() if s.clip.synthesis_seconds and s.clip.seconds]
    if not timed:
        raise Unavailable("no times of synthesis are known", "pass --times FILE")
    for s in timed:
        s.values["rtf"] = {"work_seconds": s.clip.synthesis_seconds,
                           "speech_seconds": s.clip.seconds}


def summarise_rtf(some: list[ClipScore], config: ScoreConfig) -> dict[str, Any] | None:
    """All work over all speech: a mean over clips would count short ones too much."""
    timed = [s.values["rtf"] for s in some if "rtf" in s.values]
    if not timed:
        return None
    return {"real_time_factor": sum(t["work_seconds"] for t in timed)
            / sum(t["speech_seconds"] for t in timed),
            "scored": len(timed), "expected": len(some)}
