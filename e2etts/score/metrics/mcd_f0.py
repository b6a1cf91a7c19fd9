"""Mel-cepstral distortion (metric mcd) and pitch (metric f0) of a clip and a recording of the same
text, by WORLD (Morise et al., 2016).

Figures compare under one convention only. This one: 16 kHz, WORLD's envelope every 5 ms, mel
cepstra of order 24 (all-pass constant 0.42) without the 0th coefficient, which is loudness; dynamic
time warping by Euclidean distance; pauses stay in. ESPnet's evaluate_mcd.py counts the 0th
coefficient too, of cepstra of short-time spectra at the clip's own rate (order 23 at 16 kHz, 34 at
24 kHz); its mcd_f0.py, with warping, leaves out frames 20 dB below the mean power.

Pitch is WORLD's (Harvest), from 40 to 800 Hz, and frames are aligned by their mel cepstra, as in
ESPnet's evaluate_f0.py. Its figure is f0_rmse_cents / 1731, the RMSE of natural logarithms.

Legend: T frames, C coefficients.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from e2etts.score.config import ScoreConfig
from e2etts.score.judges.locate import require
from e2etts.score.meter import JUDGE_RATE_HZ, Measure, Meter, WavJob, each, load_16k
from e2etts.score.score_run import ClipScore, ScoreRun, mean_of

PACKAGES = ("pyworld", "librosa")
FRAME_MS = 5.0
COEFFICIENTS = 24
WARP = 0.42  # all-pass constant that comes nearest to the mel scale at 16 kHz
GRID = 513
F0_FLOOR_HZ, F0_CEILING_HZ = 40.0, 800.0
F0_FIGURES = ("f0_rmse_hz", "f0_rmse_cents", "f0_correlation", "voicing_error")
FEWEST_FRAMES = 10  # a correlation of fewer means nothing

summarise_mcd = partial(mean_of, "mcd")


def pitch(wav: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(samples,) -> F0 in Hz (T,), 0 where unvoiced; times in seconds (T,); samples as float64."""
    import pyworld

    samples = np.asarray(wav, dtype=np.float64)
    f0, times = pyworld.harvest(samples, JUDGE_RATE_HZ, f0_floor=F0_FLOOR_HZ,
                                f0_ceil=F0_CEILING_HZ, frame_period=FRAME_MS)
    return f0, times, samples


def envelope(f0: np.ndarray, times: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """Power spectral envelope (T, bins)."""
    import pyworld

    return pyworld.cheaptrick(samples, f0, times, JUDGE_RATE_HZ)


def mel_cepstrum(power: np.ndarray, order: int = COEFFICIENTS, warp: float = WARP) -> np.ndarray:
    """(T, bins) power spectra, 0 Hz to Nyquist -> (T, order + 1) mel-cepstral coefficients c of

        ln |H(w)| = sum_m c_m cos(m W(w)),  W(w) = w + 2 arctan(a sin w / (1 - a cos w))

    (Tokuda et al., 1994)."""
    warped = np.linspace(0, np.pi, GRID)
    # The inverse of an all-pass warping is the one with the opposite sign.
    w = warped - 2 * np.arctan(warp * np.sin(warped) / (1 + warp * np.cos(warped)))
    bins = np.linspace(0, np.pi, power.shape[1])
    log_amplitude = 0.5 * np.log(np.maximum(power, 1e-16))
    spectrum = np.stack([np.interp(w, bins, row) for row in log_amplitude])
    c = np.fft.irfft(spectrum)[:, : order + 1]
    c[:, 1:] *= 2
    return c


def align(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Dynamic time warping of (T, C) and (T', C) by Euclidean distance: two equally long arrays of
    frame numbers, from first to last."""
    import librosa

    path = librosa.sequence.dtw(a.T, b.T, metric="euclidean")[1][::-1]
    return path[:, 0], path[:, 1]


def cepstra(wav: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(samples,) -> mel cepstrum without its energy (T, COEFFICIENTS), and F0 in Hz (T,)."""
    f0, times, samples = pitch(wav)
    return mel_cepstrum(envelope(f0, times, samples))[:, 1:], f0


def distortion_db(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over frames of 10 / ln 10 sqrt(2 sum_m (a_m - b_m)^2) (Kubichek, 1993).

    (T, C), (T, C): aligned mel cepstra without energy.
    """
    return float(10 / np.log(10) * np.sqrt(2 * ((a - b) ** 2).sum(1)).mean())


def pitch_errors(f0: np.ndarray, reference: np.ndarray) -> dict[str, float | None]:
    """Aligned (T,) pitches in Hz, 0 where unvoiced -> RMSE in Hz and in cents and Pearson's
    correlation (of Hz) over frames that are voiced in both, None where these are too few or all
    alike, and the share of frames where only one is voiced."""
    both = (f0 > 0) & (reference > 0)
    out: dict[str, Any] = dict.fromkeys(F0_FIGURES)
    out["voicing_error"] = float(((f0 > 0) != (reference > 0)).mean())
    if both.sum() >= FEWEST_FRAMES:
        a, b = f0[both], reference[both]
        out["f0_rmse_hz"] = float(np.sqrt(((a - b) ** 2).mean()))
        out["f0_rmse_cents"] = float(np.sqrt(((1200 * np.log2(a / b)) ** 2).mean()))
        if min(a.std(), b.std()) > 1e-6:
            out["f0_correlation"] = float(np.corrcoef(a, b)[0, 1])
    return out


@dataclass(frozen=True)
class PairMeter(Meter):
    """Distortion and pitch errors of a clip against its recording; both together, since analysis
    and warping take nearly all of their time."""

    name: str = "mcd, f0"

    def key(self, lang: str) -> str:
        return (f"pair {COEFFICIENTS} {WARP} {FRAME_MS} {F0_FLOOR_HZ} {F0_CEILING_HZ} "
                f"{version('librosa')}")

    def load(self, job: WavJob) -> tuple[np.ndarray, np.ndarray]:
        """The two as (samples,) float32 at 16 kHz."""
        return load_16k(job.path), _recording(job.reference)

    def open(self, device: str) -> Measure:
        def measure(pair: tuple[np.ndarray, np.ndarray], lang: str) -> dict[str, Any]:
            (a, f0), (b, reference) = map(cepstra, pair)
            i, j = align(a, b)
            return {"mcd": distortion_db(a[i], b[j]), **pitch_errors(f0[i], reference[j])}

        return each(measure)


def _recording(path: Path) -> np.ndarray:
    try:
        return load_16k(path)
    except Exception as e:
        raise ValueError(f"its recording {path}: {e}") from e


def _compared(run: ScoreRun, metric: str) -> Iterator[tuple[ClipScore, dict[str, Any]]]:
    require(PACKAGES)
    return run.measure(PairMeter(), run.with_target(), metric,
                       lambda c: WavJob(c.wav, c.lang, c.target))


def score_mcd(run: ScoreRun) -> None:
    """Fill ``mcd``. Raises Unavailable without packages or recordings."""
    for s, value in _compared(run, "mcd"):
        s.values["mcd"] = value["mcd"]


def score_f0(run: ScoreRun) -> None:
    """Fill the figures of f0. Raises Unavailable without packages or recordings."""
    for s, value in _compared(run, "f0"):
        s.values.update({name: value[name] for name in F0_FIGURES})


def summarise_f0(some: list[ClipScore], config: ScoreConfig) -> dict[str, Any] | None:
    """Mean of each figure over the clips that have it; scored: those voiced enough for an RMSE."""
    found = {name: mean_of(name, some, config) for name in F0_FIGURES}
    if not found["voicing_error"]:
        return None
    rmse = found["f0_rmse_hz"]
    return {**{name: value["mean"] if value else None for name, value in found.items()},
            "scored": rmse["scored"] if rmse else 0, "expected": len(some)}
