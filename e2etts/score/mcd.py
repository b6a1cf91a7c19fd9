"""Mel-cepstral distortion in dB of clips laid over recordings of the same text (metric mcd)."""

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from e2etts.score import world
from e2etts.score.measure import Job, Measure, each
from e2etts.score.models import require
from e2etts.score.run import Run


def distortion_db(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over the warped path of 10 / ln 10 sqrt(2 sum_m (a_m - b_m)^2) (Kubichek, 1993).

    (T, C), (T', C): mel cepstra without energy.
    """
    i, j = world.align(a, b)
    return float(10 / np.log(10) * np.sqrt(2 * ((a[i] - b[j]) ** 2).sum(1)).mean())


@dataclass(frozen=True)
class DistortionMeter(world.PairMeter):
    """MCD of a pair."""

    name: str = "mcd"

    def key(self, lang: str) -> str:
        return f"mcd {world.COEFFICIENTS} {world.WARP} {world.FRAME_MS} {version('librosa')}"

    def open(self, device: str) -> Measure:
        return each(lambda pair, lang: distortion_db(*(world.cepstra(wav)[0] for wav in pair)))


def score(run: Run) -> None:
    """Fill ``mcd``. Raises Unavailable without packages or recordings."""
    require(world.PACKAGES, world.REMEDY)
    for s, value in run.measure(DistortionMeter(), run.with_target(), "mcd",
                                lambda c: Job(c.wav, c.lang, c.target)):
        s.values["mcd"] = value
