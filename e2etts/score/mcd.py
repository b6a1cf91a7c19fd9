"""Mel-cepstral distortion of a clip and a recording of the same text (metric mcd).

Figures compare under one convention only. This one: 16 kHz, WORLD's envelope every 5 ms, mel
cepstra of order 24 (all-pass constant 0.42) without the 0th coefficient, which is loudness; dynamic
time warping by Euclidean distance; pauses stay in. ESPnet's evaluate_mcd.py counts the 0th
coefficient too, of cepstra of short-time spectra at the clip's own rate (order 23 at 16 kHz, 34 at
24 kHz); its mcd_f0.py, with warping, leaves out frames 20 dB below the mean power.
"""

import numpy as np


def distortion_db(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over frames of 10 / ln 10 sqrt(2 sum_m (a_m - b_m)^2) (Kubichek, 1993).

    (T, C), (T, C): aligned mel cepstra without energy.
    """
    return float(10 / np.log(10) * np.sqrt(2 * ((a - b) ** 2).sum(1)).mean())
