"""Make data/<set> of LibriTTS: train, dev, test_clean, test_other, enrol.

Layout, as the archives unpack (arXiv 1904.02882, section 3):
    LibriTTS/<part>/<speaker>/<chapter>/<speaker>_<chapter>_<paragraph>_<sentence>.wav
    and beside each .wav its .original.txt and .normalized.txt (numbers written out).
The audio is 24 kHz, mono, and used in place. Parts have disjoint speakers.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2etts.data.corpus import CorpusData, Job, Published, Recording, run
from e2etts.data.download import Archive
from e2etts.errors import UserError

CREDIT = "LibriTTS by Heiga Zen and others (openslr.org/60), CC BY 4.0"
URL = "https://www.openslr.org/resources/60"
# MD5 sums as torchaudio 0.8 lists them; utterances as counted by TensorFlow Datasets 4.9; hours and
# speakers of arXiv 1904.02882, table 1.
PARTS = {
    "dev-clean": ("0c3076c1e5245bb3f0af7d82087ee207", Published(5736, 8.97, 40)),
    "dev-other": ("815555d8d75995782ac3ccd7f047213d", Published(4613, 6.43, 33)),
    "test-clean": ("7bed3bdb047c4c197f1ad3bc412db59f", Published(4837, 8.56, 39)),
    "test-other": ("ae3258249472a13b5abef2a816f733e4", Published(5120, 6.69, 33)),
    "train-clean-100": ("4a8c202b78fe1bc0c47916a98f3a2ea8", Published(33236, 53.78, 247)),
    "train-clean-360": ("a84ef10ddade5fd25df69596a2767b2d", Published(116500, 191.29, 904)),
    "train-other-500": ("7b181dd5ace343a5f38427999684aa6f", Published(205044, 310.08, 1160)),
}


@dataclass(frozen=True, kw_only=True)
class LibriTTS(CorpusData):
    """train_parts: parts for training; use only train-clean-100 for a quick start."""

    train_parts: tuple[str, ...] = ("train-clean-100", "train-clean-360", "train-other-500")


def read_part(folder: Path) -> Iterator[Recording]:
    """Utterances of one part, with their normalised texts."""
    for wav in sorted(folder.glob("*/*/*.wav")):
        text = wav.with_suffix(".normalized.txt")
        if not text.is_file():
            raise UserError(f"{text}: missing beside its .wav: get {folder.name} again")
        yield Recording(utt=wav.stem, wav=str(wav), text=text.read_text("utf-8").strip(),
                        speaker=wav.parts[-3], lang="en")


def prepare(job: Job) -> None:
    config = job.config
    trainable = [p for p in PARTS if p.startswith("train-")]
    if unknown := [p for p in config.train_parts if p not in trainable]:
        raise UserError(f"corpus_data.train_parts: no part '{unknown[0]}' to train on; there are "
                        f"{', '.join(trainable)}")
    names = [*config.train_parts, "dev-clean", "test-clean", "test-other"]
    root = job.corpus("LibriTTS", [Archive(f"{URL}/{n}.tar.gz", PARTS[n][0])
                                   for n in names])
    parts = job.usable({name: list(read_part(root / name)) for name in names},
                       {name: PARTS[name][1] for name in names})
    sets = {"train": [r for name in config.train_parts for r in parts[name]],
            "dev": job.shuffled(parts["dev-clean"])[:config.dev_utts]}
    known = {r.speaker for r in sets["train"]}
    enrol = []
    for name in ("test_clean", "test_other"):
        sets[name], more = job.hold_out(parts[name.replace("_", "-")], config.test_utts, known)
        enrol += more
    job.write({**sets, "enrol": enrol}, CREDIT)


if __name__ == "__main__":
    sys.exit(run(__doc__, LibriTTS, prepare))
