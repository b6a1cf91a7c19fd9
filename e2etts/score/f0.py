"""Pitch of clips laid over recordings of the same text: RMSE and correlation (metric f0)."""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from e2etts.score import world
from e2etts.score.config import ScoreConfig
from e2etts.score.measure import Job, Measure, each
from e2etts.score.models import require
from e2etts.score.run import Run, Score, mean_of

NAMES = ("f0_rmse_hz", "f0_rmse_cents", "f0_correlation", "voicing_error")
FEWEST_FRAMES = 10  # fewer, and a correlation says nothing


def compare(f0: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    """Aligned (T,) pitches in Hz, 0 where unvoiced -> RMSE in Hz and in cents and Pearson's
    correlation (of Hz) over frames that are voiced in both, None where these are too few or all
    alike, and the share of frames where only one is voiced."""
    both = (f0 > 0) & (reference > 0)
    out: dict[str, Any] = dict.fromkeys(NAMES)
    out["voicing_error"] = float(((f0 > 0) != (reference > 0)).mean())
    if both.sum() >= FEWEST_FRAMES:
        a, b = f0[both], reference[both]
        out["f0_rmse_hz"] = float(np.sqrt(((a - b) ** 2).mean()))
        out["f0_rmse_cents"] = float(np.sqrt(((1200 * np.log2(a / b)) ** 2).mean()))
        if min(a.std(), b.std()) > 1e-6:
            out["f0_correlation"] = float(np.corrcoef(a, b)[0, 1])
    return out


@dataclass(frozen=True)
class PitchMeter(world.PairMeter):
    """What ``compare`` says of a pair, aligned by its mel cepstra."""

    name: str = "f0"

    def key(self, lang: str) -> str:
        return f"f0 {world.F0_FLOOR_HZ} {world.F0_CEILING_HZ} {world.WARP} {version('librosa')}"

    def open(self, device: str) -> Measure:
        def measure(pair: tuple[np.ndarray, np.ndarray], lang: str) -> dict[str, float | None]:
            (a, f0), (b, reference) = map(world.cepstra, pair)
            i, j = world.align(a, b)
            return compare(f0[i], reference[j])

        return each(measure)


def score(run: Run) -> None:
    """Fill the four figures. Raises Unavailable without packages or recordings."""
    require(world.PACKAGES, world.REMEDY)
    for s, value in run.measure(PitchMeter(), run.with_target(), "f0",
                                lambda c: Job(c.wav, c.lang, c.target)):
        s.values.update(value)


def summary(some: list[Score], config: ScoreConfig) -> dict[str, Any] | None:
    """Mean of each figure over the clips that have it; scored: those voiced enough for an RMSE."""
    found = {name: mean_of(name, some, config) for name in NAMES}
    if not found["voicing_error"]:
        return None
    rmse = found["f0_rmse_hz"]
    return {**{name: value["mean"] if value else None for name, value in found.items()},
            "scored": rmse["scored"] if rmse else 0, "expected": len(some)}
