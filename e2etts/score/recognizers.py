"""Who listens: Whisper base where it can be had, else PocketSphinx, which knows English only."""

import contextlib
import os
import shutil
import threading
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from e2etts.errors import UserError
from e2etts.score.config import ScoreConfig
from e2etts.score.measure import JUDGE_RATE_HZ, Measure, content_hash

WHISPER_FILES = ("model.bin", "config.json", "tokenizer.json")
VOCABULARY_FILES = ("vocabulary.txt", "vocabulary.json")
REMEDY = "tools/get_whisper.sh fetches Whisper base, or name a folder: score.recognizer=FOLDER"
HUB_REPOSITORY = "Systran/faster-whisper-base"
HUB_SECONDS = 5.0
LONGEST_WITHOUT_TIMESTAMPS = 29 * JUDGE_RATE_HZ  # Whisper hears 30 s at once

SPHINX_WARNING = (
    "no Whisper model found: PocketSphinx listens instead. Its word error rates are far higher "
    "and NOT comparable with Whisper's, and it knows English only: sets of other languages get "
    f"no WER. {REMEDY}")


def _padded(wav: np.ndarray, seconds: float) -> np.ndarray:
    return np.pad(wav, int(seconds * JUDGE_RATE_HZ))


@dataclass(frozen=True)
class WhisperMeter:
    """What Whisper hears: text of a wav. Greedy fallback is off, so results do not vary.

    folder: CTranslate2 model; identity: hash of its weights.
    """

    folder: str
    identity: str
    source: str
    beam: int = 5
    pad_seconds: float = 0.5
    window_seconds: float = 20.0
    name: str = "wer"

    def describe(self) -> dict[str, str]:
        return {"name": f"Whisper ({Path(self.folder).name}, int8, beam {self.beam}, "
                        f"window {self.window_seconds:g} s)",
                "source": self.source, "model_sha256": self.identity,
                "version": f"faster-whisper {version('faster-whisper')}"}

    def understands(self, lang: str) -> bool:
        return True

    def key(self, lang: str) -> str:
        return (f"whisper {self.identity} {version('faster-whisper')} beam{self.beam} "
                f"window{self.window_seconds} pad{self.pad_seconds} {lang}")

    def open(self) -> Measure:
        from faster_whisper import WhisperModel

        model = WhisperModel(self.folder, device="cpu", compute_type="int8", cpu_threads=1,
                             local_files_only=True)
        frames = round(self.window_seconds * model.frames_per_second)
        tokenizers = cache(partial(tokenizer_of, model))

        def measure(wav: np.ndarray, lang: str) -> str:
            wav = _padded(wav, self.pad_seconds)
            if len(wav) < self.window_seconds * JUDGE_RATE_HZ:
                return hear_short(model, tokenizers(lang), wav, frames, self.beam)
            segments, _ = model.transcribe(
                wav, language=lang, beam_size=self.beam, temperature=0.0,
                condition_on_previous_text=False, no_speech_threshold=None,
                without_timestamps=len(wav) < LONGEST_WITHOUT_TIMESTAMPS)
            return " ".join(s.text.strip() for s in segments)

        return measure


def tokenizer_of(model: Any, lang: str) -> Any:
    """Tokenizer of a faster-whisper model for transcribing ``lang``."""
    from faster_whisper.tokenizer import Tokenizer

    return Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task="transcribe",
                     language=lang)


def hear_short(model: Any, tokenizer: Any, wav: np.ndarray, frames: int, beam: int) -> str:
    """What ``model.transcribe`` hears without time stamps, with ``frames`` (of 10 ms) encoded.

    Whisper encodes 3000 frames however short a clip is, and that is nearly all of its cost.
    """
    from faster_whisper.audio import pad_or_trim
    from faster_whisper.transcribe import get_suppressed_tokens

    heard = model.encode(pad_or_trim(model.feature_extractor(wav)[..., :-1], frames))
    prompt = model.get_prompt(tokenizer, [], without_timestamps=True)
    found = model.model.generate(
        heard, [prompt], beam_size=beam, max_length=model.max_length, suppress_blank=True,
        suppress_tokens=list(get_suppressed_tokens(tokenizer, [-1])))[0]
    return tokenizer.decode(found.sequences_ids[0]).strip()


@dataclass(frozen=True)
class SphinxMeter:
    """What PocketSphinx hears, with the en-us model of its package."""

    pad_seconds: float = 0.5
    name: str = "wer"

    def describe(self) -> dict[str, str]:
        return {"name": "PocketSphinx en-us (English only; not comparable with Whisper)",
                "source": "package", "version": f"pocketsphinx {version('pocketsphinx')}"}

    def understands(self, lang: str) -> bool:
        return lang == "en"

    def key(self, lang: str) -> str:
        return f"pocketsphinx {version('pocketsphinx')} pad{self.pad_seconds} {lang}"

    def open(self) -> Measure:
        from pocketsphinx import Decoder

        decoder = Decoder(samprate=JUDGE_RATE_HZ, cmn="batch", loglevel="FATAL")

        def measure(wav: np.ndarray, lang: str) -> str:
            wav = _padded(wav, self.pad_seconds)
            decoder.start_utt()
            decoder.process_raw((wav * 32767).astype(np.int16).tobytes(), full_utt=True)
            decoder.end_utt()
            found = decoder.hyp()
            return found.hypstr if found else ""

        return measure


def cache_folder() -> Path:
    """Where tools/get_whisper.sh and the hub download put Whisper base."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "e2etts" / "whisper-base"


def lacking(folder: Path) -> list[str]:
    """Files that a CTranslate2 Whisper folder lacks."""
    out = [name for name in WHISPER_FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in VOCABULARY_FILES):
        out.append(VOCABULARY_FILES[0])
    return out


def find_recognizer(config: ScoreConfig, warn: Callable[[str], None]
                    ) -> WhisperMeter | SphinxMeter | None:
    """The explicit folder, else the cache, else the hub, else PocketSphinx with a warning.

    Returns None when no recogniser is installed at all. Raises UserError for an explicit folder
    that is not a whole model.
    """
    if config.recognizer:
        folder = Path(config.recognizer)
        missing = lacking(folder)
        if missing:
            what = f"lacks {', '.join(missing)}" if folder.is_dir() else "is not a folder"
            raise UserError(f"score.recognizer: {folder} {what}; it must be a CTranslate2 Whisper "
                            "folder; without the key it is looked for")
        if find_spec("faster_whisper") is None:
            raise UserError("score.recognizer: the package faster-whisper is not installed: "
                            "run tools/install.sh --extras score")
        return _whisper(folder, "given", config)
    if find_spec("faster_whisper") is not None:
        folder = cache_folder()
        if not lacking(folder):
            return _whisper(folder, "cache", config)
        if folder.is_dir():
            warn(f"{folder} lacks {', '.join(lacking(folder))}: not used; "
                 "run tools/get_whisper.sh")
        elif fetch_from_hub(folder, warn):
            return _whisper(folder, "hub", config)
    if find_spec("pocketsphinx") is None:
        return None
    warn(SPHINX_WARNING)
    return SphinxMeter(pad_seconds=config.pad_seconds)


def _whisper(folder: Path, source: str, config: ScoreConfig) -> WhisperMeter:
    return WhisperMeter(folder=str(folder), identity=content_hash(folder / "model.bin"),
                        source=source, beam=config.beam, pad_seconds=config.pad_seconds,
                        window_seconds=config.window_seconds)


def hub_answers(seconds: float = HUB_SECONDS) -> bool:
    """Whether the hub can be reached, known within ``seconds`` (name look-up included)."""
    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        return False
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    answered = []

    def ask() -> None:
        request = urllib.request.Request(
            f"{address}/{HUB_REPOSITORY}/resolve/main/config.json", method="HEAD")
        with contextlib.suppress(Exception), \
                urllib.request.urlopen(request, timeout=seconds) as reply:
            answered.append(reply.status < 400)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(answered and answered[0])


def fetch_from_hub(folder: Path, warn: Callable[[str], None]) -> bool:
    """Download Whisper base from the hub into ``folder``; False where that cannot be done."""
    if not hub_answers():
        return False
    from faster_whisper import download_model

    part = folder.with_name(folder.name + ".part")
    try:
        part.mkdir(parents=True, exist_ok=True)
        download_model("base", output_dir=str(part))
        if lacking(part):
            raise OSError(f"the download lacks {', '.join(lacking(part))}")
        shutil.rmtree(part / ".cache", ignore_errors=True)
        part.replace(folder)
    except Exception as e:  # whatever a download can fail with: another recogniser is next
        warn(f"Whisper base could not be fetched from the hub: {' '.join(str(e).split())}")
        return False
    return True
