"""Real-time factor of synthesis (metric rtf): seconds of work over seconds of speech."""

from typing import Any

from e2etts.score.config import ScoreConfig
from e2etts.score.models import Unavailable
from e2etts.score.run import Run, Score


def score(run: Run) -> None:
    """Fill ``rtf`` of clips whose synthesis was timed. Raises Unavailable where none was."""
    timed = [s for s in run.good() if s.clip.synthesis_seconds and s.clip.seconds]
    if not timed:
        raise Unavailable("no times of synthesis are known", "give them: --times FILE")
    for s in timed:
        s.values["rtf"] = {"work_seconds": s.clip.synthesis_seconds,
                           "speech_seconds": s.clip.seconds}


def summary(some: list[Score], config: ScoreConfig) -> dict[str, Any] | None:
    """All work over all speech: a mean over clips would count short ones too much."""
    timed = [s.values["rtf"] for s in some if "rtf" in s.values]
    if not timed:
        return None
    return {"real_time_factor": sum(t["work_seconds"] for t in timed)
            / sum(t["speech_seconds"] for t in timed),
            "scored": len(timed), "expected": len(some)}
