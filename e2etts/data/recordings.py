"""Audio of utterances, from whole files or segments: headers, reading and conversion."""

import io
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from tqdm import tqdm

from e2etts.data.datadir import AudioSpan, DataDir
from e2etts.data.workers import in_order
from e2etts.errors import UserError
from e2etts.files import write_bytes

# Segment times are rounded: like Kaldi's extract-segments, accept ends this far past the audio.
_OVERSHOOT_SECONDS = 0.5
_UNREADABLE = (OSError, soundfile.SoundFileError, ValueError)


class Header(NamedTuple):
    """Audio header of one utterance; samples: length of the utterance, not of the file."""

    rate_hz: int
    channels: int
    samples: int

    @property
    def seconds(self) -> float:
        return self.samples / self.rate_hz


def header(source: AudioSpan) -> Header:
    """Rate, channels and length, without decoding. Raises UserError, as ``read`` does."""
    try:
        info = soundfile.info(source.path)
    except _UNREADABLE as e:
        raise _unreadable(source, e) from e
    start, stop = _stretch(source, info.samplerate, info.frames)
    return Header(info.samplerate, info.channels, stop - start)


def read(source: AudioSpan) -> tuple[np.ndarray, int]:
    """(samples, channels) float32 and the sample rate.

    Raises UserError when the file is missing or unreadable, or a segment lies outside of it.
    """
    try:
        with soundfile.SoundFile(source.path) as file:
            start, stop = _stretch(source, file.samplerate, file.frames)
            file.seek(start)
            return file.read(stop - start, dtype="float32", always_2d=True), file.samplerate
    except _UNREADABLE as e:
        raise _unreadable(source, e) from e


def read_mono(source: AudioSpan, sample_rate_hz: int) -> np.ndarray:
    """One channel of float32 samples at ``sample_rate_hz``, mixed down and resampled."""
    return mono_at(*read(source), sample_rate_hz)


def mono_at(wav: np.ndarray, rate_hz: int, sample_rate_hz: int) -> np.ndarray:
    """(samples, channels) at ``rate_hz``, mixed down and resampled."""
    import torch  # slow import, not needed to read headers
    import torchaudio

    mono = torch.from_numpy(wav.mean(axis=1))
    return torchaudio.functional.resample(mono, rate_hz, sample_rate_hz).numpy()


def cut(source: AudioSpan, path: Path, sample_rate_hz: int) -> np.ndarray:
    """Return the samples of a segment and write them to ``path``; like ``load_wav``, it neither
    resamples nor mixes down."""
    wav, rate = read(source)
    if rate != sample_rate_hz or wav.shape[1] != 1:
        raise UserError(f"{source.path}: {rate} Hz and {wav.shape[1]} channels, expected "
                        f"{sample_rate_hz} Hz and one: utils/fix_data_dir.py --wav_dir converts it")
    write_wav(path, wav, rate)
    return wav[:, 0].copy()


def _stretch(source: AudioSpan, rate: int, frames: int) -> tuple[int, int]:
    start = round(source.start_seconds * rate)
    stop = frames if source.end_seconds is None else round(source.end_seconds * rate)
    if start > frames or stop - frames > _OVERSHOOT_SECONDS * rate:
        raise UserError(f"{source.path}: its {frames / rate:.2f} s do not hold the segment from "
                        f"{source.start_seconds:g} to {stop / rate:g} s: correct segments")
    return start, min(stop, frames)


def _unreadable(source: AudioSpan, error: Exception) -> UserError:
    if not Path(source.path).exists():
        return UserError(f"{source.path}: no such file")
    return UserError(f"{source.path}: unreadable audio: {' '.join(str(error).split())}")


def converted(data: DataDir, folder: str | Path, sample_rate_hz: int,
              workers: int = 2) -> tuple[DataDir, dict[str, str]]:
    """Convert a set to one mono file at ``sample_rate_hz`` per utterance. Returns the set and the
    reasons for unreadable utterances, which are dropped.

    Segments, other rates and other channel counts become ``folder/<utterance>.wav`` (16 bit).
    Audio that already matches is used in place; unchanged output files are not rewritten.
    Raises UserError if an output would overwrite an input.
    """
    jobs = [(utt, data.source(utt)) for utt in data.utts]
    work = partial(_convert, folder=Path(folder), sample_rate_hz=sample_rate_hz)
    paths, wrong = {}, {}
    results = tqdm(in_order(work, jobs, workers), desc="audio", total=len(jobs), unit="utt",
                   mininterval=2.0, disable=len(jobs) < 500)
    for (utt, _), (path, reason) in zip(jobs, results, strict=True):
        if reason:
            wrong[utt] = reason
        else:
            paths[utt] = path
    left = data.subset(list(paths))
    return replace(left, wav=paths, segments={}), wrong


def _convert(job: tuple[str, AudioSpan], folder: Path, sample_rate_hz: int) -> tuple[str, str]:
    utt, source = job
    path = folder / f"{utt}.wav"
    try:
        if source == AudioSpan(source.path) and header(source)[:2] == (sample_rate_hz, 1):
            return source.path, ""
        wav = read_mono(source, sample_rate_hz)
    except UserError as e:
        return "", str(e)
    if path.resolve() == Path(source.path).resolve():
        raise UserError(f"{path}: conversion would overwrite the recording: choose another folder")
    write_wav(path, wav, sample_rate_hz)
    return str(path), ""


def write_wav(path: Path, wav: np.ndarray, sample_rate_hz: int) -> None:
    """Write 16-bit WAV from (samples,) int16 or float in [-1, 1], atomically; a file with the same
    content is not rewritten. Raises UserError if the write fails."""
    if wav.dtype != np.int16:
        wav = np.clip(wav, -1.0, 1.0)
    content = io.BytesIO()
    soundfile.write(content, wav, sample_rate_hz, "PCM_16", format="WAV")
    if not path.is_file() or path.read_bytes() != content.getvalue():
        write_bytes(path, content.getvalue())
