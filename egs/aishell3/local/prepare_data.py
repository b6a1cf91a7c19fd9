"""Make data/<set> of AISHELL-3: train, dev, test, enrol.

Layout, as the archive unpacks (openslr.org/93, its ReadMe.txt):
    {train,test}/content.txt                 SSB00050001.wav<tab>广 guang3 州 zhou1 ...
    {train,test}/wav/SSB0005/SSB00050001.wav 44.1 kHz, one channel
    spk-info.txt, phone_set.txt, train/label_train-set.txt (with prosody): not needed here
The first seven letters of a name are the speaker. The transcript alternates characters and their
pinyin with the tone's number. Only the characters are used as text: text.phonemes converts them to
pinyin with tones, as for any other text.
"""

import re
import sys
from pathlib import Path

from e2etts.data.corpus import CorpusData, Job, Published, Recording, run
from e2etts.data.download import Archive
from e2etts.errors import UserError

CREDIT = "AISHELL-3 by Beijing Shell Shell Technology (openslr.org/93), Apache 2.0"
ARCHIVE = Archive("https://www.openslr.org/resources/93/data_aishell3.tgz")  # no published sum
# All: arXiv 2010.11567, abstract and table 1. The parts: lines of content.txt in the archive.
PUBLISHED = {"train": Published(63262), "test": Published(24773),
             "all": Published(88035, speakers=218, about_hours=85)}
_PINYIN = re.compile(r"[a-z:]+[1-6]")


def characters(transcript: str) -> str:
    """The characters of ``武 wu3 术 shu4``; empty if a syllable lacks its tone, since pinyin and
    text are then indistinguishable."""
    text = "".join(t for t in transcript.split() if not _PINYIN.fullmatch(t))
    return "" if re.search("[a-z]", text) else text


def read(folder: Path) -> list[Recording]:
    """The utterances of train or test in the order of content.txt."""
    path = folder / "content.txt"
    if not path.is_file():
        raise UserError(f"{path}: no such file: is --corpus_dir the folder that holds train and "
                        "test?")
    recordings = []
    for number, line in enumerate(path.read_text("utf-8-sig").splitlines(), start=1):
        name, tab, transcript = line.partition("\t")
        if not tab:
            raise UserError(f"{path}:{number}: expected 'name<tab>transcript': get it again")
        speaker = name[:7]
        recordings.append(Recording(utt=Path(name).stem, wav=str(folder / "wav" / speaker / name),
                                    text=characters(transcript), speaker=speaker, lang="zh"))
    return recordings


def prepare(job: Job) -> None:
    config = job.config
    folder = job.corpus("data_aishell3", [ARCHIVE], unpack_to="data_aishell3")
    parts = job.usable({name: read(folder / name) for name in ("train", "test")}, PUBLISHED)
    sets = job.split_by_text(parts["train"], {"dev": config.dev_utts})
    known = {r.speaker for r in sets["train"]}
    sets["test"], sets["enrol"] = job.hold_out(parts["test"], config.test_utts, known)
    job.write(sets, CREDIT)


if __name__ == "__main__":
    sys.exit(run(__doc__, CorpusData, prepare))
