"""DNSMOS P.835 (arXiv 2110.01763): estimated quality of speech, background and overall, 1 to 5."""

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from e2etts.score.meter import JUDGE_RATE_HZ, Measure, Meter, each, loop_to

PACKAGES = ("speechmos", "onnxruntime")
WINDOW_SAMPLES = int(9.01 * JUDGE_RATE_HZ)  # fixed by the network
HOP_SAMPLES = 4 * JUDGE_RATE_HZ

# Calibration of the raw outputs to the listening test, highest power first, published with the
# model (microsoft/DNS-Challenge, DNSMOS/dnsmos_local.py).
CALIBRATION = {"sig": (-0.08397278, 1.22083953, 0.0052439),
               "bak": (-0.13166888, 1.60915514, -0.39604546),
               "ovrl": (-0.06766283, 1.11546468, 0.04602535)}


def windows(wav: np.ndarray) -> list[np.ndarray]:
    """Windows of 9.01 s: one of the looped clip when it is shorter, else one every 4 s.

    The reference program moves by 1 s also over the repetitions of a short clip: four times the
    time for the same speech; measured on 20 prompts the mean differs by 0.01.
    """
    wav = loop_to(wav, WINDOW_SAMPLES)
    last = len(wav) - WINDOW_SAMPLES
    starts = [*range(0, last, HOP_SAMPLES), last]
    return [wav[s : s + WINDOW_SAMPLES] for s in starts]


@dataclass(frozen=True)
class QualityMeter(Meter):
    """{"sig", "bak", "ovrl"} of a wav."""

    name: str = "dnsmos"

    def key(self, lang: str) -> str:
        return f"dnsmos speechmos-{version('speechmos')} hop{HOP_SAMPLES}"

    def open(self, device: str) -> Measure:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # The package's own code starts sessions with as many threads as cores: only its model.
        folder = Path(find_spec("speechmos").submodule_search_locations[0]) / "dnsmos_models"
        session = onnxruntime.InferenceSession(str(folder / "sig_bak_ovr.onnx"), options,
                                               providers=["CPUExecutionProvider"])

        def measure(wav: np.ndarray, lang: str) -> dict[str, float]:
            rows = [session.run(None, {"input_1": w[None].astype(np.float32)})[0][0]
                    for w in windows(wav)]
            return {k: float(np.mean([np.polyval(c, r[i]) for r in rows]))
                    for i, (k, c) in enumerate(CALIBRATION.items())}

        return each(measure)
