"""How long clips are beside recordings of the same text (metric duration): 1 is as long."""

from e2etts.score.lists import seconds_of
from e2etts.score.run import Run


def score(run: Run) -> None:
    """Fill ``duration``, seconds over seconds. Raises Unavailable without recordings."""
    for s in run.with_target():
        clip, recording = seconds_of(s.clip.wav), seconds_of(s.clip.target)
        if clip and recording:
            s.values["duration"] = clip / recording
        else:
            s.failures["duration"] = "unreadable" if not clip else \
                f"its recording {s.clip.target} is missing or unreadable"
