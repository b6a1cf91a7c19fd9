"""Spectral envelope and pitch by WORLD (Morise et al., 2016), and clips laid over recordings of the
same text: what the metrics mcd and f0 both rest on.

Legend: T frames, C coefficients.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from e2etts.score import f0 as f0_figures
from e2etts.score.mcd import distortion_db
from e2etts.score.measure import JUDGE_RATE_HZ, Job, Measure, Meter, each, load_16k
from e2etts.score.models import require
from e2etts.score.run import Run, Score

PACKAGES = ("pyworld", "librosa")
FRAME_MS = 5.0
COEFFICIENTS = 24
WARP = 0.42  # all-pass constant that comes nearest to the mel scale at 16 kHz
GRID = 513
F0_FLOOR_HZ, F0_CEILING_HZ = 40.0, 800.0


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


@dataclass(frozen=True)
class PairMeter(Meter):
    """Distortion and pitch errors of a clip against its recording; both at once, since analysis
    and warping are nearly all of their cost."""

    name: str = "mcd, f0"

    def key(self, lang: str) -> str:
        return (f"pair {COEFFICIENTS} {WARP} {FRAME_MS} {F0_FLOOR_HZ} {F0_CEILING_HZ} "
                f"{version('librosa')}")

    def load(self, job: Job) -> tuple[np.ndarray, np.ndarray]:
        """The two as (samples,) float32 at 16 kHz."""
        return load_16k(job.path), _recording(job.reference)

    def open(self, device: str) -> Measure:
        def measure(pair: tuple[np.ndarray, np.ndarray], lang: str) -> dict[str, Any]:
            (a, f0), (b, reference) = map(cepstra, pair)
            i, j = align(a, b)
            return {"mcd": distortion_db(a[i], b[j]), **f0_figures.compare(f0[i], reference[j])}

        return each(measure)


def _recording(path: Path) -> np.ndarray:
    try:
        return load_16k(path)
    except Exception as e:
        raise ValueError(f"its recording {path}: {e}") from e


def _compared(run: Run, metric: str) -> Iterator[tuple[Score, dict[str, Any]]]:
    require(PACKAGES)
    return run.measure(PairMeter(), run.with_target(), metric,
                       lambda c: Job(c.wav, c.lang, c.target))


def score_mcd(run: Run) -> None:
    """Fill ``mcd``. Raises Unavailable without packages or recordings."""
    for s, value in _compared(run, "mcd"):
        s.values["mcd"] = value["mcd"]


def score_f0(run: Run) -> None:
    """Fill the figures of f0. Raises Unavailable without packages or recordings."""
    for s, value in _compared(run, "f0"):
        s.values.update({name: value[name] for name in f0_figures.NAMES})
