"""Sound and spectrograms as data: URIs, so that a page needs no other file."""

import base64
import io

import numpy as np
import soundfile

WINDOW_SAMPLES, HOP_SECONDS, ROWS = 512, 0.01, 128
RANGE_DB = 70.0


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"


def audio_uri(wav: np.ndarray, rate_hz: int) -> str:
    """(samples,) in [-1, 1] as MP3, which every browser plays (Ogg: not every one)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(wav, -1, 1), rate_hz, format="MP3", subtype="MPEG_LAYER_III",
                    bitrate_mode="VARIABLE", compression_level=0.6)
    return _uri("audio/mpeg", buffer.getvalue())


def spectrogram_db(wav: np.ndarray, rate_hz: int) -> np.ndarray:
    """(ROWS, frames) decibels below the loudest point, 0 to -70; low frequencies first."""
    hop = int(HOP_SECONDS * rate_hz)
    wav = np.pad(wav, WINDOW_SAMPLES // 2)
    frames = np.lib.stride_tricks.sliding_window_view(wav, WINDOW_SAMPLES)[::hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW_SAMPLES), axis=1)[:, :-1]) ** 2
    power = power.reshape(len(frames), ROWS, -1).mean(2).T
    decibels = 10 * np.log10(np.maximum(power, 1e-12))
    return np.clip(decibels - max(decibels.max(), -40.0), -RANGE_DB, 0.0)


def spectrogram_uri(wav: np.ndarray, rate_hz: int) -> str:
    """Spectrogram as a WebP picture: 10 ms a column, 0 Hz at the bottom."""
    from matplotlib import colormaps
    from PIL import Image

    level = 1 + spectrogram_db(wav, rate_hz)[::-1] / RANGE_DB
    picture = Image.fromarray(colormaps["magma"](level, bytes=True)[..., :3])
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=55, method=4)
    return _uri("image/webp", buffer.getvalue())
