"""A made-up experiment folder: tones for speech, a log, token counts."""

import json
from pathlib import Path

import numpy as np
import soundfile

from e2etts.score.meter import Meter, each

RATE_HZ = 16000


def tone(seconds: float, hz: float, seed: int = 0) -> np.ndarray:
    t = np.arange(int(seconds * RATE_HZ)) / RATE_HZ
    noise = np.random.default_rng(seed).normal(0, 0.01, len(t))
    return (0.3 * np.sin(2 * np.pi * hz * t) * (1 + np.sin(8 * t)) / 2 + noise).astype(np.float32)


def write_manifest(folder: Path, rows: list[dict]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows),
                    encoding="utf-8")
    return path


def add_set(exp: Path, system: str, name: str, texts: dict[str, str], hz: float = 300,
            **more) -> Path:
    """One set of one system, its wavs beside the manifest."""
    folder = exp / "wavs" / system / name
    rows = []
    for i, (utt, text) in enumerate(texts.items()):
        seconds = 0.6 + 0.3 * i
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / f"{utt}.wav", tone(seconds, hz + 40 * i, i), RATE_HZ)
        rows.append({"utt": utt, "wav": f"{utt}.wav", "text": text, "lang": name[-2:],
                     "speaker": "a", "references": [], "prompt": None, "seconds": seconds,
                     "synthesis_seconds": 0.1, **more})
    return write_manifest(folder, rows)


def make_experiment(exp: Path) -> Path:
    """Three systems, two sets, one stage's log with summary, and token counts."""
    texts = {"u1": "say <b>one</b> & \"two\"", "u2": "three four"}
    for i, system in enumerate(("recording", "copy", "tts")):
        add_set(exp, system, "test_en", texts, 300 + 50 * i)
    add_set(exp, "tts", "sentences_es", {"s1": "hola $mundo </script>"})
    for stage, seconds, gib in (("tokenizer", 60.5, 1.5), ("lm", 30.0, 2.5)):
        (exp / stage).mkdir(parents=True)
        (exp / stage / "summary.json").write_text(
            json.dumps({"steps": 30, "seconds": seconds, "peak_gib": gib}))
        with (exp / stage / "log.jsonl").open("w") as log:
            for step in range(1, 31):
                row = {"step": step, "seconds": step, "split": "train", "loss": 5 / step,
                       "lm": None if step == 3 else 1 / step}
                log.write(json.dumps(row) + "\n")
                if step % 10 == 0:
                    log.write(json.dumps({**row, "split": "dev"}) + "\n")
            log.write('{"step": 31, "sec')  # killed while writing
    (exp / "stages.json").write_text(json.dumps(
        [{"stage": 4, "name": "tokenizer", "seconds": 70}, {"stage": 5, "name": "lm",
                                                            "seconds": 35}]))
    (exp / "tokens.json").write_text(json.dumps(
        {"codebook_size": 8, "counts": [5, 1, 0, 2, 9, 0, 3, 4], "entropy_bits": 2.3,
         "used_share": 0.75}))
    return exp


class ToyMeter(Meter):
    """Recognises the same words in every clip; counts its calls."""

    name = "wer"

    def __init__(self, text: str = "three four"):
        self.text, self.calls = text, 0

    def describe(self) -> dict[str, str]:
        return {"name": "toy", "source": "test"}

    def understands(self, lang: str) -> bool:
        return True

    def key(self, lang: str) -> str:
        return f"toy {self.text} {lang}"

    def open(self, device):
        def measure(wav, lang):
            self.calls += 1
            return self.text
        return each(measure)


class Loud(Meter):
    """Measures in batches, notes their sizes, and cannot bear silence. Refuses to be opened twice
    on a device: ``folder`` keeps the names of those where it was."""

    name, batch_clips = "loud", 2

    def __init__(self, folder: Path):
        self.sizes, self.folder = [], folder

    def key(self, lang):
        return f"loud {lang}"

    def open(self, device):
        (self.folder / device).touch(exist_ok=False)

        def measure(wavs, lang):
            self.sizes.append(len(wavs))
            if not all(w.any() for w in wavs):
                raise RuntimeError("silence")
            return [f"{device} {len(w)}" for w in wavs]
        return measure
