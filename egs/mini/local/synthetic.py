"""Synthetic speech of the voices in engines.py: seeded, parallel, resumable."""

import hashlib
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import engines
import numpy as np
import soundfile
import torch
import torchaudio
from settings import SAMPLE_RATE_HZ, MiniData
from tqdm import tqdm

from e2etts.data.recordings import write_wav
from e2etts.errors import UserError
from e2etts.programs import Program

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


def texts_needed(hours: float) -> int:
    """Number of texts that is sufficient for ``hours``."""
    return 0 if hours <= 0 else int(hours * 3600 / LEAST_SECONDS_A_TEXT) + 8


def speak_all(texts: dict[str, list[str]], hours: dict[str, float], root: Path,
              config: MiniData) -> tuple[list[Spoken], list[tuple]]:
    """Synthesise texts in order until each voice has its hours.

    The cut depends only on durations, so that interrupted runs and other numbers of workers give
    the same set. Returns the utterances and (voice, text, reason) of failures.
    """
    programs = engines.find(texts)
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
                    spoken.append(Spoken(utt, engines.voice_language(voice), speaker, style,
                                         path, text, seconds))
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
        except UnicodeEncodeError as e:
            return utt, path, 0.0, f"{voice} does not know '{e.object[e.start:e.end]}'"
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
    program = programs[engines.speaker_of(voice)]
    call = engines.command(text, voice, target, program)
    done = subprocess.run(call.arguments, input=call.stdin.encode(), capture_output=True,
                          env=program.env | call.env, check=False)
    if done.returncode:
        message = " ".join(done.stderr.decode(errors="replace").split())[-200:]
        raise UserError(f"{program.path}: fails with status {done.returncode} on '{text[:40]}': "
                        f"{message or 'no message (disk full?)'}")
