"""Pitch of a clip and a recording of the same text: RMSE and correlation (metric f0).

Pitch is WORLD's (Harvest), from 40 to 800 Hz, and frames are laid over each other by their mel
cepstra, as in ESPnet's evaluate_f0.py. Its figure is f0_rmse_cents / 1731, the RMSE of natural
logarithms.
"""

from typing import Any

import numpy as np

from e2etts.score.config import ScoreConfig
from e2etts.score.run import Score, mean_of

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


def summary(some: list[Score], config: ScoreConfig) -> dict[str, Any] | None:
    """Mean of each figure over the clips that have it; scored: those voiced enough for an RMSE."""
    found = {name: mean_of(name, some, config) for name in NAMES}
    if not found["voicing_error"]:
        return None
    rmse = found["f0_rmse_hz"]
    return {**{name: value["mean"] if value else None for name, value in found.items()},
            "scored": rmse["scored"] if rmse else 0, "expected": len(some)}
