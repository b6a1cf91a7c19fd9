"""Style control (metric style): is speech recognised as the requested style?

The judge is a classifier of rate, pitch and spectrum, trained on labelled recordings of the train
set alone; its accuracy on held-out recordings is shown too, as an upper bound.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e2etts.data.datadir import read_table
from e2etts.score.clips import LabelledRecording
from e2etts.score.error_rates import mean_interval
from e2etts.score.judges.locate import Unavailable, require
from e2etts.score.meter import JUDGE_RATE_HZ, SILENT_PEAK, Measure, Meter, WavJob, each
from e2etts.score.score_run import ScoreRun
from e2etts.text import normalise

PACKAGES = ("sklearn",)
BANDS = 12
HOP_SAMPLES = 160
SPEECH_RANGE = 4.6  # natural log: frames within 40 dB of the loudest count as speech
RECORDINGS_PER_LABEL = 300


def labelled_recordings(dump_set: Path) -> list[LabelledRecording]:
    """Of every emotion label of a prepared set at most RECORDINGS_PER_LABEL, evenly spread; none
    for a set without labels."""
    if not (dump_set / "utt2emo").is_file():
        return []
    labels = read_table(dump_set / "utt2emo")
    wavs, texts, langs = (read_table(dump_set / f) for f in ("wav.scp", "text", "utt2lang"))
    of_label: dict[str, list[str]] = {}
    for utt, label in labels.items():
        of_label.setdefault(label, []).append(utt)
    return [LabelledRecording(Path(wavs[u]), texts[u], langs[u], label)
            for label, utts in sorted(of_label.items())
            for u in utts[:: -(-len(utts) // RECORDINGS_PER_LABEL)]]


@dataclass(frozen=True)
class StyleMeter(Meter):
    """Features of a wav that depend on style: [seconds of speech, voiced share, median of log2 F0
    in Hz, its interquartile range in semitones, relative levels of mel bands in nepers]; None
    for silence."""

    name: str = "style"

    def key(self, lang: str) -> str:
        return f"style {BANDS} bands, hop {HOP_SAMPLES}, format 1"

    def open(self, device: str) -> Measure:
        import torch

        from e2etts.audio import AudioConfig, log_mel
        from e2etts.nets.source import track_pitch

        audio = AudioConfig(sample_rate_hz=JUDGE_RATE_HZ, hop_samples=HOP_SAMPLES, mel_bands=BANDS,
                            mel_high_hz=JUDGE_RATE_HZ / 2)

        def measure(wav: np.ndarray, lang: str) -> list[float] | None:
            peak = float(np.abs(wav).max())
            if len(wav) < HOP_SAMPLES or peak < SILENT_PEAK:
                return None
            samples = torch.from_numpy(wav / peak)
            mel = log_mel(samples, audio)
            loud = mel.mean(1)
            speech = loud > loud.max() - SPEECH_RANGE
            pitch_hz = track_pitch(samples[None], JUDGE_RATE_HZ, HOP_SAMPLES)[0][speech]
            voiced = pitch_hz[pitch_hz > 0].log2()
            low, middle, high = (voiced.quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
                                 if len(voiced) else (0.0, 0.0, 0.0))
            levels = mel[speech].mean(0)
            return [float(speech.sum()) * HOP_SAMPLES / JUDGE_RATE_HZ,
                    len(voiced) / len(pitch_hz), middle, 12 * (high - low),
                    *(levels - levels.mean()).tolist()]

        return each(measure)


def features(measured: list[float], text: str, lang: str) -> list[float]:
    """Features of the classifier: measurements, with seconds as letters of the text per second."""
    letters = sum(c.isalpha() for c in normalise(text, lang))
    return [letters / max(measured[0], 0.01), *measured[1:]]


class StyleClassifier:
    """Trained at construction, on rows of features and their labels; seeded."""

    def __init__(self, rows: list[list[float]], labels: list[str], seed: int):
        from sklearn.ensemble import RandomForestClassifier

        self.labels = sorted(set(labels))
        self._forest = RandomForestClassifier(300, random_state=seed, class_weight="balanced")
        self._forest.fit(np.array(rows), np.array(labels))

    def __call__(self, rows: list[list[float]]) -> list[str]:
        return [str(label) for label in self._forest.predict(np.array(rows))]


def score_style(run: ScoreRun) -> None:
    """Fill ``style``: the recognised label of clips with a requested one. Raises Unavailable
    where no clip has one, and without labelled recordings to train on."""
    some = [s for s in run.good() if s.clip.emotion]
    if not some:
        raise Unavailable("no clip has a requested style", "score a recipe with model.style, or "
                          "use the metric emotion")
    require(PACKAGES)
    meter = StyleMeter()
    jobs = {x: WavJob(x.wav, x.lang) for x in run.labelled}
    values = run.of(meter, jobs.values())
    known = [(x, values[job]) for x, job in jobs.items() if isinstance(values.get(job), list)]
    if len({x.label for x, _ in known}) < 2:
        raise Unavailable("the train set has no recordings of two styles to train on",
                          "prepare a train set with utt2emo")
    judge = StyleClassifier([features(v, x.text, x.lang) for x, v in known],
                            [x.label for x, _ in known], run.config.seed)
    run.models["style"] = {"name": "random forest", "training_recordings": len(known)}
    for s, measured in run.measure(meter, some, "style"):
        if measured is None:
            s.notes.append("silent")
        s.values["style"] = "silence" if measured is None else judge(
            [features(measured, s.clip.text, s.clip.lang)])[0]


def summarise_styles(found: Iterable[tuple[str, str, str, str]], samples: int,
                     seed: int) -> dict[str, Any]:
    """{system: {set: accuracy with interval and count, {style: {recognised style: clips}}}}
    from (system, set, requested style, recognised style)."""
    grouped: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for system, name, requested, recognised in found:
        grouped.setdefault(system, {}).setdefault(name, []).append((requested, recognised))
    out: dict[str, Any] = {}
    for system, sets in grouped.items():
        for name, pairs in sets.items():
            right = [float(a == h) for a, h in pairs]
            heard_as = {style: dict(Counter(h for a, h in pairs if a == style).most_common())
                        for style in sorted({a for a, _ in pairs})}
            out.setdefault(system, {})[name] = {
                "accuracy": float(np.mean(right)), "ci": mean_interval(right, samples, seed),
                "n": len(pairs), "heard_as": heard_as}
    return out
