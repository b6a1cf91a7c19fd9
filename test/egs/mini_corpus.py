"""The scripts of egs/mini/local, importable, and small pieces of the corpus that they prepare."""

import sys
from pathlib import Path

import av
import numpy as np

from e2etts.text import normalise

LOCAL = Path(__file__).resolve().parents[2] / "egs/mini/local"
sys.path.insert(0, str(LOCAL))

import asterisk  # noqa: E402
from settings import MiniData  # noqa: E402

CONFIG = MiniData(languages=("en",), test_utts={"en": 5}, dev_utts=3, hours={"flite-slt": 0.01})
NOUNS = ("cat", "dog", "king", "clock", "river", "garden", "letter", "doctor", "window", "story")
VERBS = ("sees", "finds", "takes", "loves", "brings", "paints", "moves", "hides", "keeps",
         "needs", "wants", "hears")


def tone(seconds, level=8000):
    return (level * np.sin(np.arange(round(seconds * 16000)) * 0.05)).astype(np.int16)


def write_g722(path, wav):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format="g722") as out:
        stream = out.add_stream("g722", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(wav[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)


def prompts(count):
    texts = [f"Number {n} is a text of several words." for n in range(count)]
    return [asterisk.Prompt(f"asterisk-en-{n:03d}", "en", f"{n}.wav", text,
                            asterisk.words_of(normalise(text, "en")), 2.0)
            for n, text in enumerate(texts)]


def wordnet(root):
    """A WordNet of 110 examples in the package's format, already fetched."""
    deb = root / "data/download/deb"
    (deb / "usr/share/wordnet").mkdir(parents=True)
    lines = [f'001 n 0 | a gloss; "the {a} {v} every {b}"' for a in NOUNS for v in VERBS
             for b in NOUNS[:1] if a != b]
    lines += [f'002 n 0 | more; "a {a} is no text of several words {v}"' for a in NOUNS[:1]
              for v in VERBS]
    for part in ("noun", "verb", "adj", "adv"):
        (deb / f"usr/share/wordnet/data.{part}").write_text("\n".join(lines) + "\n")
    (deb / "packages.json").write_text('{"wordnet-base": "1"}')
    return deb
