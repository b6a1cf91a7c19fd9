"""Voices of egs/mini: which there are, what is fetched for them, how their programs are asked."""

import re

import engines
import prepare_data
import pytest
import soundfile
import synthetic
from mini_corpus import CONFIG, tone
from settings import MiniData

from e2etts.errors import UserError
from e2etts.programs import Program

PROGRAM = Program("/deb/usr/bin/it")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine without any program but those that ``machine(path, script)`` puts there."""
    monkeypatch.setenv("PATH", str(tmp_path / "usr/bin"))
    for variable in ("E2ETTS_FLITE", "E2ETTS_ESPEAK"):
        monkeypatch.delenv(variable, raising=False)
    deb = tmp_path / "deb"
    real = engines.find_program
    monkeypatch.setattr(engines, "find_program",
                        lambda name, **options: real(name, deb, **options))
    monkeypatch.setattr(engines, "DEB_ROOT", deb)

    def put(path, text="#!/bin/sh\n"):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(0o755)

    return put


def asked(voice, text, target):
    return engines.command(text, voice, target, PROGRAM)


def test_voices_are_known_by_name_and_others_are_refused():
    assert {engines.voice_language(v) for v in engines.VOICES} == set(MiniData().languages)
    assert engines.voice_language("festival-it-lp") == "it"
    assert engines.voice_language("espeak-en-f3") == "en"
    with pytest.raises(UserError, match="corpus_data.hours.flite-bob: no such voice; known: flite-"
                       "slt, .*pico-es, .*festival-it-lp, .*rhvoice-ru-elena"):
        engines.voice_language("flite-bob")
    with pytest.raises(UserError, match="held_out.espeak-de: no such voice"):
        engines.voice_language("espeak-de", "corpus_data.held_out.espeak-de")


def test_styles_of_a_voice_and_how_programs_are_asked_for_them(tmp_path):
    assert engines.voice_language("flite-slt+high") == "en"
    assert engines.voice_language("espeak-ru+whisper") == "ru"
    for voice, has in (("flite-rms+high", "neutral, fast, slow$"), ("espeak-es+", "flat, whisper"),
                       ("flite-slt+whisper", "neutral, fast, slow, high, low, flat$"),
                       ("espeak-en-f3+whisper", "low, flat$"), ("pico-es+fast", "neutral$")):
        with pytest.raises(UserError, match=f"{re.escape(voice)}: .* has no such style; .*{has}"):
            engines.voice_language(voice)
    out = str(tmp_path / "x.wav")
    calls = {v: asked(v, "a <b> c.", out).arguments[1:] for v in (
        "flite-slt", "flite-slt+neutral", "flite-slt+slow", "espeak-es", "espeak-es+whisper",
        "espeak-es+flat")}
    assert calls["flite-slt"] == calls["flite-slt+neutral"] == [
        "-voice", "slt", "-t", "a <b> c.", "-o", out]
    assert calls["flite-slt+slow"][2:4] == ["--setf", "duration_stretch=1.4"]
    assert calls["espeak-es"] == ["-v", "es-419", "-w", out, "--", "a <b> c."]
    assert calls["espeak-es+whisper"][:2] == ["-v", "es-419+whisper"]
    assert calls["espeak-es+flat"][-1] == '<prosody range="0%">a &lt;b&gt; c.</prosody>'
    assert "-m" in calls["espeak-es+flat"]


def test_programs_read_their_voices_beside_them():
    pico = asked("pico-fr", "oui.", "x.wav").arguments
    assert pico[-4:] == ["/deb/usr/share/pico/lang", "fr-FR", "x.wav", "oui."]
    festival = asked("festival-it-pc", 'perché "no".', "x.wav").arguments
    assert festival[1:3] == ["--datadir", "/deb/usr/share/festival"]
    assert b'(voice_pc_diphone)' in festival[-1] and b'perch\xe9 \\"no\\"."' in festival[-1]
    assert "да".encode() in asked("festival-ru", "да.", "x.wav").arguments[-1]
    rhvoice = asked("rhvoice-ru-elena", "да.", "x.wav")
    assert rhvoice.stdin == "да." and "elena" in rhvoice.arguments
    assert rhvoice.env == {"RHVOICE_DATA_PATH": "/deb/usr/share/RHVoice"}


def test_a_voice_reads_its_input_and_what_it_cannot_spell_is_listed(machine, tmp_path):
    soundfile.write(tmp_path / "made.wav", tone(1.0), 16000)
    machine("usr/bin/RHVoice-test", f'#!/bin/sh\nread line\n[ "$line" = да. ] && '
            f'[ "$RHVOICE_DATA_PATH" = {tmp_path}/usr/share/RHVoice ] && '
            f'/bin/cp {tmp_path}/made.wav "$4"\n')
    machine("usr/share/RHVoice/voices/elena/voice.data")
    machine("usr/bin/festival")
    machine("usr/share/festival/voices/italian/lp_diphone/festvox/lp_diphone.scm")
    hours = {"rhvoice-ru-elena": 0.5 / 3600, "festival-it-lp": 1.0}
    done, failed = synthetic.speak_all({"rhvoice-ru-elena": ["да."], "festival-it-lp": ["ты."]},
                                       hours, tmp_path, CONFIG)
    assert [(s.voice, s.lang, s.seconds) for s in done] == [("rhvoice-ru-elena", "ru", 1.0)]
    assert failed == [("festival-it-lp", "ты.", "festival-it-lp does not know 'ты'")]


def test_only_programs_of_configured_voices_are_fetched(machine, monkeypatch):
    calls = []
    monkeypatch.setattr(engines, "run_fetch_deb",
                        lambda folder, packages, *options: calls.append((packages, options)))
    config = MiniData(hours={"flite-slt": 0.0, "pico-es": 0.2, "pico-fr": 0.1, "espeak-ru": 0.0},
                      languages=("en", "es"), held_out={"festival-it-lp": 0, "flite-awb": 3})
    voices = prepare_data.voices_of(config)
    assert voices == ["pico-es", "flite-awb"]
    engines.fetch(voices)
    assert calls == [(["libttspico-utils", "flite"], ("--dependencies", "--component", "non-free"))]
    machine("deb/usr/bin/flite")
    machine("usr/bin/festival")  # without the voice: not enough
    engines.fetch(["flite-slt", "festival-it-lp"])
    assert calls[1:] == [(["festival", "festvox-italp16k"], ("--dependencies",))]
    machine("usr/share/festival/voices/italian/lp_diphone/x")
    engines.fetch(["flite-slt+fast", "festival-it-lp"])
    assert len(calls) == 2
    found = engines.find(["flite-slt+fast", "festival-it-lp"])
    assert sorted(found) == ["festival-it-lp", "flite-slt"]
    with pytest.raises(UserError, match="pico2wave with /usr/share/pico/lang/es-ES_ta.bin: not "
                       "found in PATH or .*--component non-free tools/deb libttspico-utils"):
        engines.find(["pico-es"])
