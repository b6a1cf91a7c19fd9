"""Whisper as recogniser (arXiv 2212.04356): CTranslate2 models, and those of transformers."""

from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from e2etts.files import read_json
from e2etts.score.config import ScoreConfig
from e2etts.score.judges.locate import HUB_REMEDY, locate_hub, require, stamp
from e2etts.score.meter import JUDGE_RATE_HZ, Measure, Meter, WavJob, each, read_samples

LARGE, LARGE_REPOSITORY = "whisper-large-v3", "openai/whisper-large-v3"
# Mels distinguish it from versions 1 and 2, decoder layers from the turbo model.
LARGE_SIZES = {"d_model": 1280, "num_mel_bins": 128, "decoder_layers": 32}
LONGEST_WITHOUT_TIMESTAMPS = 29 * JUDGE_RATE_HZ  # Whisper's window is 30 s


def padded(wav: np.ndarray, seconds: float) -> np.ndarray:
    return np.pad(wav, int(seconds * JUDGE_RATE_HZ))


@dataclass(frozen=True)
class WhisperMeter(Meter):
    """Recognition of a wav by Whisper. Greedy fallback is off, so results do not vary.

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

    def open(self, device: str) -> Measure:
        from faster_whisper import WhisperModel

        kind, _, index = device.partition(":")
        model = WhisperModel(self.folder, device=kind, device_index=int(index or 0),
                             compute_type="int8", cpu_threads=1, local_files_only=True)
        frames = round(self.window_seconds * model.frames_per_second)
        tokenizers = cache(partial(tokenizer_of, model))

        def measure(wav: np.ndarray, lang: str) -> str:
            wav = padded(wav, self.pad_seconds)
            if len(wav) < self.window_seconds * JUDGE_RATE_HZ:
                return transcribe_short(model, tokenizers(lang), wav, frames, self.beam)
            segments, _ = model.transcribe(
                wav, language=lang, beam_size=self.beam, temperature=0.0,
                condition_on_previous_text=False, no_speech_threshold=None,
                without_timestamps=len(wav) < LONGEST_WITHOUT_TIMESTAMPS)
            return " ".join(s.text.strip() for s in segments)

        return each(measure)


def tokenizer_of(model: Any, lang: str) -> Any:
    """Tokenizer of a faster-whisper model for transcribing ``lang``."""
    from faster_whisper.tokenizer import Tokenizer

    return Tokenizer(model.hf_tokenizer, model.model.is_multilingual, task="transcribe",
                     language=lang)


def transcribe_short(model: Any, tokenizer: Any, wav: np.ndarray, frames: int, beam: int) -> str:
    """``model.transcribe`` without time stamps, with ``frames`` (of 10 ms) encoded.

    Whisper encodes 3000 frames however short a clip is, which takes nearly all of its time.
    """
    from faster_whisper.audio import pad_or_trim
    from faster_whisper.transcribe import get_suppressed_tokens

    encoded = model.encode(pad_or_trim(model.feature_extractor(wav)[..., :-1], frames))
    prompt = model.get_prompt(tokenizer, [], without_timestamps=True)
    found = model.model.generate(
        encoded, [prompt], beam_size=beam, max_length=model.max_length, suppress_blank=True,
        suppress_tokens=list(get_suppressed_tokens(tokenizer, [-1])))[0]
    return tokenizer.decode(found.sequences_ids[0]).strip()


@dataclass(frozen=True)
class HubWhisperMeter(Meter):
    """Recognition by a Whisper of transformers: float32, greedy, the first 30 s.

    model: folder or hub name; local: never contact the hub. Every clip is padded to 30 s, so that
    clips in a batch (batch_clips) are recognised as alone, up to rounding.
    """

    model: str
    local: bool = True
    batch_clips: int = 1
    name: str = "wer"
    longest_seconds = 30.0
    remedy = HUB_REMEDY

    def describe(self) -> dict[str, str]:
        return {"name": f"Whisper ({Path(self.model).name}, float32, greedy)",
                "source": self.model, "version": f"transformers {version('transformers')}"}

    def understands(self, lang: str) -> bool:
        return True

    def key(self, lang: str) -> str:
        batch = f" batch{self.batch_clips}" if self.batch_clips > 1 else ""
        return (f"hub-whisper {stamp(self.model)} transformers-{version('transformers')} {lang}"
                f"{batch}")

    def is_published(self) -> bool:
        """Whether this is Whisper large v3, of a folder by the sizes in its config.json."""
        if not Path(self.model).is_dir():
            return self.model == LARGE_REPOSITORY
        stored = read_json(Path(self.model) / "config.json") or {}
        return all(stored.get(name) == size for name, size in LARGE_SIZES.items())

    def load(self, job: WavJob) -> np.ndarray:
        return resample_fft(job.path)

    def open(self, device: str) -> Measure:
        import torch
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        processor = WhisperProcessor.from_pretrained(self.model, local_files_only=self.local)
        # Newer versions of transformers would take the type that the file was stored in.
        model = WhisperForConditionalGeneration.from_pretrained(
            self.model, local_files_only=self.local, dtype=torch.float32).to(device).eval()

        def measure(wavs: list[np.ndarray], lang: str) -> list[str]:
            features = processor(wavs, sampling_rate=JUDGE_RATE_HZ, return_tensors="pt")
            with torch.no_grad():
                ids = model.generate(features.input_features.to(device), language=lang,
                                     task="transcribe")
            return processor.batch_decode(ids, skip_special_tokens=True)

        return measure


def find_hub(config: ScoreConfig, named: str = "") -> HubWhisperMeter:
    """The model ``named``, else that of ``score.models.whisper-large-v3``, else the published one.
    Raises Unavailable where it cannot be fetched."""
    require(["transformers", "scipy"])
    key = "score.recognizer=transformers:" if named else f"score.models.{LARGE}"
    found, local = locate_hub(key, LARGE_REPOSITORY, named or config.models.get(LARGE))
    return HubWhisperMeter(found, local, batch_clips=config.batch_clips)


def resample_fft(path: Path) -> np.ndarray:
    """(samples,) float64 at 16 kHz by one Fourier transform of the whole clip, as seed-tts-eval
    reads it. Raises ValueError for more than one channel: its program does not define that."""
    import scipy.signal

    wav, rate = read_samples(path, "float64")
    if wav.shape[1] > 1:
        raise ValueError(f"{wav.shape[1]} channels: write one")
    wav = wav[:, 0]
    return wav if rate == JUDGE_RATE_HZ else \
        scipy.signal.resample(wav, int(len(wav) * JUDGE_RATE_HZ / rate))
