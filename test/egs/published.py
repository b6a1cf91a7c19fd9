"""Small trees of public corpora in their published layout, with made-up voices in them."""

import numpy as np
import soundfile

WORDS = ["old", "river", "turns", "under", "quiet", "bridge", "while", "seven", "white", "birds",
         "cross", "morning", "light", "small", "boats", "carry", "bread", "every", "village"]


def voice(seed: int, seconds: float, rate_hz: int, silence_seconds: float = 0.0) -> np.ndarray:
    """(samples,) of a harmonic tone that moves in pitch and loudness, like speech from afar."""
    random = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch = random.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * random.uniform(0.5, 2) * time))
    phase = 2 * np.pi * np.cumsum(pitch) / rate_hz
    tone = sum(np.sin(k * phase) / k for k in range(1, 9))
    loud = 0.1 + 0.9 * np.sin(np.pi * random.uniform(2, 4) * time) ** 2
    wav = 0.15 * tone * loud + 0.001 * random.standard_normal(len(time))
    edge = np.zeros(round(silence_seconds * rate_hz))
    return np.concatenate([edge, wav, edge])


def sentence(seed: int, words: int = 5) -> str:
    chosen = np.random.default_rng(seed).choice(WORDS, words)
    return " ".join(chosen).capitalize() + "."


def write(path, wav: np.ndarray, rate_hz: int, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wav, rate_hz, **options)


def libritts(root, speakers: int = 2, utts: int = 3, seconds: float = 1.2) -> None:
    """LibriTTS/<part>/<speaker>/<chapter>/, all parts, each with speakers of its own."""
    parts = ("train-clean-100", "train-clean-360", "train-other-500", "dev-clean", "dev-other",
             "test-clean", "test-other")
    for p, part in enumerate(parts):
        for s in range(speakers):
            speaker, chapter = str(100 * (p + 1) + s), str(121123 + s)
            for u in range(utts):
                name = f"{speaker}_{chapter}_{u:06d}_{u % 2:06d}"
                seed = 1000 * p + 100 * s + u
                folder = root / "LibriTTS" / part / speaker / chapter
                write(folder / f"{name}.wav", voice(seed, seconds + 0.1 * u, 24000), 24000)
                text = sentence(seed)
                (folder / f"{name}.original.txt").write_text(text.replace("seven", "7"))
                (folder / f"{name}.normalized.txt").write_text(text + "\n")
            (folder / f"{speaker}_{chapter}.trans.tsv").write_text("")
