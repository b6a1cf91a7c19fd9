"""Phonemes stay aligned with words, from the library and the program of espeak-ng."""

from random import Random

import pytest

from e2etts.errors import UserError
from e2etts.programs import find_program
from e2etts.text import IPA, espeak, phonemise


def have_espeak():
    try:
        find_program("espeak-ng")
    except UserError:
        return False
    return True


needs_espeak = pytest.mark.skipif(not have_espeak(), reason="espeak-ng is not on this machine")


@needs_espeak
def test_phonemes_keep_words_stress_and_punctuation():
    (out,) = phonemise(["hello, world."], "en")
    assert out.endswith(" .") and " , " in out and "ˈ" in out
    assert len(out.split()) == 4


@needs_espeak
@pytest.mark.parametrize("lang, lines", [
    ("en", ["one", "a, b, c. d!", "w. w, w", "z", "who? me? you!", "ten thirty p m, p. m."]),
    ("ru", ["добрый день", "привет smith, пока."]), ("fr", ["l'appel", "parle t'il, oui?"])])
def test_each_line_gets_the_phonemes_it_gets_alone(lang, lines):
    together = phonemise(lines, lang)
    assert together == [phonemise([line], lang)[0] for line in lines]
    for line, sounds in zip(lines, together, strict=True):
        assert [c for c in line if c in ".,?!"] == [c for c in sounds.split() if c in ".,?!"]
        assert not set("()-_") & set(sounds)


@needs_espeak
def test_long_clauses_are_phonemised_completely():
    line = " ".join(["internationalisation"] * 150)
    (out,) = phonemise([line], "en")
    assert len(out.split()) == 150


@needs_espeak
def test_no_lines_no_phonemes():
    assert phonemise([], "en") == []


SAID = {
    "en": "the old river of the a to and then i would have been there when it was read again by an "
          "x ray at ten thirty p m smith's naïve привет 你好 zzz",
    "en-gb": "water and a bottle of", "de": "der die das und nicht vielleicht über größe straßen",
    "es": "y el de la pero adónde pingüino a", "it": "e l'otto di perché che gli gnocchi",
    "fr": "de la votre et les amis sont arrivés aux états unis en dix heures un",
    "ru": "для но от что есть в замок и привет smith щука"}


@needs_espeak
@pytest.mark.parametrize("lang", SAID)
def test_library_and_program_give_the_same_phonemes(lang, monkeypatch):
    voice = "en-us" if lang == "en" else "es-419" if lang == "es" else lang
    if espeak._library_of(find_program("espeak-ng")) is None:
        pytest.skip("this espeak-ng has no library that can be loaded")
    random, words = Random(0), SAID[lang].split()
    clauses = words + [" ".join(random.choices(words, k=random.randint(1, 12))) for _ in range(60)]
    by_library = espeak.sounds(clauses, voice)
    monkeypatch.setattr(espeak, "_library_of", lambda program: None)
    assert by_library == espeak.sounds(clauses, voice)


def test_a_library_that_does_not_load_is_not_an_error(tmp_path):
    (tmp_path / "libespeak-ng.so.1").write_bytes(b"no library")
    assert espeak._library(str(tmp_path), None) is None


def fake_espeak(tmp_path, monkeypatch, script):
    path = tmp_path / "espeak"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    monkeypatch.setenv("E2ETTS_ESPEAK", str(path))


def test_a_split_answer_falls_back_to_one_process_per_clause(tmp_path, monkeypatch):
    fake_espeak(tmp_path, monkeypatch, 'while read line; do echo "$line"; case "$line" in '
                                       "long*) echo more;; esac; done\n")
    assert phonemise(["long one, two.", "three"], "en") == ["long one more , two .", "three"]


def test_a_failing_espeak_is_reported(tmp_path, monkeypatch):
    fake_espeak(tmp_path, monkeypatch, "echo no voice >&2; exit 3\n")
    with pytest.raises(UserError, match="fails with status 3: no voice"):
        phonemise(["one"], "en")


def test_a_line_without_phonemes_is_rejected(tmp_path, monkeypatch):
    fake_espeak(tmp_path, monkeypatch, "while read line; do echo; done\n")
    with pytest.raises(UserError, match="'hm': no phonemes found"):
        phonemise(["hm"], "en")


@needs_espeak
def test_every_espeak_symbol_is_in_the_inventory():
    lines = {"en": "the judge should thoroughly measure her younger brother's voice, usually",
             "es": "el pingüino de la niña llovió rápidamente hacia el guacamole",
             "fr": "un bon vin blanc, une feuille, l'agneau, aujourd'hui, dix heures",
             "it": "gli gnocchi, la scena, lo zucchero, l'acqua",
             "ru": "щука, жизнь, объезд, чай, юный, этот, хлеб, мысль"}
    for lang, line in lines.items():
        (sounds,) = phonemise([line], lang)
        assert set(sounds) <= set(IPA + " .,?!")


@needs_espeak
def test_a_region_chooses_the_accent():
    british, american = (phonemise(["water"], tag) for tag in ("en-GB", "en_US"))
    assert british != american == phonemise(["water"], "en")
    assert phonemise(["fünf."], "de-AT") == phonemise(["fünf."], "de")


def test_mandarin_becomes_syllables_with_tone_sandhi():
    assert phonemise(["你好, 银行行长不是女儿."], "zh") == [
        "ni2 hao3 , yin2 hang2 hang2 zhang3 bu2 shi4 nv3 er2 ."]
    with pytest.raises(UserError, match="no phonemes found"):
        phonemise(["的", "ʘ"], "zh")


@needs_espeak
def test_latin_words_in_mandarin_are_read_as_english():
    assert phonemise(["你 okay 吗"], "zh")[0].split()[1:-1] == phonemise(["okay"], "en")
