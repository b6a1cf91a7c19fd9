"""Prepare data/<set> of egs/mini: recordings, synthetic speech, split, validation.

    python local/prepare_data.py [--config conf/default.yaml] [corpus_data.KEY=VALUE ...]

Run in the recipe folder. A second run reuses existing files. See SOURCES.md.
"""

import collections
import hashlib
import json
import sys
import time
from pathlib import Path

import engines
import festvox
import held_out
import synthetic
from asterisk import HERE, Prompt, attribution, prepare_prompts, words_of
from fetch import REPO, run_fetch_deb
from sentences import PACKAGES, voice_texts
from settings import SAMPLE_RATE_HZ, MiniData
from split import hold_out, split

from e2etts.config import fingerprint
from e2etts.data.corpus import Job, run
from e2etts.data.datadir import DataDir, read_table
from e2etts.data.validate import Limits, clean_directory
from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.text import normalise

# Its program makes the phonemes of all texts, whether or not it also speaks.
PHONEMES = "espeak-en"
DEB = "data/download/deb"


def prepare(job: Job) -> None:
    """Recordings and synthetic speech are always in data/: all configurations share them, whatever
    the folder of their sets."""
    config, data, root = job.config, job.data, Path.cwd()
    if job.corpus_dir is not None:
        raise UserError(f"--corpus_dir {job.corpus_dir}: not supported here: put existing "
                        "archives into data/download")
    if (done := Done(root, data, config)).unchanged():
        print(f"{done.table()}\ndata: nothing has changed since {data} was made; remove "
              f"{done.path} to check it anew", flush=True)
        return
    clock = Clock()
    engines.fetch([PHONEMES, *voices_of(config)])
    clock.lap("programs")
    prompts, left_out = prepare_prompts(root, config)
    sentences = read_sentences(HERE / "sentences.txt", config)
    clock.lap("recordings")
    sets = split(prompts, sentences, config)
    barred = {p.key for name, chosen in sets.items() if name != "train" for p in chosen}
    barred |= {words_of(normalise(text, lang)) for lang, text in sentences}
    apart = unused(prompts, sets)
    every, unseen, failed = synthesise(sets["train"] + apart, barred, root, config)
    clock.lap("synthetic speech")
    recorded, faulty = festvox.fetch_recordings(root / DEB, barred, root, config)
    spoken = hold_out(every + recorded, sets["train"], config)
    spoken |= {held_out.ZERO_SHOT: unseen} if unseen else {}
    sets |= {name: [] for name in spoken if name not in sets}
    left_out += failed + faulty + [(p.lang, p.utt, "its voice is held out") for p in apart]
    clock.lap("more recordings")
    write_sets(data, sets, sentences, spoken, config.seed)
    write_left_out(data / "left_out.tsv", left_out)
    if data != Path("data"):  # the credits stand beside the wavs, and with every set of tables
        write_text(data / "ATTRIBUTION", attribution(config))
        if recorded:
            write_text(data / f"ATTRIBUTION.{festvox.PACKAGE}", festvox.CREDIT)
    limits = Limits(sample_rate_hz=SAMPLE_RATE_HZ)
    for name in sets:
        clean_directory(data / name, limits, config.policy)
    clock.lap("sets and validation")
    table = set_table(data, sets, spoken)
    print(f"{table}\n{clock.line()}", flush=True)
    done.write(table)


class Done:
    """``done.json``: hashes of inputs and outputs, so that a second run quickly detects that
    nothing has changed."""

    def __init__(self, root: Path, data: Path, config: MiniData) -> None:
        self.root, self.data, self.path = root, data, data / "done.json"
        sources = [*HERE.glob("*.*"), *(p for folder in ("e2etts", "e2etts/data", "e2etts/text")
                                        for p in (REPO / folder).glob("*.py"))]
        self.inputs = fingerprint({"config": fingerprint(config), "sources": {
            str(p.relative_to(REPO)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sources}})

    def unchanged(self) -> bool:
        """Whether configuration, scripts and all files of the sets are unchanged."""
        try:
            kept = json.loads(self.path.read_text())
            return kept["inputs"] == self.inputs and kept["outputs"] == self.outputs()
        except (OSError, ValueError, KeyError):
            return False

    def outputs(self) -> str:
        """Hash of all tables and of the sizes of their wavs."""
        total = hashlib.sha256()
        for path in sorted(self.data.glob("*/*")):
            if path.parent.name in ("wav", "download") or not path.is_file():
                continue
            total.update(path.as_posix().encode() + path.read_bytes())
            if path.name == "wav.scp":
                for wav in read_table(path).values():
                    total.update(str((self.root / wav).stat().st_size).encode())
        return total.hexdigest()

    def table(self) -> str:
        return json.loads(self.path.read_text())["table"]

    def write(self, table: str) -> None:
        write_text(self.path, json.dumps({"inputs": self.inputs, "outputs": self.outputs(),
                                          "table": table}))


class Clock:
    """Duration of each step, for the last line of the output."""

    def __init__(self) -> None:
        self.laps: list[tuple[str, float]] = []
        self.last = time.time()

    def lap(self, name: str) -> None:
        now = time.time()
        self.laps.append((name, now - self.last))
        self.last = now

    def line(self) -> str:
        return "data: seconds: " + ", ".join(f"{n} {s:.0f}" for n, s in self.laps)


def voices_of(config: MiniData) -> list[str]:
    """Voices of the recipe's languages that speak: those with hours, and those held out."""
    wanted = [voice for voice, hours in config.hours.items()
              if engines.voice_language(voice) in config.languages and hours > 0]
    return wanted + [v for v in held_out.counts(config) if not v.startswith("asterisk")]


def read_sentences(path: Path, config: MiniData) -> list[tuple[str, str]]:
    """(language, text) of local/sentences.txt, in order."""
    out = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        lang, bar, text = line.partition("|")
        if not bar or not text.strip():
            raise UserError(f"{path}:{number}: expected 'language|text'")
        normalise(text, lang)
        if lang in config.languages:
            out.append((lang, text.strip()))
    return out


def unused(prompts: list[Prompt], sets: dict[str, list[Prompt]]) -> list[Prompt]:
    """Prompts that are in no set: of voices that are held out. Only their texts are used."""
    used = {p.utt for chosen in sets.values() for p in chosen}
    return [p for p in prompts if p.utt not in used]


def synthesise(prompts: list[Prompt], barred: set[str], root: Path, config: MiniData
               ) -> tuple[list[synthetic.Spoken], list[synthetic.Spoken], list[tuple]]:
    """Synthesise texts for every voice with hours, some of them texts of ``prompts``, and for every
    voice that is held out. Returns the speech of both, and failures."""
    held, held_texts = held_out.counts(config), {}
    for voice, count in held.items():
        if not voice.startswith("asterisk"):
            of_lang = held_texts.setdefault(engines.voice_language(voice), {})
            of_lang[voice] = held_out.texts_needed(count)
    amounts: dict[str, dict[str, int]] = {}
    for voice in voices_of(config):
        if voice not in held:
            of_lang = amounts.setdefault(engines.voice_language(voice), {})
            of_lang[voice] = synthetic.texts_needed(config.hours[voice])
    deb = root / DEB
    languages = list(dict.fromkeys([*amounts, *held_texts]))
    packages = [p for lang in languages for p in PACKAGES[lang]]
    if packages:
        run_fetch_deb(deb, packages)
    texts = {}
    for lang in languages:
        texts |= voice_texts(lang, amounts.get(lang, {}), prompts, barred, deb, config,
                             held_texts.get(lang))
    unseen, failed = held_out.speak({v: t for v, t in texts.items() if v in held}, held, root,
                                    config)
    spoken, more = synthetic.speak_all({v: t for v, t in texts.items() if v not in held},
                                       config.hours, root, config)
    return spoken, unseen, [(engines.voice_language(v), t, reason)
                            for v, t, reason in failed + more]


def write_sets(data: Path, sets: dict[str, list[Prompt]], sentences: list[tuple[str, str]],
               spoken: dict[str, list[synthetic.Spoken]], seed: int) -> None:
    for name, chosen in sets.items():
        made = DataDir(text={p.utt: p.text for p in chosen},
                       utt2lang={p.utt: p.lang for p in chosen},
                       utt2spk={p.utt: f"asterisk-{p.lang}" for p in chosen},
                       wav={p.utt: p.wav for p in chosen})
        some = spoken.get(name, [])
        made.text |= {s.utt: s.text for s in some}
        made.utt2lang |= {s.utt: s.lang for s in some}
        made.utt2spk |= {s.utt: s.voice for s in some}
        made.utt2emo |= {s.utt: s.style for s in some if s.style}
        made.wav |= {s.utt: s.wav for s in some}
        if name == held_out.ZERO_SHOT:
            made.utt2prompt = held_out.prompts(made.utt2spk, seed)
        made.save(data / name)
    for lang in dict.fromkeys(lang for lang, _ in sentences):
        texts = [text for other, text in sentences if other == lang]
        utts = [f"sentence-{lang}-{i:02d}" for i in range(1, len(texts) + 1)]
        DataDir(text=dict(zip(utts, texts, strict=True)), utt2lang=dict.fromkeys(utts, lang),
                utt2spk=dict.fromkeys(utts, f"asterisk-{lang}")).save(data / f"sentences_{lang}")


def write_left_out(path: Path, left_out: list[tuple]) -> None:
    rows = sorted("\t".join(" ".join(str(c).split()) for c in row) for row in left_out)
    write_text(path, "language\tname\treason\n" + "".join(f"{row}\n" for row in rows))
    counts = collections.Counter(kind_of(row[2]) for row in left_out)
    print(f"data: {len(left_out)} left out, listed in {path}:")
    for reason, count in counts.most_common():
        print(f"  {count:5d}  {reason}")


def kind_of(reason: str) -> str:
    """Kind of a reason, without details, for counting."""
    if "characters per second" in reason:
        return "characters per second: text and audio do not match"
    return "same audio as another" if reason.startswith("same audio") else reason


def set_table(data: Path, sets: dict[str, list[Prompt]],
              spoken: dict[str, list[synthetic.Spoken]]) -> str:
    """Utterances, hours and speakers of every set after validation."""
    seconds = {p.utt: p.seconds for chosen in sets.values() for p in chosen}
    seconds |= {s.utt: s.seconds for some in spoken.values() for s in some}
    rows = [f"{'set':14}{'utterances':>11}{'hours':>8}  speakers"]
    for name in sets:
        made = DataDir.load(data / name, need_wav=True)
        by_speaker: dict[str, float] = collections.Counter()
        for utt in made.utts:
            by_speaker[made.utt2spk[utt]] += seconds[utt] / 3600
        names = ", ".join(f"{s} {h:.2f} h" for s, h in sorted(by_speaker.items()))
        rows.append(f"{name:14}{len(made):11d}{sum(by_speaker.values()):8.2f}  {names}")
    for folder in sorted(data.glob("sentences_*")):
        rows.append(f"{folder.name:14}{len(DataDir.load(folder)):11d}{'':8}  text only")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(run(__doc__, MiniData, prepare))
