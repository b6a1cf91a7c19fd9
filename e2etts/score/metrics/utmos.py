"""Estimated naturalness by UTMOS (metric utmos)."""

from functools import partial

from e2etts.score.judges.utmos22 import find
from e2etts.score.score_run import ScoreRun, mean_of

summarise_utmos = partial(mean_of, "utmos")


def score_utmos(run: ScoreRun) -> None:
    """Fill ``utmos``. Raises Unavailable where there is no checkpoint."""
    meter = find(run.config)
    run.models["utmos"] = meter.describe()
    for s, value in run.measure(meter, run.good(), "utmos"):
        s.values["utmos"] = value
