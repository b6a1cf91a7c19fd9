"""Speaker embeddings of Resemblyzer (GE2E, arXiv 1710.10467)."""

from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from e2etts.score.config import ScoreConfig
from e2etts.score.judges.locate import require
from e2etts.score.meter import (
    JUDGE_RATE_HZ,
    SILENT_PEAK,
    Measure,
    Meter,
    each,
    loop_to,
    pack,
)

PACKAGES = ("resemblyzer", "webrtcvad", "librosa", "torch")
WINDOW_SECONDS = 1.6  # the encoder's window
SHORTEST_SAMPLES = int(2 * WINDOW_SECONDS * JUDGE_RATE_HZ)


@dataclass(frozen=True)
class ResemblyzerMeter(Meter):
    """Unit speaker embedding of a wav, as base64 of 256 float32; None for silence."""

    name: str = "sim"

    def describe(self) -> dict[str, str]:
        return {"name": "Resemblyzer", "version": f"resemblyzer {version('resemblyzer')}"}

    def key(self, lang: str) -> str:
        return f"voice resemblyzer-{version('resemblyzer')} loop{SHORTEST_SAMPLES}"

    def open(self, device: str) -> Measure:
        import torch
        from resemblyzer import VoiceEncoder, preprocess_wav

        torch.set_num_threads(1)  # a small LSTM: more threads only wait for each other
        encoder = VoiceEncoder("cpu", verbose=False)

        def measure(wav: np.ndarray, lang: str) -> str | None:
            if np.abs(wav).max() < SILENT_PEAK:
                return None
            voiced = preprocess_wav(wav)
            voiced = voiced if len(voiced) > JUDGE_RATE_HZ // 10 else wav
            return pack(encoder.embed_utterance(loop_to(voiced, SHORTEST_SAMPLES)))

        return each(measure)


def find(config: ScoreConfig) -> ResemblyzerMeter:
    """Its weights come with the package. Raises Unavailable where that is not installed."""
    require(PACKAGES)
    return ResemblyzerMeter()
