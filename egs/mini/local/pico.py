"""Speak a text with SVOX Pico: pico.py FOLDER LOCALE WAV TEXT

FOLDER holds the voices (LOCALE_ta.bin, LOCALE_*_sg.bin). The library is used directly, since the
program pico2wave finds its voices only below /usr. Only the standard library is used.
"""

import ctypes
import sys
import wave
from pathlib import Path

SAMPLE_RATE_HZ = 16000
MEMORY_BYTES = 2_500_000
NAME_BYTES = 200
IDLE, BUSY = 200, 201  # status of pico_getData; 0 is success elsewhere
VOICE = b"voice"


class Pico:
    """One voice, loaded. Raises RuntimeError with Pico's status where a call fails."""

    def __init__(self, folder: Path, locale: str) -> None:
        self.library = ctypes.CDLL("libttspico.so.0")
        self.memory = ctypes.create_string_buffer(MEMORY_BYTES)
        self.system, self.engine = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("initialize", self.memory, MEMORY_BYTES, ctypes.byref(self.system))
        self.call("createVoiceDefinition", self.system, VOICE)
        for kind in ("ta", "*sg"):  # text analysis, signal generation
            path = next(folder.glob(f"{locale}_{kind}.bin"), folder / f"{locale}_{kind}.bin")
            resource, name = ctypes.c_void_p(), ctypes.create_string_buffer(NAME_BYTES)
            self.call("loadResource", self.system, str(path).encode(), ctypes.byref(resource))
            self.call("getResourceName", self.system, resource, name)
            self.call("addResourceToVoiceDefinition", self.system, VOICE, name)
        self.call("newEngine", self.system, VOICE, ctypes.byref(self.engine))

    def call(self, name: str, *arguments) -> None:
        status = getattr(self.library, f"pico_{name}")(*arguments)
        if status:
            raise RuntimeError(f"pico_{name}: status {status}")

    def speak(self, text: str) -> bytes:
        """16-bit samples."""
        left, pcm = text.encode() + b"\0", b""  # the null makes Pico speak at once
        while left:
            taken = ctypes.c_int16()
            self.call("putTextUtf8", self.engine, left, ctypes.c_int16(min(len(left), 32767)),
                      ctypes.byref(taken))
            left = left[taken.value:]
            pcm += self.collect()
        return pcm

    def collect(self) -> bytes:
        pcm, status = b"", BUSY
        part, size, kind = ctypes.create_string_buffer(4096), ctypes.c_int16(), ctypes.c_int16()
        while status == BUSY:
            status = self.library.pico_getData(self.engine, part, ctypes.c_int16(len(part)),
                                               ctypes.byref(size), ctypes.byref(kind))
            pcm += part.raw[: size.value]
        if status != IDLE:
            raise RuntimeError(f"pico_getData: status {status}")
        return pcm


def main() -> None:
    folder, locale, target, text = sys.argv[1:]
    pcm = Pico(Path(folder), locale).speak(text)
    with wave.open(target, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE_HZ)
        out.writeframes(pcm)


if __name__ == "__main__":
    main()
