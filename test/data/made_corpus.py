"""A small corpus of tones, made in the test: data directories that prepare can read."""

from pathlib import Path

import numpy as np
import soundfile

from e2etts.audio import AudioConfig
from e2etts.data.datadir import DataDir
from e2etts.data.dump import prepare
from e2etts.text import TextConfig

AUDIO = AudioConfig(mel_bands=8)
TEXT = TextConfig(model_type="char", phonemes=False)
WORDS = ["one", "two", "three", "four", "five", "six", "seven", "ten", "red", "green", "blue"]


def make_set(folder: Path, name: str, utts: int, speakers: int = 2, seed: int = 0,
             wav: bool = True, emotions: bool = False) -> DataDir:
    """``folder/data/name`` with its wavs: 0.3 to 1.5 s of a tone and noise each."""
    random = np.random.default_rng(seed)
    data = DataDir({}, {}, {}, {}, {})
    for i in range(utts):
        speaker = f"voice-{i % speakers}"
        utt = f"{speaker}-{name}-{i:03d}"
        data.text[utt] = " ".join(random.choice(WORDS, random.integers(1, 5)))
        data.utt2lang[utt], data.utt2spk[utt] = "en", speaker
        if emotions and i % 3:
            data.utt2emo[utt] = "happy" if i % 3 == 1 else "sad"
        if wav:
            samples = int(random.uniform(0.3, 1.5) * AUDIO.sample_rate_hz)
            tone = 0.3 * np.sin(np.arange(samples) * random.uniform(0.05, 0.5))
            path = folder / "wav" / f"{utt}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone + 0.01 * random.standard_normal(samples),
                            AUDIO.sample_rate_hz, "PCM_16")
            data.wav[utt] = str(path)
    data.save(folder / "data" / name)
    return data


def make_dump(folder: Path, **options) -> Path:
    """train (24 utterances), dev (6) and sentences (3), prepared; returns the dump folder."""
    make_set(folder, "train", 24, **options)
    make_set(folder, "dev", 6, seed=1)
    make_set(folder, "sentences", 3, seed=2, wav=False)
    return run_prepare(folder)


def run_prepare(folder: Path, **changes) -> Path:
    options = {"train": "train", "sets": ["train", "dev", "sentences"], "audio": AUDIO,
               "text": TEXT, **changes}
    prepare(folder / "data", folder / "dump", **options)
    return folder / "dump"
