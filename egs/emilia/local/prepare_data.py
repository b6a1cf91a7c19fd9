"""Make data/<set> of Emilia: train, dev, test_<language>, enrol.

Layout, as huggingface.co/datasets/amphion/Emilia-Dataset keeps it:
    {Emilia,Emilia-YODAS}/EN/EN-B000000.tar ...    for each clip KEY.mp3 (24 kHz) and KEY.json
The JSON has text, speaker, language, duration and dnsmos (quality, 3 and more as published), and
the key as ``id`` or, in Emilia-YODAS, ``_id``. Texts begin with a space. A speaker is one voice in
one recording: two of them may be the same person. Archives are read as streams; names inside
them are never used as paths, and each archive is decoded once.
Known errors: texts are ASR transcripts, with occasional repetition loops or another script; some
speakers are synthetic voices or mix languages (bad_speakers.txt, from F5-TTS).
"""

import io
import json
import re
import sys
import unicodedata
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import soundfile
import torch
import torchaudio
from tqdm import tqdm

from e2etts.data.corpus import CorpusData, Job, Recording, by_speaker, run
from e2etts.data.download import entries
from e2etts.data.workers import in_order
from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.seeds import mix

CREDIT = "Emilia by Haorui He and others (arXiv 2407.05361), CC BY-NC 4.0"
HOW_TO_GET = ("Emilia requires accepting its terms at huggingface.co/datasets/amphion/"
              "Emilia-Dataset: download the parts you need with 'hf download "
              "--repo-type dataset amphion/Emilia-Dataset --include \"Emilia/EN/*\"'")
# Hours of arXiv 2407.05361, table 2.
PUBLISHED_HOURS = {"en": 46828, "zh": 49922, "de": 1590, "fr": 1381, "ja": 1715, "ko": 217}
_KEY = re.compile(r"[A-Z]{2}_[A-Za-z0-9_-]+")
_SCRIPTS = {"zh": ("CJK", "LATIN"), "ja": ("CJK", "HIRAGANA", "KATAKANA", "LATIN"),
            "ko": ("HANGUL", "CJK", "LATIN")}
_LOOP = re.compile(r"(\S.{2,30}?)\1{5,}")
BAD_SPEAKERS = {line for line in Path(__file__).with_name("bad_speakers.txt").read_text(
    "utf-8").splitlines() if not line.startswith("#")}


@dataclass(frozen=True, kw_only=True)
class Emilia(CorpusData):
    """languages; corpora: folders to read; dnsmos: minimum DNSMOS; shards: number of archives of
    each language and corpus, None for all; held_out_speakers: share of speakers held out for dev
    and test."""

    languages: tuple[str, ...] = ("en", "zh")
    corpora: tuple[str, ...] = ("Emilia", "Emilia-YODAS")
    dnsmos: float = 3.0
    shards: int | None = None
    held_out_speakers: float = 0.002


def shards(root: Path, config: Emilia) -> list[Path]:
    """The archives to read. Raises UserError for a language without any."""
    found = []
    for lang in config.languages:
        mine = [path for corpus in config.corpora
                for path in sorted((root / corpus / lang.upper()).glob("*.tar"))[:config.shards]]
        if not mine:
            raise UserError(f"{root}: no archives {config.corpora[0]}/{lang.upper()}/*.tar below "
                            "it: correct --corpus_dir or corpus_data.languages")
        found += mine
    return found


def read_shard(path: Path, folder: Path, sample_rate_hz: int,
               dnsmos: float) -> tuple[list[Recording], list[tuple[str, str]]]:
    """Decoded recordings of one archive, and (clip, reason) of excluded ones.

    Both are listed beside the audio of a finished archive, which is then not read again.
    """
    corpus, lang = path.parts[-3], path.parent.name.lower()
    target = folder / corpus / lang / path.stem
    done = target / f"clips-{dnsmos:g}.json"
    if done.is_file():
        kept = json.loads(done.read_text("utf-8"))
        return [Recording(**r) for r in kept["recordings"]], list(map(tuple, kept["left_out"]))
    target.mkdir(parents=True, exist_ok=True)
    halves: dict[str, dict] = {}
    recordings, left_out = [], []
    for name, content in entries(path):
        clip = halves.setdefault(name.stem, {})
        clip[name.suffix] = content
        if clip.keys() >= {".json", ".mp3"}:
            del halves[name.stem]
            made = _clip(name, clip, lang, target, sample_rate_hz, dnsmos)
            if isinstance(made, str):
                left_out.append((name.stem, made))
            else:
                recordings.append(made)
    left_out += [(key, f"{', '.join(have)} without the other half") for key, have in halves.items()]
    write_text(done, json.dumps({"recordings": [asdict(r) for r in recordings],
                                 "left_out": left_out}, ensure_ascii=False))
    return recordings, left_out


def _clip(name: PurePosixPath, clip: dict[str, bytes], lang: str, target: Path,
          sample_rate_hz: int, dnsmos: float) -> Recording | str:
    """A recording with its audio written, or the reason for its exclusion."""
    key = name.stem
    try:
        about = json.loads(clip[".json"])
        text, speaker, score = about["text"].strip(), about["speaker"], about["dnsmos"]
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        return f"sidecar: {type(e).__name__}: {e}"
    if not _KEY.fullmatch(key) or about.get("id", about.get("_id")) != key:
        return "key differs from the sidecar's id"
    if about.get("language") != lang:
        return f"language: {about.get('language')} among {lang}"
    if not isinstance(score, int | float) or score < dnsmos:
        return f"dnsmos below {dnsmos:g}"
    if not _KEY.fullmatch(str(speaker)):
        return "speaker: not of the published form"
    if speaker in BAD_SPEAKERS:
        return "speaker: listed in local/bad_speakers.txt"
    if reason := _misheard(text, lang):
        return reason
    path = target / f"{key}.flac"
    try:
        if not path.exists():
            _decode(clip[".mp3"], path, sample_rate_hz)
    except (soundfile.SoundFileError, ValueError) as e:
        return f"unreadable audio: {e}"
    return Recording(utt=key, wav=str(path), text=text, speaker=speaker, lang=lang)


def _misheard(text: str, lang: str) -> str:
    """Evidence of a wrong ASR transcript; empty if there is none."""
    scripts = _SCRIPTS.get(lang, ("LATIN",))
    letters = [c for c in unicodedata.normalize("NFKC", text)
               if unicodedata.category(c) in ("Lu", "Ll", "Lo")]
    foreign = [c for c in letters if not unicodedata.name(c, "").startswith(scripts)]
    if foreign:
        return f"text: '{foreign[0]}' is of another script"
    return f"text: repeats '{loop[1].strip()}'" if (loop := _LOOP.search(text)) else ""


def _decode(mp3: bytes, path: Path, sample_rate_hz: int) -> None:
    """Write mono FLAC at the sample rate of the recipe."""
    wav, rate = soundfile.read(io.BytesIO(mp3), dtype="float32", always_2d=True)
    mono = torchaudio.functional.resample(torch.from_numpy(wav.mean(axis=1)), rate, sample_rate_hz)
    part = path.with_name(path.name + ".part")
    soundfile.write(part, mono.clamp(-1, 1).numpy(), sample_rate_hz, "PCM_16", format="FLAC")
    part.replace(path)


def prepare(job: Job) -> None:
    config = job.config
    if unknown := [lang for lang in config.languages if lang not in PUBLISHED_HOURS]:
        raise UserError(f"corpus_data.languages: '{unknown[0]}'; there are "
                        f"{', '.join(PUBLISHED_HOURS)}")
    archives = shards(job.corpus("", [], HOW_TO_GET), config)
    work = partial(read_shard, folder=job.wav_folder, dnsmos=config.dnsmos,
                   sample_rate_hz=job.audio.sample_rate_hz)
    parts = {lang: [] for lang in config.languages}
    for recordings, left_out in tqdm(in_order(work, archives, config.workers, chunk=1),
                                     total=len(archives), desc="archives"):
        for recording in recordings:
            parts[recording.lang].append(recording)
        job.left_out += left_out
    print("published hours of Emilia: " + ", ".join(
        f"{lang} {PUBLISHED_HOURS[lang]}" for lang in config.languages) + "; here:")
    write_split(job, job.usable(parts, {}))


def write_split(job: Job, parts: dict[str, list[Recording]]) -> None:
    """Held-out speakers depend on seed and name only; dev and test speakers are disjoint."""
    config = job.config
    sets = {"train": [], "dev": [], "enrol": []}
    for lang, recordings in parts.items():
        pools = {"dev": [], "test": [], "train": []}
        for speaker, mine in by_speaker(recordings).items():
            place = mix(config.seed, "speaker", speaker) / 2 ** 63 / config.held_out_speakers
            pools["train" if place >= 1 else "dev" if place < 0.5 else "test"] += mine
        sets["train"] += pools["train"]
        sets["dev"] += job.shuffled(pools["dev"])[:config.dev_utts]
        sets[f"test_{lang}"], enrol = job.hold_out(pools["test"], config.test_utts, set())
        sets["enrol"] += enrol
    job.write(sets, CREDIT)


if __name__ == "__main__":
    sys.exit(run(__doc__, Emilia, prepare))
