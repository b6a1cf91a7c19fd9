import pytest
import soundfile
from mini_corpus import tone


@pytest.fixture
def flite(tmp_path, monkeypatch):
    """A flite that copies a wav of a second; ``write(...)`` chooses which."""
    made = tmp_path / "made.wav"
    script = tmp_path / "flite"
    script.write_text(f'#!/bin/sh\n[ -f {tmp_path}/broken ] && {{ echo bad >&2; exit 1; }}\n'
                      f'while [ "$1" != -o ]; do shift; done; cp {made} "$2"\n')
    script.chmod(0o755)
    monkeypatch.setenv("E2ETTS_FLITE", str(script))

    def write(wav, rate=16000):
        soundfile.write(made, wav, rate)

    write(tone(1.0))
    return write
