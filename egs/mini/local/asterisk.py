"""The Asterisk core prompts: download, verify, decode, exclude what is not plain speech."""

import gzip
import hashlib
import io
import re
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
from fetch import VERSION, fetch_all
from settings import SAMPLE_RATE_HZ, MiniData
from tqdm import tqdm

from e2etts.data.recordings import write_wav
from e2etts.errors import UserError
from e2etts.files import write_text
from e2etts.text import normalise

HERE = Path(__file__).resolve().parent
SILENCE_PEAK = 24  # -62 dB of full scale
CREDITS = {
    "en": "Allison Smith (theivrvoice.com), CC BY-SA 3.0",
    "es": "Allison Smith (theivrvoice.com), CC BY-SA 3.0",
    "fr": "June Wallack (junewallack.com); translated by Clod Patry, Kristopher Lalletti, "
          "June Wallack, CC BY-SA 3.0",
    "it": "Carlo Flora (carloflora.com); translated by Silvia Petrin, CC BY 3.0",
    "ru": "Maxim Topal (ivrvoice.ru), CC BY 3.0",
}
ATTRIBUTION = (
    "Recordings: Asterisk core sounds {version} (https://downloads.asterisk.org/pub/telephony/"
    "sounds/), with funding by Digium and others.\n{voices}\nChanges: decoded from G.722 to 16-bit "
    "PCM at 16 kHz, silence at the edges cut to {silence} s.\nLicences: "
    "https://creativecommons.org/licenses/by-sa/3.0/ and "
    "https://creativecommons.org/licenses/by/3.0/\n")


@dataclass(frozen=True)
class Prompt:
    """One usable recording. ``wav`` is relative to the recipe folder."""

    utt: str
    lang: str
    wav: str
    text: str
    key: str
    seconds: float


def read_transcript(path: Path) -> tuple[dict[str, str], str]:
    """({name: text}, SHA-256 of the unpacked file). The lines are ``name: text``; ``;`` comments.

    A name given twice keeps its first text.
    """
    raw = path.read_bytes()
    raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    texts: dict[str, str] = {}
    for line in io.StringIO(raw.decode("utf-8-sig")):
        name, colon, text = line.strip().partition(":")
        if colon and not line.lstrip("\ufeff").startswith(";"):
            texts.setdefault(name.strip(), text.strip())
    return texts, hashlib.sha256(raw).hexdigest()


def check(lang: str, sounds: Path, transcript_sha: str, checksums: Path) -> dict[str, str]:
    """{name: SHA-256} of the audio; verifies one checksum over all files."""
    shas = {p.relative_to(sounds).with_suffix("").as_posix():
            hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(sounds.rglob("*.g722"))}
    total = hashlib.sha256()
    for name in sorted(shas):
        total.update(f"{shas[name]}  {name}\n".encode())
    for line in checksums.read_text().splitlines():
        kind, expected = line.split()
        got = {f"{lang}.audio": total.hexdigest(), f"{lang}.text": transcript_sha}.get(kind)
        if got is not None and got != expected:
            raise UserError(f"{sounds}: checksum of {kind} is {got}, expected {expected} "
                            f"({checksums.name}); remove data/download and run again")
    return shas


def decode(source: Path) -> np.ndarray:
    """int16 samples of a raw G.722 file (64 kbit/s, 16 kHz)."""
    with av.open(str(source), format="g722") as container:
        frames = [f.to_ndarray().reshape(-1) for f in container.decode(audio=0)]
    return np.concatenate(frames) if frames else np.zeros(0, np.int16)


def cut_edges(wav: np.ndarray, keep_seconds: float) -> np.ndarray:
    """Leave at most ``keep_seconds`` of digital silence at either end of int16 samples."""
    loud = np.flatnonzero(np.abs(wav.astype(np.int32)) > SILENCE_PEAK)
    if not len(loud):
        return wav[:0]
    keep = round(keep_seconds * SAMPLE_RATE_HZ)
    return wav[max(0, loud[0] - keep): loud[-1] + 1 + keep]


def _decode_one(job: tuple[Path, Path, float]) -> str:
    source, target, keep_seconds = job
    try:
        wav = cut_edges(decode(source), keep_seconds)
    except (av.FFmpegError, ValueError) as e:
        return f"not decodable: {e}"
    if not len(wav):
        return "silence"
    write_wav(target, wav, SAMPLE_RATE_HZ)
    return ""


def prepare_prompts(root: Path, config: MiniData) -> tuple[list[Prompt], list[tuple]]:
    """Download, verify and decode; returns prompts and (language, name, reason) of others."""
    candidates, left_out, jobs = [], [], []
    for lang, (sounds, transcript) in fetch_all(root / "data/download", config).items():
        texts, transcript_sha = read_transcript(transcript)
        shas = check(lang, sounds, transcript_sha, HERE / "checksums.txt")
        good, bad = select(lang, texts, shas)
        good = sorted(good, key=lambda g: order(config.seed, *g))[:config.prompts_per_language]
        candidates += good
        left_out += bad
        jobs += [(sounds / f"{name}.g722", root / wav_path(lang, name),
                  config.edge_silence_seconds) for _, name, _ in good]
    reasons = dict(zip((str(j[1]) for j in jobs), decode_all(jobs, config.workers), strict=True))
    prompts = []
    for lang, name, text in candidates:
        target = root / wav_path(lang, name)
        reason = reasons[str(target)]
        spoken = normalise(text, lang)
        seconds = 0.0 if reason else soundfile.info(str(target)).duration
        reason = reason or judge(target, spoken, seconds, config)
        if reason:
            left_out.append((lang, name, reason))
            continue
        prompts.append(Prompt(utt_id(lang, name), lang, wav_path(lang, name), text,
                              words_of(spoken), seconds))
    credit = attribution(config)
    write_text(root / "data/wav/asterisk/ATTRIBUTION", credit)
    print(credit, flush=True)
    return prompts, left_out


def order(seed: int, *text: str) -> str:
    """Sort key of a random order that depends only on seed and text."""
    return hashlib.sha256(" ".join((str(seed), *text)).encode()).hexdigest()


def wav_path(lang: str, name: str) -> str:
    return f"data/wav/asterisk/{lang}/{name}.wav"


def utt_id(lang: str, name: str) -> str:
    return f"asterisk-{lang}-" + re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


def words_of(spoken: str) -> str:
    """Normalised text without punctuation: the key for comparing texts."""
    return " ".join(re.sub(r"[.,?!]", " ", spoken).split())


def attribution(config: MiniData) -> str:
    voices = "\n".join(f"  {lang}: {CREDITS[lang]}" for lang in config.languages)
    return ATTRIBUTION.format(version=VERSION, voices=voices, silence=config.edge_silence_seconds)


def select(lang: str, texts: dict[str, str], shas: dict[str, str]) -> tuple[list, list]:
    """Split the names into (language, name, text) to use and (language, name, reason)."""
    good, bad, seen, spelling = [], [], {}, read_spelling(HERE / "spelling.tsv", lang)
    folded = {name.casefold(): text for name, text in texts.items()}
    for name in sorted(shas):
        text = respell(texts.get(name) or folded.get(name.casefold(), ""), spelling)
        reason = text_reason(name, text, lang)
        if not reason and shas[name] in seen:
            reason = f"same audio as {seen[shas[name]]}"
        if reason:
            bad.append((lang, name, reason))
        else:
            seen[shas[name]] = name
            good.append((lang, name, text))
    spoken = {name.casefold() for name in shas}
    bad += [(lang, name, "transcript without audio") for name in sorted(texts)
            if name.casefold() not in spoken]
    return good, bad


def read_spelling(path: Path, lang: str) -> dict[str, str]:
    """{wrong: right} spelling of words in the transcripts of ``lang``, mostly missing accents."""
    rows = (line.split("\t") for line in path.read_text(encoding="utf-8").splitlines())
    return {wrong: right for other, wrong, right in rows if other == lang}


def respell(text: str, spelling: dict[str, str]) -> str:
    """``text`` with corrected words; capital letters are kept."""
    def right(match: re.Match) -> str:
        word = spelling.get(match[0].lower(), match[0])
        return word[0].upper() + word[1:] if match[0][0].isupper() else word

    return re.sub(r"[^\W\d_]+", right, text)


def text_reason(name: str, text: str, lang: str) -> str:
    """Reason to exclude a prompt by its text; empty if it is usable."""
    if name.startswith("silence/"):
        return "silence"
    if not text:
        return "no transcript"
    if re.search(r"[\[\]()]", text):
        return "brackets in the transcript: not, or not only, speech"
    alphabet = "а-яё" if lang == "ru" else "a-zà-öø-ÿœ"
    if not re.search(f"[{alphabet}0-9]", text.lower()):
        return "no letters of the language"
    try:
        normalise(text, lang)
    except UserError as e:
        return str(e)
    return ""


def judge(path: Path, spoken: str, seconds: float, config: MiniData) -> str:
    """Reason to exclude a decoded prompt; empty if it is usable."""
    wav, _ = soundfile.read(str(path), dtype="float32")
    if float(np.sqrt(np.mean(wav ** 2))) < 1e-3:
        return "nearly silent"
    if seconds > config.longest_seconds:
        return f"longer than {config.longest_seconds:g} s"
    rate = len(spoken) / seconds
    low, high = config.characters_per_second
    if not low <= rate <= high:
        return f"{rate:.1f} characters per second: text and audio do not match"
    return ""


def decode_all(jobs: list[tuple[Path, Path, float]], workers: int) -> list[str]:
    """Decode missing files; returns a reason for each failed job."""
    reasons = [""] * len(jobs)
    todo = [i for i, job in enumerate(jobs) if not job[1].exists()]
    if not todo:
        return reasons
    started = time.time()
    with ProcessPoolExecutor(workers) as pool:
        answers = pool.map(_decode_one, [jobs[i] for i in todo], chunksize=16)
        for i, reason in zip(todo, tqdm(answers, total=len(todo), desc="decode G.722"),
                             strict=True):
            reasons[i] = reason
    print(f"data: decoded {len(todo)} prompts in {time.time() - started:.0f} s", flush=True)
    return reasons
