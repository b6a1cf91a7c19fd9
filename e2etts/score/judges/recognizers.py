"""Chooses the recogniser: the configured one, else Whisper base where available, else PocketSphinx,
which knows English only."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from e2etts.errors import UserError
from e2etts.files import file_sha256
from e2etts.score.config import ScoreConfig
from e2etts.score.judges import paraformer
from e2etts.score.judges.locate import (
    EXTRAS,
    HUB_REMEDY,
    Unavailable,
    cache_folder,
    hub_answers,
    locate_hub,
    require,
)
from e2etts.score.judges.trained_system import RewardMeter, TrainedSystem
from e2etts.score.judges.whisper import WhisperMeter, find_hub, padded
from e2etts.score.meter import JUDGE_RATE_HZ, Measure, Meter, each

WHISPER_FILES = ("model.bin", "config.json", "tokenizer.json")
VOCABULARY_FILES = ("vocabulary.txt", "vocabulary.json")
REMEDY = "tools/get_whisper.sh fetches Whisper base, or pass a folder: score.recognizer=FOLDER"
HUB_REPOSITORY = "Systran/faster-whisper-base"
BACKENDS = ("faster-whisper", "transformers", "funasr", "pocketsphinx", "rm")

SPHINX_WARNING = (
    "no Whisper model found: PocketSphinx is used instead. Its word error rates are far higher "
    "and NOT comparable with Whisper's, and it knows English only: sets of other languages get "
    f"no WER. {REMEDY}")


@dataclass(frozen=True)
class SphinxMeter(Meter):
    """Recognition by PocketSphinx, with the en-us model of its package."""

    pad_seconds: float = 0.5
    name: str = "wer"

    def describe(self) -> dict[str, str]:
        return {"name": "PocketSphinx en-us (English only; not comparable with Whisper)",
                "source": "package", "version": f"pocketsphinx {version('pocketsphinx')}"}

    def understands(self, lang: str) -> bool:
        return lang == "en"

    def key(self, lang: str) -> str:
        return f"pocketsphinx {version('pocketsphinx')} pad{self.pad_seconds} {lang}"

    def open(self, device: str) -> Measure:
        from pocketsphinx import Decoder

        decoder = Decoder(samprate=JUDGE_RATE_HZ, cmn="batch", loglevel="FATAL")

        def measure(wav: np.ndarray, lang: str) -> str:
            wav = padded(wav, self.pad_seconds)
            decoder.start_utt()
            decoder.process_raw((wav * 32767).astype(np.int16).tobytes(), full_utt=True)
            decoder.end_utt()
            found = decoder.hyp()
            return found.hypstr if found else ""

        return each(measure)


def whisper_folder() -> Path:
    """Where tools/get_whisper.sh and the hub download put Whisper base."""
    return cache_folder("whisper-base")


def lacking(folder: Path) -> list[str]:
    """Files that a CTranslate2 Whisper folder lacks."""
    out = [name for name in WHISPER_FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in VOCABULARY_FILES):
        out.append(VOCABULARY_FILES[0])
    return out


def find_recognizer(config: ScoreConfig, warn: Callable[[str], None]) -> Meter:
    """The recogniser of ``score.recognizer``; without it Whisper base from the cache or the hub,
    else PocketSphinx with a warning.

    Raises Unavailable where it is not installed or cannot be fetched, UserError for a folder that
    is not a whole model.
    """
    if config.recognizer:
        return named_recognizer(config.recognizer, config)
    if find_spec("faster_whisper") is not None:
        folder = whisper_folder()
        if not lacking(folder):
            return _whisper(folder, "cache", config)
        if folder.is_dir():
            warn(f"{folder} lacks {', '.join(lacking(folder))}: not used; "
                 "run tools/get_whisper.sh")
        elif fetch_from_hub(folder, warn):
            return _whisper(folder, "hub", config)
    if find_spec("pocketsphinx") is None:
        raise Unavailable("neither faster-whisper nor pocketsphinx is installed", EXTRAS)
    warn(SPHINX_WARNING)
    return SphinxMeter(pad_seconds=config.pad_seconds)


def named_recognizer(name: str, config: ScoreConfig) -> Meter:
    """The recogniser called ``BACKEND[:MODEL]``, or a CTranslate2 Whisper folder."""
    backend, _, model = name.partition(":")
    if backend not in BACKENDS:
        backend, model = "faster-whisper", name
    if backend == "transformers":
        return find_hub(config, model)
    if backend == "funasr":
        return paraformer.find(config, model)
    if backend == "pocketsphinx":
        require(["pocketsphinx"])
        return SphinxMeter(pad_seconds=config.pad_seconds)
    if backend == "rm":
        return RewardMeter(TrainedSystem.at(model))
    require(["faster_whisper"])
    folder = Path(model) if model else whisper_folder()
    if name.startswith("faster-whisper:") and model and not folder.is_dir():
        return _whisper(_from_hub(model), model, config)
    missing = lacking(folder)
    if missing:
        what = f"lacks {', '.join(missing)}" if folder.is_dir() else "is not a folder"
        raise UserError(f"score.recognizer: {folder} {what}; it must be a CTranslate2 Whisper "
                        f"folder, or one of {', '.join(BACKENDS)} with :MODEL; without the key it "
                        "is looked for")
    return _whisper(folder, "given", config)


def _from_hub(model: str) -> Path:
    """Folder in the hub's cache of a CTranslate2 model, fetched where it is not there yet."""
    found, local = locate_hub("score.recognizer=faster-whisper:", HUB_REPOSITORY, model)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(
            found, local_files_only=local,
            allow_patterns=[*WHISPER_FILES, *VOCABULARY_FILES, "preprocessor_config.json"]))
    except Exception as e:  # whatever a download can fail with
        raise Unavailable(f"{found} could not be fetched: {' '.join(str(e).split())}",
                          HUB_REMEDY) from e


def _whisper(folder: Path, source: str, config: ScoreConfig) -> WhisperMeter:
    return WhisperMeter(folder=str(folder), identity=file_sha256(folder / "model.bin"),
                        source=source, beam=config.beam, pad_seconds=config.pad_seconds,
                        window_seconds=config.window_seconds)


def fetch_from_hub(folder: Path, warn: Callable[[str], None]) -> bool:
    """Download Whisper base from the hub into ``folder``; False where that cannot be done."""
    if not hub_answers(HUB_REPOSITORY):
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
