"""Speak texts with flite and espeak-ng: seeded, in parallel, resumable."""

import hashlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from asterisk import write_wav
from settings import SAMPLE_RATE_HZ, CorpusConfig
from tqdm import tqdm

from e2etts.errors import UserError
from e2etts.programs import Program, find_program

ESPEAK = {"en": "en-us", "es": "es-419", "fr": "fr", "it": "it", "ru": "ru"}
FLITE = ("slt", "rms", "awb", "kal16")
# Shortest mean length of a sentence heard in any voice: enough texts are prepared for the hours.
LEAST_SECONDS_A_TEXT = 1.9

PROGRESS = "{desc} {percentage:3.0f}% {n:.0f}/{total_fmt} s of speech [{elapsed}<{remaining}]"


@dataclass(frozen=True)
class Spoken:
    """One synthetic utterance. ``wav`` is relative to the recipe folder."""

    utt: str
    lang: str
    voice: str
    wav: str
    text: str
    seconds: float


def voice_language(voice: str) -> str:
    """Language of ``flite-NAME`` or ``espeak-LANG``. Raises UserError for an unknown voice."""
    kind, _, name = voice.partition("-")
    if kind == "flite" and name in FLITE:
        return "en"
    if kind == "espeak" and name in ESPEAK:
        return name
    raise UserError(f"corpus_data.hours.{voice}: no such voice; known: "
                    f"{', '.join('flite-' + v for v in FLITE)}, "
                    f"{', '.join('espeak-' + v for v in ESPEAK)}")


def texts_needed(hours: float) -> int:
    """How many texts surely fill ``hours``."""
    return 0 if hours <= 0 else int(hours * 3600 / LEAST_SECONDS_A_TEXT) + 8


def speak_all(texts: dict[str, list[str]], hours: dict[str, float], root: Path,
              config: CorpusConfig) -> tuple[list[Spoken], list[tuple]]:
    """Speak texts in their order until each voice has its hours.

    The cut depends on durations alone, so that a run that was broken off, or that has other
    workers, gives the same set. Returns the utterances and (voice, text, reason) of failures.
    """
    programs = {name: find_program(name) for name in
                sorted({"flite" if v.startswith("flite") else "espeak-ng" for v in texts})}
    spoken: list[Spoken] = []
    failed: list[tuple] = []
    torch.set_num_threads(1)
    total = round(sum(hours[v] for v in texts) * 3600)
    with ThreadPoolExecutor(config.workers) as pool, tqdm(
            total=total, desc="synthesise", bar_format=PROGRESS, mininterval=2.0) as bar:
        for voice, lines in texts.items():
            have, start, chunk = 0.0, 0, 16 * config.workers
            while have < hours[voice] * 3600 and start < len(lines):
                some = lines[start: start + chunk]
                start += chunk
                made = pool.map(lambda t, v=voice: speak(t, v, root, programs), some)
                for text, (utt, path, seconds, reason) in zip(some, made, strict=True):
                    if have >= hours[voice] * 3600:
                        break
                    if reason:
                        failed.append((voice, text, reason))
                        continue
                    have += seconds
                    bar.update(min(seconds, bar.total - bar.n))
                    spoken.append(Spoken(utt, voice_language(voice), voice, path, text, seconds))
            if have < hours[voice] * 3600 * 0.95:
                print(f"data: {voice}: {have / 3600:.2f} h instead of {hours[voice]:.2f} h: its "
                      "texts are used up", flush=True)
    return spoken, failed


def speak(text: str, voice: str, root: Path,
          programs: dict[str, Program]) -> tuple[str, str, float, str]:
    """(utterance id, wav path, seconds, reason of failure) of one text; keeps what exists."""
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    utt, path = f"{voice}-{name}", f"data/wav/synthetic/{voice}/{name}.wav"
    target = root / path
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        raw = target.with_suffix(".spoken.wav")
        try:
            _run(text, voice, raw, programs)
            if shutil.disk_usage(target.parent).free < 1 << 20:  # flite does not tell
                raise UserError(f"{target.parent}: disk full; free some space and run again")
            wav, rate = soundfile.read(str(raw), dtype="float32")
        except soundfile.SoundFileError:
            return utt, path, 0.0, f"{voice} wrote no readable audio"
        finally:
            raw.unlink(missing_ok=True)
        if not len(wav) or float(np.abs(wav).max()) < 0.01:
            return utt, path, 0.0, f"{voice} wrote silence"
        if rate != SAMPLE_RATE_HZ:
            wav = torchaudio.functional.resample(
                torch.from_numpy(wav), rate, SAMPLE_RATE_HZ).numpy()
        write_wav(target, np.round(32767 * wav * min(1.0, 0.98 / float(np.abs(wav).max())))
                  .astype(np.int16))
    return utt, path, soundfile.info(str(target)).duration, ""


def _run(text: str, voice: str, target: Path, programs: dict[str, Program]) -> None:
    kind, _, name = voice.partition("-")
    program = programs["flite" if kind == "flite" else "espeak-ng"]
    command = ([program.path, "-voice", name, "-t", text, "-o", str(target)] if kind == "flite"
               else [program.path, "-v", ESPEAK[name], "-w", str(target), "--", text])
    done = subprocess.run(command, capture_output=True, env=program.env, check=False)
    if done.returncode:
        told = " ".join(done.stderr.decode(errors="replace").split())[:200]
        raise UserError(f"{program.path}: fails with status {done.returncode} on '{text[:40]}': "
                        f"{told or 'no message (disk full?)'}")
