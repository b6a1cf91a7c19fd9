"""Make data/<set> of LJ Speech 1.1: train, dev, test.

Layout, as the archive unpacks (keithito.com/LJ-Speech-Dataset, its README):
    LJSpeech-1.1/wavs/LJ001-0001.wav ...    22.05 kHz, one channel
    LJSpeech-1.1/metadata.csv               id|transcription|normalised transcription, UTF-8
The file has no CSV quoting: a quotation mark is part of the text. Numbers, ordinals
and amounts are written out in the third field; abbreviations (Mr., Co., ...) are not.
The last 500 clips are held out, 250 for dev and 250 for test, as in the recipe of ESPnet.
"""

import re
import sys
from pathlib import Path

from e2etts.data.corpus import CorpusData, Job, Published, Recording, run
from e2etts.data.download import Archive
from e2etts.errors import UserError

CREDIT = ("LJ Speech 1.1 by Keith Ito and Linda Johnson "
          "(keithito.com/LJ-Speech-Dataset), public domain")
# The MD5 sum as NVIDIA's recipe for Tacotron 2 lists it; the sizes of the corpus's page.
ARCHIVE = Archive("https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
                  "c4763be9595ddfa79c2fc6eaeb3b6c8e")
PUBLISHED = {"LJSpeech-1.1": Published(13100, 23 + 55 / 60 + 17 / 3600, 1)}
# The unexpanded abbreviations of the corpus README.
ABBREVIATIONS = {
    "Mr.": "Mister", "Mrs.": "Missus", "Dr.": "Doctor", "No.": "Number", "St.": "Saint",
    "Co.": "Company", "Jr.": "Junior", "Maj.": "Major", "Gen.": "General", "Drs.": "Doctors",
    "Rev.": "Reverend", "Lt.": "Lieutenant", "Hon.": "Honorable", "Sgt.": "Sergeant",
    "Capt.": "Captain", "Esq.": "Esquire", "Ltd.": "Limited", "Col.": "Colonel", "Ft.": "Fort"}
_ABBREVIATION = re.compile(  # "No." before a written-out number, not the word "no"
    r"\b(?:No\.(?= [a-z])|(?:" + "|".join(a[:-1] for a in ABBREVIATIONS if a != "No.") + r")\.)")


def read(folder: Path) -> list[Recording]:
    """Clips in the order of metadata.csv. Raises UserError for a line of other than 3 fields."""
    path = folder / "metadata.csv"
    if not path.is_file():
        raise UserError(f"{path}: no such file: is --corpus_dir the folder LJSpeech-1.1?")
    recordings = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1):
        fields = line.split("|")
        if len(fields) != 3:
            raise UserError(f"{path}:{number}: {len(fields)} fields, expected 3: get it again")
        text = _ABBREVIATION.sub(lambda m: ABBREVIATIONS[m[0]], fields[2])
        recordings.append(Recording(utt=fields[0], wav=str(folder / f"wavs/{fields[0]}.wav"),
                                    text=text, speaker="LJ", lang="en"))
    return recordings


def prepare(job: Job) -> None:
    folder = job.corpus("LJSpeech-1.1", [ARCHIVE])
    clips = read(folder)
    test = len(clips) - job.config.test_utts
    dev = test - job.config.dev_utts
    set_of = {r.utt: "train" if i < dev else "dev" if i < test else "test"
              for i, r in enumerate(clips)}
    good = job.usable({"LJSpeech-1.1": clips}, PUBLISHED)["LJSpeech-1.1"]
    job.write({name: [r for r in good if set_of[r.utt] == name]
               for name in ("train", "dev", "test")}, CREDIT)


if __name__ == "__main__":
    sys.exit(run(__doc__, CorpusData, prepare))
