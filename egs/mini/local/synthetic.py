"""Synthetic speech with flite and espeak-ng: seeded, parallel, resumable."""

import hashlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
import soundfile
import torch
import torchaudio
from settings import SAMPLE_RATE_HZ, MiniData
from tqdm import tqdm

from e2etts.data.recordings import write_wav
from e2etts.errors import UserError
from e2etts.programs import Program, find_program

# LANG, and LANG-VARIANT for another timbre: espeak-ng speaks all languages in one voice.
ESPEAK = {"en": "en-us", "es": "es-419", "fr": "fr", "it": "it", "ru": "ru",
          "en-f3": "en-us+f3"}
FLITE = ("slt", "rms", "awb", "kal16")
# Options of the programs for each style. Rates and pitches were chosen to be clearly audible:
# 1.4 times faster or slower, three to five semitones up or down.
FLITE_STYLES = {
    "neutral": (), "fast": ("--setf", "duration_stretch=0.7"),
    "slow": ("--setf", "duration_stretch=1.4"), "high": ("--setf", "f0_shift=1.3"),
    "low": ("--setf", "f0_shift=0.75"), "flat": ("--setf", "int_f0_target_stddev=1")}
ESPEAK_STYLES = {
    "neutral": (), "fast": ("-s", "240"), "slow": ("-s", "120"), "high": ("-p", "85"),
    "low": ("-p", "15"), "flat": ("-m",), "whisper": ()}
# The pitch of these is fixed by their recordings, or only partly adjustable.
FLITE_LACKS = {"rms": ("high", "low", "flat"), "kal16": ("flat",)}
# Shortest mean sentence duration of any voice, to prepare enough texts for the hours.
LEAST_SECONDS_A_TEXT = 1.9

PROGRESS = "{desc} {percentage:3.0f}% {n:.0f}/{total_fmt} s of speech [{elapsed}<{remaining}]"


@dataclass(frozen=True)
class Spoken:
    """One synthetic utterance. ``wav`` is relative to the recipe folder; ``style`` is empty for
    speech without a label."""

    utt: str
    lang: str
    voice: str
    style: str
    wav: str
    text: str
    seconds: float


def voice_language(voice: str, key: str = "") -> str:
    """Language of ``flite-NAME`` or ``espeak-LANG``, alone or followed by ``+STYLE``.

    Raises UserError for an unknown voice, or a style that it does not have; key: that names it."""
    key = key or f"corpus_data.hours.{voice}"
    base, _, style = voice.partition("+")
    kind, _, name = base.partition("-")
    if not (kind == "flite" and name in FLITE or kind == "espeak" and name in ESPEAK):
        raise UserError(f"{key}: no such voice; known: "
                        f"{', '.join('flite-' + v for v in FLITE)}, "
                        f"{', '.join('espeak-' + v for v in ESPEAK)}")
    if "+" in voice and style not in styles_of(base):
        raise UserError(f"{key}: {base} has no such style; it has: "
                        f"{', '.join(styles_of(base))}")
    return "en" if kind == "flite" else name.partition("-")[0]


def program_of(voice: str) -> str:
    return "flite" if voice.startswith("flite") else "espeak-ng"


def styles_of(voice: str) -> list[str]:
    """Styles that a voice supports."""
    kind, _, name = voice.partition("-")
    if kind == "espeak":
        return [s for s in ESPEAK_STYLES if "-" not in name or s != "whisper"]
    return [s for s in FLITE_STYLES if s not in FLITE_LACKS.get(name, ())]


def texts_needed(hours: float) -> int:
    """Number of texts that is sufficient for ``hours``."""
    return 0 if hours <= 0 else int(hours * 3600 / LEAST_SECONDS_A_TEXT) + 8


def speak_all(texts: dict[str, list[str]], hours: dict[str, float], root: Path,
              config: MiniData) -> tuple[list[Spoken], list[tuple]]:
    """Synthesise texts in order until each voice has its hours.

    The cut depends only on durations, so that interrupted runs and other numbers of workers give
    the same set. Returns the utterances and (voice, text, reason) of failures.
    """
    programs = {name: find_program(name) for name in
                sorted({program_of(v) for v in texts})}
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
                    speaker, _, style = voice.partition("+")
                    spoken.append(Spoken(utt, voice_language(voice), speaker, style, path, text,
                                         seconds))
            if have < hours[voice] * 3600 * 0.95:
                print(f"data: {voice}: {have / 3600:.2f} h instead of {hours[voice]:.2f} h: its "
                      "texts are used up", flush=True)
    return spoken, failed


def speak(text: str, voice: str, root: Path,
          programs: dict[str, Program]) -> tuple[str, str, float, str]:
    """(utterance id, wav path, seconds, reason of failure) of one text; keeps existing files."""
    name = hashlib.sha256(text.encode()).hexdigest()[:12]
    folder = voice.replace("+", "-")
    utt, path = f"{folder}-{name}", f"data/wav/synthetic/{folder}/{name}.wav"
    target = root / path
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        raw = target.with_suffix(".spoken.wav")
        try:
            _run(text, voice, raw, programs)
            if shutil.disk_usage(target.parent).free < 1 << 20:  # flite reports no error
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
                  .astype(np.int16), SAMPLE_RATE_HZ)
    return utt, path, soundfile.info(str(target)).duration, ""


def _run(text: str, voice: str, target: Path, programs: dict[str, Program]) -> None:
    program = programs[program_of(voice)]
    command = [program.path, *_arguments(text, voice, target)]
    done = subprocess.run(command, capture_output=True, env=program.env, check=False)
    if done.returncode:
        message = " ".join(done.stderr.decode(errors="replace").split())[:200]
        raise UserError(f"{program.path}: fails with status {done.returncode} on '{text[:40]}': "
                        f"{message or 'no message (disk full?)'}")


def _arguments(text: str, voice: str, target: Path) -> list[str]:
    base, _, style = voice.partition("+")
    kind, _, name = base.partition("-")
    style = style or "neutral"
    if kind == "flite":
        return ["-voice", name, *FLITE_STYLES[style], "-t", text, "-o", str(target)]
    if style == "flat":
        text = f'<prosody range="0%">{escape(text)}</prosody>'
    variant = "+whisper" if style == "whisper" else ""
    return ["-v", ESPEAK[name] + variant, *ESPEAK_STYLES[style], "-w", str(target), "--", text]
