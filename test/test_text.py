"""Normalisation per language, phonemes that stay aligned, token ids that are stable."""

import os
import shutil

import pytest

from e2etts import text as text_module
from e2etts.errors import UserError
from e2etts.programs import find_program
from e2etts.text import (
    BEGIN,
    END,
    PAD,
    UNKNOWN,
    TextConfig,
    TextTokenizer,
    normalise,
    phonemise,
)


@pytest.mark.parametrize("lang, written, spoken", [
    ("en", "Press 1, or # to exit.", "press one, or number to exit."),
    ("en", "It's 10:30 P.M.", "it's ten thirty p m"),
    ("en", "At 5:00 or 6:05!", "at five o'clock or six oh five!"),
    ("en", "the 21st; $5 & 50%", "the twenty first, five dollars and fifty percent"),
    ("en", "1,234 things, 3.14", "one thousand two hundred and thirty four things, "
                                 "three point one four"),
    ("en", "Agent 007", "agent zero zero seven"),
    ("en", "Dr. Smith vs. Mr. Jones etc.", "doctor smith versus mister jones et cetera"),
    ("en", "“Hello” — it’s (really) 'me'…", "hello , it's really me.".replace(" ,", ",")),
    ("en", "follow-me, e-mail a@b", "follow me, e mail a at b"),
    ("en", "-5 degrees", "minus five degrees"),
    ("en", "wait...", "wait."),
    ("es", "¿El 1º de enero?", "el primero de enero?"),
    ("es", "Sr. López: 1.234,5 €", "señor lópez, mil doscientos treinta y cuatro coma cinco euros"),
    ("fr", "L'agent n° 3, le 1er à 10:05", "l'agent numéro trois, le premier à dix heures cinq"),
    ("fr", "Parle-t-il à Mme Roy ?", "parle t'il à madame roy?"),
    ("it", "L'operatore è al 20%", "l'operatore è al venti per cento"),
    ("ru", "Нажмите 1 и т.д.", "нажмите один и так далее"),
    ("ru", "2-й звонок", "второй звонок"),
    ("ru", "Ёлка и йод", "ёлка и йод"),
])
def test_text_as_it_is_read_aloud(lang, written, spoken):
    assert normalise(written, lang) == spoken


@pytest.mark.parametrize("lang", ["en", "es", "fr", "it", "ru"])
@pytest.mark.parametrize("written", [
    "a 0 b", "a 1000000 b", "a 12345678901234567890 b", "a 3,5 b", "a 3.5.6 b", "a 99:99 b",
    "a 1/2 b", "a #1 @2 %3 &4 *5 b", "a $1.50 b", "a 10% b", "a\tb\nc", "a 1st 2º 3e 4-й b",
    "a1b2c3"])
def test_nothing_but_letters_and_basic_punctuation_is_left(lang, written):
    out = normalise(written, lang)
    assert out and all(c.isalpha() or c in " '.,?!" for c in out)
    assert normalise(out, lang) == out


@pytest.mark.parametrize("empty", ["", "   ", "...", "¿?", "()", "—", "''"])
def test_text_without_words_is_refused(empty):
    with pytest.raises(UserError, match="no words left"):
        normalise(empty, "en")


def test_an_unknown_language_is_refused():
    with pytest.raises(UserError, match="language 'tlh' has no text rules; known: en, es"):
        normalise("nuqneH", "tlh")


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
def test_a_clause_of_any_length_is_spoken_whole():
    line = " ".join(["internationalisation"] * 150)
    (out,) = phonemise([line], "en")
    assert len(out.split()) == 150


@needs_espeak
def test_no_lines_no_phonemes():
    assert phonemise([], "en") == []


def fake_espeak(tmp_path, monkeypatch, script):
    path = tmp_path / "espeak"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(0o755)
    monkeypatch.setenv("E2ETTS_ESPEAK", str(path))


def test_a_split_answer_falls_back_to_one_process_a_clause(tmp_path, monkeypatch):
    fake_espeak(tmp_path, monkeypatch, 'while read line; do echo "$line"; case "$line" in '
                                       "long*) echo more;; esac; done\n")
    assert phonemise(["long one, two.", "three"], "en") == ["long one more , two .", "three"]


def test_a_failing_espeak_is_reported(tmp_path, monkeypatch):
    fake_espeak(tmp_path, monkeypatch, "echo no voice >&2; exit 3\n")
    with pytest.raises(UserError, match="fails with status 3: no voice"):
        phonemise(["one"], "en")


def test_a_line_without_sounds_is_refused(tmp_path, monkeypatch):
    fake_espeak(tmp_path, monkeypatch, "while read line; do echo; done\n")
    with pytest.raises(UserError, match="'hm': espeak-ng finds no sounds"):
        phonemise(["hm"], "en")


def test_programs_are_looked_up_in_order(tmp_path, monkeypatch):
    monkeypatch.delenv("E2ETTS_FLITE", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="flite: not found in .*fetch_deb.py tools/deb flite"):
        find_program("flite", tmp_path / "deb")
    inside = tmp_path / "deb/usr/bin/flite"
    libraries = tmp_path / "deb/usr/lib/x86_64-linux-gnu"
    inside.parent.mkdir(parents=True)
    (libraries / "espeak-ng-data").mkdir(parents=True)
    inside.write_text("")
    program = find_program("flite", tmp_path / "deb")
    assert program.path == str(inside)
    assert program.env["LD_LIBRARY_PATH"].split(":")[0] == str(libraries)
    assert program.env["ESPEAK_DATA_PATH"] == str(libraries)
    shutil.copy("/bin/sh", tmp_path / "flite")
    assert find_program("flite", tmp_path / "deb").path == str(tmp_path / "flite")
    monkeypatch.setenv("E2ETTS_FLITE", str(tmp_path / "none"))
    with pytest.raises(UserError, match="E2ETTS_FLITE=.*no such program"):
        find_program("flite", tmp_path / "deb")


LINES = ["həlˈoʊ wˈɜːld .", "ɡˈʊd mˈɔːɹnɪŋ , wˈɜːld !", "sʲivˈodnʲʌ ?", "ʁəvwˈaʁ ."] * 30


@pytest.mark.parametrize("kind", ["char", "unigram", "bpe"])
def test_ids_are_stable_and_nothing_known_is_lost(kind, tmp_path):
    config = TextConfig(model_type=kind, vocab_size=130)
    tokenizer = TextTokenizer.train(LINES, config)
    again = TextTokenizer.train(iter(LINES), config)
    tokenizer.save(tmp_path / "text.model")
    loaded = TextTokenizer.load(tmp_path / "text.model")
    for line in LINES[:4]:
        ids = tokenizer.encode(line)
        assert ids == again.encode(line) == loaded.encode(line)
        assert min(ids) > END and max(ids) < len(tokenizer)
        assert tokenizer.decode(ids) == line
    assert (PAD, UNKNOWN, BEGIN, END) == (0, 1, 2, 3)
    assert not tokenizer.unknown and os.listdir(tmp_path) == ["text.model"]


@pytest.mark.parametrize("kind", ["char", "unigram", "bpe"])
def test_sounds_that_training_lacks_are_covered_and_others_counted(kind):
    tokenizer = TextTokenizer.train(LINES, TextConfig(model_type=kind, vocab_size=130))
    assert UNKNOWN not in tokenizer.encode("ʒɔ̃ˈ ɣβ") and not tokenizer.unknown
    ids = tokenizer.encode("wˈ字ɜː字")
    assert ids.count(UNKNOWN) == 2 and tokenizer.unknown == {"字": 2}


def test_letters_instead_of_sounds():
    tokenizer = TextTokenizer.train(["hello there", "how are you?"] * 20,
                                    TextConfig(phonemes=False))
    assert len(tokenizer) < 30
    assert tokenizer.decode(tokenizer.encode("you are here!")) == "you are here!"


def test_broken_models_and_empty_training_text(tmp_path):
    with pytest.raises(UserError, match="no training text"):
        TextTokenizer.train(["", " "], TextConfig())
    with pytest.raises(UserError, match="cannot read the text model"):
        TextTokenizer.load(tmp_path / "none")
    (tmp_path / "bad").write_bytes(b"not a model")
    with pytest.raises(UserError, match="not a SentencePiece model"):
        TextTokenizer.load(tmp_path / "bad")
    with pytest.raises(UserError, match="cannot write"):
        TextTokenizer.train(LINES, TextConfig()).save(tmp_path / "bad" / "text.model")


@needs_espeak
def test_every_symbol_that_espeak_writes_is_in_the_inventory():
    lines = {"en": "the judge should thoroughly measure her younger brother's voice, usually",
             "es": "el pingüino de la niña llovió rápidamente hacia el guacamole",
             "fr": "un bon vin blanc, une feuille, l'agneau, aujourd'hui, dix heures",
             "it": "gli gnocchi, la scena, lo zucchero, l'acqua",
             "ru": "щука, жизнь, объезд, чай, юный, этот, хлеб, мысль"}
    for lang, line in lines.items():
        (sounds,) = phonemise([line], lang)
        assert set(sounds) <= set(text_module.IPA + " .,?!")
