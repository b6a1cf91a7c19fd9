"""Text normalisation, per language."""

import pytest

from e2etts.errors import UserError
from e2etts.text import LANGUAGES, normalise


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
def test_written_text_becomes_spoken_words(lang, written, spoken):
    assert normalise(written, lang) == spoken


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("written", [
    "a 0 b", "a 1000000 b", "a 12345678901234567890 b", "a 3,5 b", "a 3.5.6 b", "a 99:99 b",
    "a 1/2 b", "a #1 @2 %3 &4 *5 b", "a $1.50 b", "a 10% b", "a\tb\nc", "a 1st 2º 3e 4-й b",
    "a1b2c3", "31.12.1999 32.13.1999 1999-99-99", "in 1984 am 3. 5. €5 mio.", "$1.234.567,89"])
def test_output_has_only_letters_and_basic_punctuation(lang, written):
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
