"""Normalisation per language, phonemes that stay aligned, token ids that are stable."""

import os
import shutil
from random import Random

import pytest
import tokenizers

from e2etts.errors import UserError
from e2etts.programs import find_program
from e2etts.text import (
    BEGIN,
    END,
    IPA,
    LANGUAGES,
    PAD,
    UNKNOWN,
    TextConfig,
    TextTokenizer,
    espeak,
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
    ("en", "On March 15, 2024 it was $1.50.", "on march fifteenth, twenty twenty four it was "
                                               "one dollar and fifty cents."),
    ("en", "Since 1984; 2024-03-15, 3/4/2021", "since nineteen eighty four, march fifteenth twenty "
                                               "twenty four, march fourth twenty twenty one"),
    ("en", "Jan 5th, £3 million, $0.01", "january fifth, three million pounds, one cent"),
    ("en", "It was 19/40/2021.", "it was nineteen forty two thousand and twenty one."),
    ("en", "May 1999, 2024 men", "may nineteen ninety nine, two thousand and twenty four men"),
    ("en-GB", "3/4/2021", "april third twenty twenty one"),
    ("es", "El 1 de enero de 2024, a la 1:05", "el primero de enero de dos mil veinticuatro, a la "
                                                "una y cinco"),
    ("es", "5,50 € o $3 millones, 15/03/2021", "cinco euros con cincuenta céntimos o tres millones "
                                               "de dólares, quince de marzo de dos mil veintiuno"),
    ("fr", "Le 1 mars 2024 à 10h30", "le premier mars deux mille vingt quatre à dix heures trente"),
    ("fr", "1 234,50 € et 5 millions €", "mille deux cent trente quatre euros et cinquante "
                                         "centimes et cinq millions d'euros"),
    ("it", "Il 1 maggio 2020: 2,50 €, 3º", "il primo maggio duemilaventi, due euro e cinquanta "
                                           "centesimi, terzo"),
    ("it", "sig. Rossi, 2 milioni €", "signor rossi, due milioni di euro"),
    ("ru", "15 марта 2024 г. в 10:01", "пятнадцатого марта две тысячи двадцать четвёртого года "
                                       "в десять часов одна минута"),
    ("ru", "в 1984 году: 21 руб., 5 млн ₽", "в тысяча девятьсот восемьдесят четвёртом году, "
                                            "двадцать один рубль, пять миллионов рублей"),
    ("ru", "01.02.2023, £5", "первого февраля две тысячи двадцать третьего года, пять фунтов"),
    ("de", "Am 15. März 2024 um 10:30 Uhr", "am fünfzehnten märz zweitausendvierundzwanzig um "
                                            "zehn uhr dreißig"),
    ("de", "der 3. Platz, zum 2. Mal, 1. Mai", "der dritte platz, zum zweiten mal, erster mai"),
    ("de", "Im Jahr 1984 kostete es 3.", "im jahr neunzehnhundertvierundachtzig kostete es drei."),
    ("de", "z. B. 1.234,56 € bzw. 5 Mio. €", "zum beispiel eintausendzweihundertvierunddreißig "
        "euro und sechsundfünfzig cent beziehungsweise fünf millionen euro"),
    ("zh", "今天是2024年3月15日，涨了50%。", "今天是二零二四年三月十五日, 涨了百分之五十."),
    ("zh", "第3名：$5.50！", "第三名, 五点五零美元!"),
    ("zh-CN", "你 好 、OK ①", "你好, ok"),
    ("es", "¿El 1º de enero?", "el primero de enero?"),
    ("es", "Sr. López: 1.234,5 €", "señor lópez, mil doscientos treinta y cuatro coma cinco euros"),
    ("fr", "L'agent n° 3, le 1er à 10:05", "l'agent numéro trois, le premier à dix heures cinq"),
    ("fr", "Parle-t-il à Mme Roy ?", "parle t'il à madame roy?"),
    ("it", "L'operatore è al 20%", "l'operatore è al venti per cento"),
    ("ru", "Нажмите 1 и т.д.", "нажмите один и так далее"),
    ("ru", "2-й звонок", "второй звонок"),
    ("ru", "Ёлка и йод", "ёлка и йод"),
    ("en", "The 1990s and the '60s, 1914–1918", "the nineteen nineties and the sixties, nineteen "
                                                "fourteen to nineteen eighteen"),
    ("en", "$5M, £20k or -$5; ¥500", "five million dollars, twenty thousand pounds or minus five "
                                     "dollars, five hundred yen"),
    ("en", "½ cup, 2 3/4 and .5", "one half cup, two and three quarters and zero point five"),
    ("en", "10:05am or 9 pm. No. I said No. 5.", "ten oh five a m or nine p m. no. i said number "
                                                 "five."),
    ("en", "−5 °C at 60 km/h, 1 km; x² = 3.14159", "minus five degrees celsius at sixty kilometers "
        "per hour, one kilometer, x squared equals three point one four one five nine"),
    ("en", "12 Elm St., of St. James", "twelve elm street, of saint james"),
    ("en", "Ｆｕｌｌ ｗｉｄｔｈ： ﬁne １２", "full width, fine twelve"),
    ("de", "Die 90er, 8.15 Uhr, 5,50 EUR", "die neunziger, acht uhr fünfzehn, fünf euro und "
                                           "fünfzig cent"),
    ("en", "World War II, Part IX, I and VI.", "world war two, part nine, i and six."),
    ("es", "El siglo XIX, Felipe II", "el siglo diecinueve, felipe segundo"),
    ("fr", "Louis XIV, au XIXe siècle, François Ier", "louis quatorze, au dix neuvième siècle, "
                                                      "françois premier"),
    ("fr", "Vers la fin, la VIE", "vers la fin, la vie"),
    ("it", "il XX secolo, Luigi XIV", "il ventesimo secolo, luigi quattordicesimo"),
    ("de", "Im XX. Jahrhundert", "im zwanzigsten jahrhundert"),
    ("ru", "XIX век, в XX веке, начало XXI века", "девятнадцатый век, в двадцатом веке, начало "
                                                  "двадцать первого века"),
    ("en", "31/12/1999, 10%-20%, 5¢", "december thirty first nineteen ninety nine, ten percent "
                                      "twenty percent, five cents"),
    ("de", "1 Mio. €", "eine million euro"), ("es", "1 millón €", "un millón de euros"),
    ("fr", "1,5 M€, la 2nde", "un virgule cinq million d'euros, la deuxième"),
    ("ru", "2 тыс. руб. 5 коп.", "две тысячи рублей пять копеек"),
    ("de", "2,5 Mio. Euro, 20 °C, 1 km, ½", "zwei komma fünf millionen euro, zwanzig grad celsius, "
                                            "ein kilometer, ein halb"),
    ("fr", "La 1re à N°5, 10 km", "la première à numéro cinq, dix kilomètres"),
    ("es", "EE. UU., n.º 5, 3 kg", "estados unidos, número cinco, tres kilogramos"),
    ("it", "l'8 marzo, all'1:00, n. 5", "l'otto marzo, all'una in punto, numero cinque"),
    ("ru", "1 %, 2%, 3,5 %, 21 км, £2", "один процент, два процента, три целых пять десятых "
                                        "процента, двадцать один километр, два фунта"),
    ("ru", "2-я, 3-е, 5-го, в 90-е годы, и т. д.", "вторая, третье, пятого, в девяностые годы, и "
                                                   "так далее"),
    ("zh", "二〇二四年，￥100.50元，1,234人", "二零二四年, 一百点五零元, 一千二百三十四人"),
    ("zh", "10：30，1～5，½", "十点三十分, 一到五, 二分之一"),
])
def test_text_as_it_is_read_aloud(lang, written, spoken):
    assert normalise(written, lang) == spoken


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("written", [
    "a 0 b", "a 1000000 b", "a 12345678901234567890 b", "a 3,5 b", "a 3.5.6 b", "a 99:99 b",
    "a 1/2 b", "a #1 @2 %3 &4 *5 b", "a $1.50 b", "a 10% b", "a\tb\nc", "a 1st 2º 3e 4-й b",
    "a1b2c3", "31.12.1999 32.13.1999 1999-99-99", "in 1984 am 3. 5. €5 mio.", "$1.234.567,89"])
def test_nothing_but_letters_and_basic_punctuation_is_left(lang, written):
    out = normalise(written, lang)
    assert out and all(c.isalpha() or c in " '.,?!" for c in out)
    assert normalise(out, lang) == out


@pytest.mark.parametrize("empty", ["", "   ", "...", "¿?", "()", "—", "''"])
def test_text_without_words_is_refused(empty):
    with pytest.raises(UserError, match="no words left"):
        normalise(empty, "en")


def test_an_unknown_language_is_refused():
    with pytest.raises(UserError, match="language 'tlh' has no text rules; known: de, en, es"):
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


SAID = {
    "en": "the old river of the a to and then i would have been there when it was read again by an "
          "x ray at ten thirty p m smith's naïve привет 你好 zzz",
    "en-gb": "water and a bottle of", "de": "der die das und nicht vielleicht über größe straßen",
    "es": "y el de la pero adónde pingüino a", "it": "e l'otto di perché che gli gnocchi",
    "fr": "de la votre et les amis sont arrivés aux états unis en dix heures un",
    "ru": "для но от что есть в замок и привет smith щука"}


@needs_espeak
@pytest.mark.parametrize("lang", SAID)
def test_library_and_program_find_the_same_sounds(lang, monkeypatch):
    voice = "en-us" if lang == "en" else "es-419" if lang == "es" else lang
    if espeak._library_of(find_program("espeak-ng")) is None:
        pytest.skip("this espeak-ng has no library that can be loaded")
    random, words = Random(0), SAID[lang].split()
    clauses = words + [" ".join(random.choices(words, k=random.randint(1, 12))) for _ in range(60)]
    by_library = espeak.sounds(clauses, voice)
    monkeypatch.setattr(espeak, "_library_of", lambda program: None)
    assert by_library == espeak.sounds(clauses, voice)


def test_a_library_that_cannot_be_loaded_is_no_error(tmp_path):
    (tmp_path / "libespeak-ng.so.1").write_bytes(b"no library")
    assert espeak._library(str(tmp_path), None) is None


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
    with pytest.raises(UserError, match="'hm': no sounds found in it"):
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
        assert set(sounds) <= set(IPA + " .,?!")


@needs_espeak
def test_a_region_chooses_the_accent():
    british, american = (phonemise(["water"], tag) for tag in ("en-GB", "en_US"))
    assert british != american == phonemise(["water"], "en")
    assert phonemise(["fünf."], "de-AT") == phonemise(["fünf."], "de")


def test_mandarin_is_read_in_syllables_with_the_tones_that_are_spoken():
    assert phonemise(["你好, 银行行长不是女儿."], "zh") == [
        "ni2 hao3 , yin2 hang2 hang2 zhang3 bu2 shi4 nv3 er2 ."]
    with pytest.raises(UserError, match="no sounds found in it"):
        phonemise(["的", "ʘ"], "zh")


@needs_espeak
def test_latin_words_in_mandarin_are_read_as_english():
    assert phonemise(["你 okay 吗"], "zh")[0].split()[1:-1] == phonemise(["okay"], "en")


SYLLABLES = ["ni2 hao3 , yi1 er4 san1 .", "wo3 shi4 lv4 shi1 !", "ˌoʊkˈeɪ wo3 men5 ?"]


@pytest.mark.parametrize("kind", ["char", "unigram", "bpe"])
def test_a_syllable_with_its_tone_is_a_token(kind):
    tokenizer = TextTokenizer.train(SYLLABLES * 30, TextConfig(model_type=kind, vocab_size=130))
    assert len(tokenizer) > 2000
    ids = tokenizer.encode("zhuang4 nv3")  # in no training line
    assert UNKNOWN not in ids and tokenizer.decode(ids) == "zhuang4 nv3"
    assert len([i for i in ids if len(tokenizer.decode([i])) > 1]) == 2


@pytest.mark.parametrize("kind", ["char", "unigram", "bpe"])
def test_a_grown_tokenizer_reads_old_text_as_before(kind):
    old = TextTokenizer.train(LINES, TextConfig(model_type=kind, vocab_size=130))
    new = old.grown(["fˈʏnf y ß", *SYLLABLES])
    assert [new.encode(line) for line in LINES[:4]] == [old.encode(line) for line in LINES[:4]]
    assert len(new) > len(old) + 2000
    assert UNKNOWN in old.encode("ʏ") and UNKNOWN not in new.encode("fˈʏnf ß ni2 zhuang4")
    assert len(new.grown(SYLLABLES)) == len(new)


@pytest.fixture
def published(tmp_path):
    """A byte-level BPE of the same form as that of Qwen3, trained on two lines."""
    bpe = tokenizers.Tokenizer(tokenizers.models.BPE())
    bpe.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = tokenizers.decoders.ByteLevel()
    bpe.train_from_iterator(["hello there", "你好"], tokenizers.trainers.BpeTrainer(
        vocab_size=300, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<|endoftext|>"]))
    bpe.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


def test_a_published_tokenizer_is_taken_as_it_is(published, tmp_path):
    config = TextConfig(model_type="published", published=str(published), phonemes=False)
    TextTokenizer.train([], config).save(tmp_path / "text.model")
    loaded = TextTokenizer.load(tmp_path / "text.model")
    theirs = tokenizers.Tokenizer.from_file(str(published / "tokenizer.json"))
    for line in ("hello there, ærlig", "你好, 再见."):
        assert loaded.encode(line) == theirs.encode(" " + line).ids
        assert loaded.decode(loaded.encode(line)) == line
        assert loaded.encode(f"{line} hello") == loaded.encode(line) + loaded.encode("hello")
    assert len(loaded) == theirs.get_vocab_size() and not loaded.unknown
    assert loaded.grown(["ж"]) is loaded


def test_a_published_tokenizer_that_cannot_be_had(published, monkeypatch):
    def config(source):
        return TextConfig(model_type="published", published=source, phonemes=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="Some/Model: no such folder, and it cannot be fetched"):
        TextTokenizer.train([], config("Some/Model"))
    with pytest.raises(UserError, match="not the name of a hub repository"):
        TextTokenizer.train([], config("no/such/folder"))
    (published / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="tokenizer.json: not a tokenizer.json"):
        TextTokenizer.train([], config(str(published)))
    (published / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="tokenizer.json: cannot read the tokenizer"):
        TextTokenizer.train([], config(str(published)))


@pytest.mark.parametrize("changes", [{"model_type": "published"}, {"published": "x"},
                                     {"model_type": "published", "published": "x"}])
def test_half_a_published_tokenizer_is_refused(changes):
    with pytest.raises(ValueError, match="publi"):
        TextConfig(**changes)
