"""Recordings of Debian's festvox-ru in egs/mini, on a package that is made up."""

from dataclasses import replace

import festvox
import pytest
import soundfile
from mini_corpus import CONFIG, tone

from e2etts.errors import UserError

TEXTS = [f"Предложение, под номером {n}, довольно коротк+ое." for n in
         ("один", "два", "три", "четыре", "пять", "шесть")]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The unpacked package with six recordings of three seconds."""
    deb = tmp_path / "data/download/deb"
    voice = deb / festvox.VOICE
    (voice / "wav").mkdir(parents=True)
    (voice / "etc").mkdir()
    lines = [f'( ru_{n:04d} "{text}" )\n' for n, text in enumerate(TEXTS)]
    (voice / "etc/txt.done.data").write_text("".join(lines))
    for n in range(len(TEXTS)):
        soundfile.write(voice / f"wav/ru_{n:04d}.wav", tone(3.0), 16000)
    monkeypatch.setattr(festvox, "run_fetch_deb", lambda folder, packages: None)
    return deb


def fetch(package, hours, barred=()):
    config = replace(CONFIG, languages=("ru",), festvox_ru_hours=hours)
    return festvox.fetch_recordings(package, set(barred), package.parents[2], config)


def test_recordings_fill_the_hours_in_a_seeded_order(package, capsys):
    some, left_out = fetch(package, 8 / 3600)
    assert len(some) == 3 and not left_out
    assert [s.utt for s in some] == [s.utt for s in fetch(package, 8 / 3600)[0]]
    assert {(s.lang, s.voice, s.style) for s in some} == {("ru", "festvox-ru", "")}
    root = package.parents[2]
    assert all(soundfile.info(root / s.wav).duration == s.seconds for s in some)
    assert all("+" not in s.text and s.text.endswith("короткое.") for s in some)
    assert "Shmyrev" in (root / "data/wav/festvox-ru/ATTRIBUTION").read_text()
    every, _ = fetch(package, 1.0)
    assert every[:3] == some and len(every) == 6
    assert "0.01 h instead of 1.00 h: it has no more" in capsys.readouterr().out


def test_held_out_texts_and_bad_recordings_are_listed(package):
    soundfile.write(package / festvox.VOICE / "wav/ru_0001.wav", tone(0.5), 16000)
    every, left_out = fetch(package, 1.0, ["под номером четыре"])
    assert len(every) == 4
    assert {(lang, utt) for lang, utt, _ in left_out} == {
        ("ru", "festvox-ru-ru-0001"), ("ru", "festvox-ru-ru-0003")}
    reasons = " ".join(reason for *_, reason in left_out)
    assert "characters per second" in reasons and "holds a held-out text" in reasons


def test_without_hours_nothing_is_fetched_and_another_layout_is_named(package, monkeypatch):
    soundfile.write(package / festvox.VOICE / "wav/ru_0000.wav", tone(3.0), 22050)
    with pytest.raises(UserError, match="ru_0000.wav: 22050 Hz, expected 16000"):
        fetch(package, 1.0)
    (package / festvox.VOICE / "etc/txt.done.data").write_text("ru_0000 text\n")
    with pytest.raises(UserError, match="txt.done.data:1: expected"):
        fetch(package, 1.0)
    monkeypatch.setattr(festvox, "run_fetch_deb", lambda *_: pytest.fail("asked for"))
    assert fetch(package, 0.0) == ([], [])
