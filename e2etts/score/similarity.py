"""Speaker similarity: cosine of Resemblyzer voice vectors (GE2E, arXiv 1710.10467)."""

import base64
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from e2etts.score.measure import JUDGE_RATE_HZ, Measure

PACKAGES = ("resemblyzer", "webrtcvad", "librosa", "torch")
REMEDY = "tools/install.sh --extras score"
WINDOW_SECONDS = 1.6  # what the encoder sees at once
SHORTEST_SAMPLES = int(2 * WINDOW_SECONDS * JUDGE_RATE_HZ)
SILENT_PEAK = 1e-4


def loop_to(wav: np.ndarray, samples: int) -> np.ndarray:
    """Repeat a clip until it has ``samples``; longer clips stay as they are.

    The encoder pads short clips with silence, which makes all short clips look alike.
    """
    if len(wav) >= samples:
        return wav
    return np.tile(wav, -(-samples // len(wav)))[:samples]


@dataclass(frozen=True)
class VoiceMeter:
    """Unit voice vector of a wav, as base64 of 256 float32; None for silence."""

    name: str = "sim"

    def key(self, lang: str) -> str:
        return f"voice resemblyzer-{version('resemblyzer')} loop{SHORTEST_SAMPLES}"

    def open(self) -> Measure:
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

        return measure


def pack(vector: np.ndarray) -> str:
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode("ascii")


def unpack(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f4")


def mean_voice(vectors: list[str]) -> np.ndarray | None:
    """Unit mean of packed voice vectors; None when there are none."""
    if not vectors:
        return None
    mean = np.mean([unpack(v) for v in vectors], axis=0)
    return mean / np.linalg.norm(mean)


def cosine(vector: str | None, voice: np.ndarray) -> float:
    """Similarity to a unit voice vector; silence (None) is like nobody: 0."""
    return 0.0 if vector is None else float(unpack(vector) @ voice)
