"""Make data/<set> of VCTK 0.92: train, dev, test, test_unseen, enrol.

Layout, as the archive unpacks (doi.org/10.7488/ds/2645, its README and that of torchaudio's
VCTK_092):
    txt/p225/p225_001.txt                                   one line of text
    wav48_silence_trimmed/p225/p225_001_mic1.flac, _mic2    48 kHz, two microphones
Known errors: p315 has recordings but no texts (lost), p280 has no mic2, some texts of p362
have no recording, and the speaker ids are p225 ... p376 and s5. The first microphone
is complete and therefore used. The publishers trimmed the silence at the edges only in part.
Texts 001 to 024 (elicitation paragraph, rainbow passage) are the same for all speakers, and some
newspaper sentences are shared: sets are split by text.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from e2etts.data.corpus import CorpusData, Job, Published, Recording, run
from e2etts.data.download import Archive
from e2etts.errors import UserError

CREDIT = "CSTR VCTK Corpus 0.92 by Yamagishi, Veaux, MacDonald (doi.org/10.7488/ds/2645), CC BY 4.0"
# The MD5 sum as torchaudio 0.10 lists it.
ARCHIVE = Archive("https://datashare.ed.ac.uk/bitstream/handle/10283/3443/VCTK-Corpus-0.92.zip",
                  "8a6ba2946b36fcbef0212cad601f4bfa")
PUBLISHED = {"VCTK": Published(speakers=109)}  # 110, one of them without texts
SHARED_TEXTS = 24


@dataclass(frozen=True, kw_only=True)
class VCTK(CorpusData):
    """unseen_speakers: excluded from training. trim_below_peak_db: see ``Job.usable``."""

    unseen_speakers: tuple[str, ...] = ("p225", "p234", "p238", "p245", "p248", "p261", "p294",
                                        "p302", "p326", "p335", "p347")
    trim_below_peak_db: float = 40.0


def read(folder: Path, left_out: list[tuple[str, str]]) -> list[Recording]:
    """Texts that have a recording by the first microphone; the others go to ``left_out``."""
    if not (folder / "txt").is_dir():
        raise UserError(f"{folder}/txt: no such folder: is --corpus_dir the folder that holds txt "
                        "and wav48_silence_trimmed?")
    recordings = []
    for text in sorted((folder / "txt").glob("*/*.txt")):
        speaker, utt = text.parent.name, text.stem
        wav = folder / "wav48_silence_trimmed" / speaker / f"{utt}_mic1.flac"
        if wav.is_file():
            recordings.append(Recording(utt=utt, wav=str(wav), text=text.read_text("utf-8").strip(),
                                        speaker=speaker, lang="en"))
        else:
            left_out.append((utt, "text without a recording"))
    for wav in sorted((folder / "wav48_silence_trimmed").glob("*/*_mic1.flac")):
        utt = wav.stem.removesuffix("_mic1")
        if not (folder / "txt" / wav.parent.name / f"{utt}.txt").is_file():
            left_out.append((utt, "recording without a text"))
    return recordings


def prepare(job: Job) -> None:
    config = job.config
    # The archive has no folder of its own.
    folder = job.corpus("VCTK-Corpus-0.92", [ARCHIVE], unpack_to="VCTK-Corpus-0.92")
    all_of_it = job.usable({"VCTK": read(folder, job.left_out)}, PUBLISHED,
                           config.trim_below_peak_db)["VCTK"]
    unseen = [r for r in all_of_it if r.speaker in config.unseen_speakers]
    sets = job.split_by_text([r for r in all_of_it if r.speaker not in config.unseen_speakers],
                             {"dev": config.dev_utts, "test": config.test_utts},
                             lambda r: int(r.utt.rpartition("_")[2]) > SHARED_TEXTS)
    trained_texts = {r.text.lower() for r in sets["train"]}
    own = [r for r in unseen if r.text.lower() not in trained_texts]
    job.left_out += [(r.utt, "unseen speaker, but a text of the training set")
                     for r in unseen if r.text.lower() in trained_texts]
    sets["test_unseen"], sets["enrol"] = job.hold_out(own, config.test_utts, set())
    job.write(sets, CREDIT)


if __name__ == "__main__":
    sys.exit(run(__doc__, VCTK, prepare))
