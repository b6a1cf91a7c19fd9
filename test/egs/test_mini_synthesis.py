"""Synthetic speech of egs/mini: its texts, and how they are spoken."""

import shutil
from dataclasses import replace

import asterisk
import prepare_data
import pytest
import sentences
import soundfile
import synthetic
from mini_corpus import CONFIG, LOCAL, prompts, tone, wordnet
from settings import MiniData

from e2etts.errors import UserError


@pytest.mark.parametrize("text, lang, clean", [
    ("He runs home", "en", "he runs home."), ("Is it over?", "en", "is it over?"),
    ("Two words", "en", ""), ("See page 12 of it", "en", ""), ("- He runs home", "en", ""),
    ("the NATO members met", "en", ""), ("un été à la mer", "en", ""), ("a [b] c d", "en", ""),
    ("¡Qué bonita es la vida!", "es", "qué bonita es la vida!"),
    ("Это очень хорошо", "ru", "это очень хорошо."), ("é finita la carta", "it", ""),
    ("this is english", "ru", ""),
    ("word " * 19, "en", ""), ("he said: go home", "en", "he said, go home.")])
def test_only_clean_sentences_pass(text, lang, clean):
    assert sentences.clean_sentence(text, lang) == clean


def test_italian_apostrophes_become_accents():
    text = "Cio' che e' piu' bello non c'e', un po' perche' ne' lui ne' l'unita' lo sa"
    assert sentences.accented(text) == (
        "Ciò che è più bello non c'è, un po' perché né lui né l'unità lo sa")
    assert sentences.clean_sentence("E' cosi' bello", "it") == "è così bello."


def test_free_sentences_are_well_formed_and_no_prompts():
    found = prepare_data.read_sentences(LOCAL / "sentences.txt", MiniData())
    counts = {lang: sum(1 for other, _ in found if other == lang) for lang in
              MiniData().languages}
    assert counts == {"en": 100, "es": 4, "fr": 4, "it": 4, "ru": 4}
    assert len({text for _, text in found}) == 116


def test_a_bad_line_of_sentences_is_named(tmp_path):
    (tmp_path / "s.txt").write_text("en|Good line.\nbad line\n")
    with pytest.raises(UserError, match="s.txt:2: expected 'language|text'"):
        prepare_data.read_sentences(tmp_path / "s.txt", CONFIG)


def test_texts_are_seeded_dealt_out_and_hold_nothing_held_out(tmp_path):
    deb = wordnet(tmp_path)
    train = prompts(30)
    barred = {"number three", "the dog sees every cat", "more"}
    amounts = {"flite-slt": 40, "flite-rms": 40}
    texts = sentences.voice_texts("en", amounts, train, barred, deb, CONFIG)
    assert texts == sentences.voice_texts("en", amounts, train, barred, deb, CONFIG)
    assert all(38 <= len(t) <= 40 for t in texts.values())
    for text in texts["flite-slt"] + texts["flite-rms"]:
        key = f" {asterisk.words_of(text)} "
        assert not any(f" {b} " in key for b in barred) and text[-1] in ".?!"
    free = [{t for t in texts[v] if "every" in t} for v in texts]
    assert free[0] and free[1] and not free[0] & free[1]
    assert texts != sentences.voice_texts("en", amounts, train, barred, deb,
                                          replace(CONFIG, seed=2))


def test_sources_with_too_few_sentences_are_reported(tmp_path):
    deb = wordnet(tmp_path)
    for path in (deb / "usr/share/wordnet").iterdir():
        path.write_text('1 | "one two three"\n')
    with pytest.raises(UserError, match="only 1 clean sentences"):
        sentences.open_sentences("en", deb)
    path.unlink()
    with pytest.raises(UserError, match="data.noun: cannot read|data.adv: cannot read|cannot read"):
        sentences.open_sentences("en", deb)


def speak(texts, root, hours):
    return synthetic.speak_all({"flite-slt": texts}, {"flite-slt": hours}, root, CONFIG)


def test_a_voice_speaks_until_its_hours_are_full(flite, tmp_path):
    texts = [f"text number {n}." for n in range(100)]
    done, failed = speak(texts, tmp_path, 5.5 / 3600)
    assert [s.text for s in done] == texts[:6] and not failed
    again, _ = synthetic.speak_all({"flite-slt": texts}, {"flite-slt": 5.5 / 3600}, tmp_path,
                                   replace(CONFIG, workers=1))
    assert again == done
    assert all((tmp_path / s.wav).exists() and s.seconds == 1.0 for s in done)
    assert not list(tmp_path.rglob("*.spoken.wav")) and len({s.utt for s in done}) == 6


def test_other_rates_are_resampled_and_bad_answers_listed(flite, tmp_path):
    flite(tone(1.0, level=4000).repeat(2)[:22050], 22050)
    done, _ = speak(["one two three."], tmp_path, 1)
    assert soundfile.info(tmp_path / done[0].wav).samplerate == 16000
    assert abs(done[0].seconds - 1.0) < 0.01
    flite(tone(1.0, level=0))
    done, failed = speak(["four five six."], tmp_path, 1)
    assert not done and failed == [("flite-slt", "four five six.", "flite-slt wrote silence")]
    (tmp_path / "made.wav").write_bytes(b"junk")
    assert "no readable audio" in speak(["seven eight."], tmp_path, 1)[1][0][2]


def test_a_failing_program_is_reported(flite, tmp_path):
    (tmp_path / "broken").write_text("")
    with pytest.raises(UserError, match="fails with status 1 on 'one two.': bad"):
        speak(["one two."], tmp_path, 1)


def test_a_full_disk_is_said_and_leaves_nothing(flite, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(UserError, match="flite-slt: disk full; free some space"):
        speak(["one two."], tmp_path, 1)
    assert [p.name for p in tmp_path.rglob("*.wav")] == ["made.wav"]
