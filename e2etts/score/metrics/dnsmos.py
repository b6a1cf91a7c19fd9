"""Estimated quality by DNSMOS P.835 (metric dnsmos)."""

from e2etts.score.judges.dnsmos_p835 import PACKAGES, QualityMeter
from e2etts.score.judges.locate import require
from e2etts.score.score_run import ScoreRun


def score_dnsmos(run: ScoreRun) -> None:
    """Fill ``dnsmos``. Raises Unavailable where its package is not installed."""
    require(PACKAGES)
    for s, value in run.measure(QualityMeter(), run.good(), "dnsmos"):
        s.dnsmos = value
