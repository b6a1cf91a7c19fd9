"""Speaker similarity (metric sim): cosine of voice vectors, by default Resemblyzer's (GE2E, arXiv
1710.10467)."""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from e2etts.score import ecapa, wavlm_sv
from e2etts.score.clips import Clip
from e2etts.score.config import ScoreConfig
from e2etts.score.measure import JUDGE_RATE_HZ, Job, Measure, Meter, each
from e2etts.score.models import require
from e2etts.score.run import Run, own_job
from e2etts.score.vectors import pack, unpack

PACKAGES = ("resemblyzer", "webrtcvad", "librosa", "torch")
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
class VoiceMeter(Meter):
    """Unit voice vector of a wav, as base64 of 256 float32; None for silence."""

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


def mean_voice(vectors: list[str]) -> np.ndarray | None:
    """Unit mean of packed voice vectors; None when there are none."""
    if not vectors:
        return None
    mean = np.mean([unpack(v) for v in vectors], axis=0)
    return mean / np.linalg.norm(mean)


def cosine(vector: str | None, voice: np.ndarray) -> float:
    """Similarity to a unit voice vector; silence (None) is like nobody: 0."""
    return 0.0 if vector is None else float(unpack(vector) @ voice)


def voice_meter(config: ScoreConfig) -> Meter:
    """The model of ``score.speaker``. Raises Unavailable where it cannot be had."""
    if config.speaker == "resemblyzer":
        require(PACKAGES)
        return VoiceMeter()
    return {"wavlm-sv": wavlm_sv, "ecapa": ecapa}[config.speaker].find(config)


def score(run: Run) -> None:
    """Fill ``sim``, to the mean of a speaker's references, and ``sim_prompt``."""
    meter, some = voice_meter(run.config), run.good()
    run.models["sim"] = meter.describe()
    own = {(s.clip.set, s.clip.utt): run.cache.hash_of(s.clip.wav) for s in some
           if s.clip.system == "recording"}
    real = {c for s in some for c in _references(s.clip, run.config)}
    real |= {s.clip.prompt for s in some if s.clip.prompt}
    references = [Job(p, "") for p in sorted(real)]
    values = run.of(meter, [*(own_job(s.clip) for s in some), *references])
    voices = {job.path: values[job] for job in references
              if isinstance(values.get(job), str)}
    means: dict[Any, np.ndarray | None] = {}
    for s, vector in run.sort_out(values, some, "sim"):
        if vector is None:
            s.notes.append("silent")
        # The recording of the utterance itself would make any copy of it look too good.
        without = own.get((s.clip.set, s.clip.utt))
        paths = tuple(p for p in _references(s.clip, run.config)
                      if p in voices and run.cache.hash_of(p) != without)
        if paths not in means:
            means[paths] = mean_voice([voices[p] for p in paths])
        if means[paths] is None:
            s.notes.append("no readable reference of its speaker")
        else:
            s.sim = cosine(vector, means[paths])
        if s.clip.prompt in voices:
            s.sim_prompt = cosine(vector, unpack(voices[s.clip.prompt]))


def _references(clip: Clip, config: ScoreConfig) -> tuple[Path, ...]:
    """At most ``references_per_speaker`` of a clip's references, evenly spread."""
    step = -(-len(clip.references) // config.references_per_speaker)
    return clip.references[:: max(1, step)]
