"""Make data/<set> of ESD: train, dev, test_en, test_zh, all with emotion labels.

Layout, as the archive unpacks (github.com/HLTSingapore/Emotional-Speech-Data):
    0011/Angry/{train,evaluation,test}/0011_000351.wav     16 kHz, one channel
    0011/0011.txt                                          0011_000351<tab>text<tab>Angry
Speakers 0001 to 0010 speak Mandarin, 0011 to 0020 English, each the same 350 sentences in five
emotions. Known errors: the texts are in UTF-8, UTF-16, GB 2312 and Latin 1 (issue 1 there),
some lines have spaces for tabs, and the emotion is in English or Chinese; the label is that of
the folder. A later release has no folders of sets: the split is by sentence, the first 20 of 350
for evaluation, 30 for test, 300 for training, so that no test text is in training.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from e2etts.data.corpus import CorpusData, Job, Published, Recording, run
from e2etts.errors import UserError

CREDIT = "ESD by Kun Zhou and others (arXiv 2105.14762), for research"
HOW_TO_GET = ("ESD has no public address: its authors send a link on request, see "
              "github.com/HLTSingapore/Emotional-Speech-Data")
EMOTIONS = ("Angry", "Happy", "Neutral", "Sad", "Surprise")
SENTENCES = 350
SPEAKERS_OF_A_LANGUAGE = 10
HOURS = 29  # "over 29 hours", arXiv 2105.14762, abstract
_LINE = re.compile(r"(\d{4}_\d{6})\s+(\S.*)")


@dataclass(frozen=True, kw_only=True)
class ESD(CorpusData):
    """languages: en (speakers 0011 to 0020), zh (0001 to 0010) or both."""

    languages: tuple[str, ...] = ("en", "zh")


def decoded(raw: bytes, lang: str) -> str:
    """The text of a transcript in whichever of its encodings."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return raw.decode("utf-16")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return raw.decode("gb18030" if lang == "zh" else "cp1252", errors="replace")


def transcripts(path: Path, lang: str) -> dict[str, str]:
    """{utterance: text} of one speaker."""
    if not path.is_file():
        raise UserError(f"{path}: no such file: is --corpus_dir the folder of 0001 to 0020?")
    lines = decoded(path.read_bytes(), lang).splitlines()
    return {m[1]: without_label(m[2], lang) for line in lines
            if (m := _LINE.fullmatch(line.strip()))}


def without_label(text: str, lang: str) -> str:
    """``text`` without the emotion label after it, for any separator."""
    if "\t" in text:
        return text.partition("\t")[0].strip()
    rest, _, last = text.rpartition(" ")
    # Mandarin is written without spaces: the part after a space is the label.
    return rest.strip() if last in EMOTIONS or (lang == "zh" and rest) else text


def read(folder: Path, languages: tuple[str, ...]) -> list[Recording]:
    recordings = []
    for speaker in sorted(p for p in folder.glob("[0-9]" * 4) if p.is_dir()):
        lang = "zh" if int(speaker.name) <= 10 else "en"
        if lang not in languages:
            continue
        texts = transcripts(speaker / f"{speaker.name}.txt", lang)
        for emotion in EMOTIONS:
            recordings += [
                Recording(utt=wav.stem, wav=str(wav), text=texts.get(wav.stem, ""), lang=lang,
                          speaker=speaker.name, emotion=emotion.lower())
                for wav in sorted((speaker / emotion).rglob("*.wav"))]
    return recordings


def set_of(recording: Recording) -> str:
    """The published set: by folder, or by the number of the sentence."""
    folder = Path(recording.wav).parent.name
    if folder in EMOTIONS:
        sentence = (int(recording.utt.rpartition("_")[2]) - 1) % SENTENCES
        folder = "evaluation" if sentence < 20 else "test" if sentence < 50 else "train"
    return {"evaluation": "dev", "test": f"test_{recording.lang}"}.get(folder, "train")


def prepare(job: Job) -> None:
    languages = job.config.languages
    folder = job.corpus("Emotion Speech Dataset", [], HOW_TO_GET)
    recordings = read(folder, languages)
    sets = {r.utt: set_of(r) for r in recordings}  # before audio of another rate is moved
    speakers = SPEAKERS_OF_A_LANGUAGE * len(languages)
    size = Published(speakers * len(EMOTIONS) * SENTENCES, speakers=speakers,
                     about_hours=HOURS if len(languages) == 2 else None)
    good = job.usable({"ESD": recordings}, {"ESD": size})["ESD"]
    names = ("train", "dev", *(f"test_{lang}" for lang in languages))
    chosen = {name: [r for r in good if sets[r.utt] == name] for name in names}
    chosen["dev"] = job.shuffled(chosen["dev"])[:job.config.dev_utts]
    for name in names[2:]:
        chosen[name] = job.shuffled(chosen[name])[:job.config.test_utts]
    job.write(chosen, CREDIT)


if __name__ == "__main__":
    sys.exit(run(__doc__, ESD, prepare))
