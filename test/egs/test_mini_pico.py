"""SVOX Pico in egs/mini, where its package is installed or unpacked."""

from pathlib import Path

import engines
import pico
import pytest
import soundfile
import synthetic

from e2etts.errors import UserError


@pytest.fixture
def programs():
    try:
        return engines.find(["pico-es"])
    except UserError:
        pytest.skip("libttspico-utils is neither installed nor in tools/deb")


def test_a_text_is_spoken_whole(programs, tmp_path):
    short, long = (synthetic.speak(text, "pico-es", tmp_path, programs) for text in (
        "buenos días.", "buenos días. el gato duerme en la mesa de la cocina."))
    assert not short[3] and not long[3] and 1.0 < short[2] < long[2] - 1.5
    assert soundfile.info(tmp_path / long[1]).samplerate == pico.SAMPLE_RATE_HZ


def test_a_call_that_fails_is_named(programs, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "PICO_VOICES", "nowhere")
    with pytest.raises(UserError, match="fails with status 1 on .*pico_loadResource: status -"):
        synthetic.speak("hola.", "pico-es", tmp_path, programs)
    assert not list(Path(tmp_path).rglob("*.wav"))
