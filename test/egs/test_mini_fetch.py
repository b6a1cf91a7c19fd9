"""Recordings of egs/mini: fetched, checked, decoded, chosen; offline."""

import io
import tarfile
from dataclasses import replace

import asterisk
import fetch
import numpy as np
import pytest
import soundfile
from mini_corpus import CONFIG, LOCAL, tone, write_g722
from served import Handler
from settings import MiniData

from e2etts.errors import UserError


def release(names):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as tar:
        for name, content in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return raw.getvalue()


def test_the_release_is_used_where_it_can_be_reached(server, tmp_path):
    Handler.content = release({
        "./core-sounds-en.txt": b"hello: Hello.\n", "./digits/1.g722": b"x", "LICENSE": b"l",
        "../evil.g722": b"e", "/abs.g722": b"e"})
    config = replace(CONFIG, release_url=server)
    found = fetch.fetch_all(tmp_path / "download", config)
    sounds, transcript = found["en"]
    inside = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.g722"))
    assert inside == ["download/release/en/digits/1.g722"]
    assert transcript.read_text() == "hello: Hello.\n" and not (tmp_path / "evil.g722").exists()
    Handler.asked.clear()
    assert fetch.fetch_all(tmp_path / "download", config) == found and not Handler.asked


def test_neither_source_gives_one_error_that_says_both(tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    config = replace(CONFIG, release_url="http://127.0.0.1:1")
    with pytest.raises(UserError, match=r"neither the release .*refused.* nor Debian.*apt-get"):
        fetch.fetch_all(tmp_path / "download", config)


def test_a_damaged_archive_is_removed_and_debian_is_asked(server, tmp_path, monkeypatch):
    Handler.content = release({"core-sounds-en.txt": b"a: b\n" * 99})[:-30]
    monkeypatch.setattr(fetch, "fetch_from_debian", lambda lang, download, why: (lang, why))
    found = fetch.fetch_all(tmp_path, replace(CONFIG, release_url=server))
    assert "damaged" in found["en"][1] and not list(tmp_path.glob("*.tar.gz"))


def test_transcripts_with_byte_order_mark_comments_and_colons(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes("\ufeff; Comment: none\n\na/b: One: two.\nc:\na/b: again\nno line\n".encode())
    texts, sha = asterisk.read_transcript(path)
    assert texts == {"a/b": "One: two.", "c": ""} and len(sha) == 64


def test_a_changed_recording_is_noticed(tmp_path):
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds/a.g722").write_bytes(b"1")
    sums = tmp_path / "sums"
    sums.write_text("en.audio 0\n")
    with pytest.raises(UserError, match="checksum of en.audio is .*expected 0.*run again"):
        asterisk.check("en", tmp_path / "sounds", "1", sums)
    sums.write_text("en.text 1\nru.audio 0\n")
    assert list(asterisk.check("en", tmp_path / "sounds", "1", sums)) == ["a"]


def test_the_committed_sums_cover_every_language():
    kinds = [line.split()[0] for line in (LOCAL / "checksums.txt").read_text().splitlines()]
    assert kinds == [f"{lang}.{kind}" for lang in MiniData().languages
                     for kind in ("audio", "text")]


def test_prompts_that_are_not_plain_speech_are_left_out_with_their_reason():
    texts = {"beep": "[a beep]", "note": "Hello (quietly)", "good": "Hello.", "copy": "Hello.",
             "Upper": "Case.", "gone": "Not there.", "symbols": "...", "silence/1": "one"}
    shas = {n: n for n in ["beep", "note", "good", "copy", "upper", "mute", "symbols",
                           "silence/1"]} | {"copy": "copy", "good": "copy"}
    good, bad = asterisk.select("en", texts, shas)
    assert good == [("en", "copy", "Hello."), ("en", "upper", "Case.")]
    reasons = {name: reason for _, name, reason in bad}
    assert reasons["good"] == "same audio as copy" and reasons["mute"] == "no transcript"
    assert reasons["beep"] == reasons["note"] and "brackets" in reasons["beep"]
    assert reasons["gone"] == "transcript without audio" and reasons["silence/1"] == "silence"
    assert reasons["symbols"] == "no letters of the language"
    assert asterisk.text_reason("x", "hello", "ru") == "no letters of the language"


def test_misspelt_transcripts_are_put_right():
    spelling = asterisk.read_spelling(LOCAL / "spelling.tsv", "es")
    assert asterisk.respell("Numero de extension; contrasena.", spelling) == (
        "Número de extensión; contraseña.")
    assert asterisk.respell("extensiones", spelling) == "extensiones"
    for line in (LOCAL / "spelling.tsv").read_text(encoding="utf-8").splitlines():
        lang, wrong, right = line.split("\t")
        assert lang in MiniData().languages and wrong != right and wrong == wrong.lower()


def test_silence_at_the_edges_is_cut_to_what_was_asked():
    quiet = np.zeros(16000, np.int16)
    cut = asterisk.cut_edges(np.concatenate([quiet, tone(1), quiet]), 0.3)
    assert abs(len(cut) - 1.6 * 16000) < 20
    assert len(asterisk.cut_edges(tone(1), 0.3)) >= 15990
    assert len(asterisk.cut_edges(quiet, 0.3)) == 0


def test_decoding_gives_16_khz_and_is_resumable(tmp_path):
    write_g722(tmp_path / "a.g722", tone(1.0))
    write_g722(tmp_path / "b.g722", tone(1.0, level=0))
    (tmp_path / "c.g722").write_bytes(b"")
    jobs = [(tmp_path / f"{n}.g722", tmp_path / f"out/{n}.wav", 0.3) for n in "abc"]
    reasons = asterisk.decode_all(jobs, 1)
    assert reasons[:2] == ["", "silence"] and reasons[2]
    info = soundfile.info(tmp_path / "out/a.wav")
    assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
    assert abs(info.duration - 1.0) < 0.05
    before = (tmp_path / "out/a.wav").stat().st_mtime_ns
    asterisk.decode_all(jobs, 1)
    assert (tmp_path / "out/a.wav").stat().st_mtime_ns == before
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.wav"]


@pytest.mark.parametrize("seconds, level, text, reason", [
    (2.0, 0.3, "a usual text.", ""), (2.0, 1e-4, "a usual text.", "nearly silent"),
    (17.0, 0.3, "a usual text of more words than that.", "longer than 16 s"),
    (0.5, 0.3, "a text that is far too long.", "characters per second"),
    (9.0, 0.3, "short.", "characters per second")])
def test_audio_that_cannot_be_its_text(tmp_path, seconds, level, text, reason):
    soundfile.write(tmp_path / "a.wav", tone(seconds) / 8000 * level, 16000)
    found = asterisk.judge(tmp_path / "a.wav", text, seconds, MiniData())
    assert reason in found and bool(found) == bool(reason)
