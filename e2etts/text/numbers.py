"""Verbalise numbers, currency amounts, dates and times, for the languages of num2words.

Each function takes and returns lower-case text; ``lang`` is a key of ``spoken.DATES``.
"""

import re
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache, partial

import num2words

from e2etts.text.spoken import (
    CURRENCIES,
    DATES,
    FRACTIONS,
    JOINED_CENTS,
    MAGNITUDES,
    ORDINALS,
    RUSSIAN_ENDINGS,
    SYMBOLS,
    THOUSANDS,
    TIME,
    UNITS,
    WORDS,
    YEARS,
)

_CODES = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY", "₽": "RUB", "руб.": "RUB"}
_SIGNS = {"eur": "€", "gbp": "£", "jpy": "¥", "usd": "$"}


def number(digits: str, lang: str) -> str:
    """Verbalise an integer; long numbers and those with leading zeros are read digit by digit."""
    if len(digits) > 1 and (digits[0] == "0" or len(digits) > 9):
        return " ".join(_words(int(d), lang) for d in digits)
    return _words(int(digits), lang)


@lru_cache(maxsize=10000)
def _words(value: int | Decimal, lang: str, **form: str | bool) -> str:
    try:
        words = num2words.num2words(value, lang=lang, **form)
    except (NotImplementedError, OverflowError):
        words = num2words.num2words(value, lang=lang)
    return words.lower().replace("-", " ").replace(",", "")


def _decimal(value: str, lang: str) -> str:
    whole, _, part = value.partition(".")
    if not part:
        return number(whole, lang)
    if lang == "ru":  # read as wholes and tenths
        return _words(Decimal(value), lang)
    digits = " ".join(_words(int(d), lang) for d in part)
    return f"{number(whole, lang)} {WORDS[lang]['point']} {digits}"


def _agreeing(value: str, forms: tuple[str, ...], lang: str) -> str:
    """The form of a noun that agrees with the number before it."""
    whole, _, part = value.partition(".")
    if lang == "ru":
        tens, ones = divmod(int(whole) % 100, 10)
        if part or (tens != 1 and ones in (2, 3, 4)):
            return forms[1]
        return forms[0] if tens != 1 and ones == 1 else forms[2]
    return forms[0 if value == "1" or lang == "fr" and int(whole) < 2 else -1]


def signs(text: str, lang: str) -> str:
    """Expand minus signs, ranges and fractions; in English and German also decades and times of
    day, which later rules would read as seconds, letters or decimals."""
    minus, to = WORDS[lang]["minus"], WORDS[lang]["to"]
    text = re.sub(r"(?<![\w.%$€£])(?:-([$€£])|([$€£])-|-)(?=\d)",
                  lambda m: f" {minus} {m[1] or m[2] or ''}", text)
    years = r"\b(1[1-9]\d\d|20\d\d)[-–](1[1-9]\d\d|20\d\d)\b(?!-)"
    if lang != "ru":
        text = re.sub(years, lambda m: f" {_year(m[1], lang, '')} {to} {_year(m[2], lang, '')} ",
                      text)
    text = re.sub(r"(?<=\d)–(?=\d)", f" {to} ", text)
    text = re.sub(r"(?:(?<![\d.,])(\d+)\s+)?(?<![\w/.,])(1/[234]|2/3|3/4)(?![\d/])",
                  lambda m: (f"{m[1]} {SYMBOLS[lang]['&']}" if m[1] else "")
                  + f" {FRACTIONS[lang][m[2]]} ", text)
    if lang == "en":
        text = re.sub(r"(?<=\d)\s?([ap])(?:m|\.m\.)(?!\w)", r" \1 m", text)
        text = re.sub(r"\b((?:1[1-9]|20)?\d0)'?s\b", lambda m: _decade(m[1]), text)
        text = re.sub(r"(?<![\w.])(?=\.\d)", "0", text)
    if lang == "de":
        text = re.sub(r"\b(\d{1,2})\.(\d{2})(?=\s*uhr\b)", r"\1:\2", text)
        text = re.sub(r"\b((?:1[1-9]|20)?\d0)er\b", lambda m: f"{_year(m[1], lang, '')}er", text)
    return text


def _decade(digits: str) -> str:
    words = _words(int(digits), "en", to="year")
    return f"{words[:-1]}ies" if words.endswith("y") else f"{words}s"


def with_decimal_points(text: str, lang: str) -> str:
    """Convert the separators of the language to a decimal point: 1.234,5 or 1 234,5 -> 1234.5."""
    group = "[" + re.escape(THOUSANDS[lang]) + "]"
    text = re.sub(rf"(?<!\d)\d{{1,3}}(?:{group}\d{{3}})+(?!\d)",
                  lambda m: re.sub(r"\D", "", m[0]), text)
    decimal = r"\." if lang == "en" else "[.,]"
    return re.sub(rf"(?<![\d.,])(\d+){decimal}(\d+)(?![\d.,]*\d)", r"\1.\2", text)


def cardinals(text: str, lang: str) -> str:
    """Verbalise all remaining numbers."""
    text = re.sub(r"(?<![\d.])\d+\.\d+(?![\d.]*\d)", lambda m: f" {_decimal(m[0], lang)} ", text)
    return re.sub(r"\d+", lambda m: f" {number(m[0], lang)} ", text)


def amounts(text: str, lang: str) -> str:
    """Verbalise currency amounts: $5.20, 5 €, 5 EUR, £3 million."""
    text = re.sub(r"(?<=\d)\s?(eur|gbp|jpy|usd)\b|\b(eur|gbp|jpy|usd)\s?(?=\d)",
                  lambda m: _SIGNS[m[1] or m[2]], text)
    if lang != "en":
        text = re.sub(r"(?<=\d)\s?euros?\b", "€", text)
    for sign in CURRENCIES[lang]:
        if sign in text:
            text = _amount_pattern(sign, lang).sub(lambda m, sign=sign: " " + _amount(
                m[1] or m[3], m[2] or m[4], sign, lang) + " ", text)
    return text


@lru_cache
def _amount_pattern(sign: str, lang: str) -> re.Pattern:
    scale = _any_of(MAGNITUDES[lang])
    amount = rf"(\d+(?:\.\d+)?)(?:\s?({scale})(?!\w))?"
    return re.compile(rf"{re.escape(sign)}\s?{amount}|{amount}\s?{re.escape(sign)}")


def _any_of(written: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(written, key=len, reverse=True)))


def _amount(value: str, scale: str | None, sign: str, lang: str) -> str:
    currency = CURRENCIES[lang][sign]
    whole, _, cents = value.partition(".")
    if scale:
        forms, of = MAGNITUDES[lang][scale]
        of = f"{of} ".lstrip()
        if lang == "fr" and of and currency[-1][0] in "aeiou":
            of = "d'"
        words = _decimal(value, lang)
        if value == "1":
            words = "eine" if lang == "de" else WORDS[lang]["one"]
        if scale == "тыс." and not cents:
            words = _words(int(whole), lang, gender="f")
        return f"{words} {_agreeing(value, forms, lang)} {of}{currency[-1]}"
    if len(cents) in (0, 2) and len(whole) < 10:
        try:
            parts = num2words.num2words(float(value), lang=lang, to="currency",
                                        currency=_CODES[sign], separator="|")
        except NotImplementedError:  # num2words lacks this currency in this language
            return f"{_decimal(value, lang)} {_agreeing(value, currency, lang)}"
        parts = parts.lower().replace("-", " ").replace(",", "").replace(" sterling", "")
        parts = [" ".join(p.split()) for p in parts.split("|")]
        kept = [p for p, amount in zip(parts, (whole, cents or "0"), strict=True) if int(amount)]
        return JOINED_CENTS[lang].join(kept or parts[:1])
    return f"{_decimal(value, lang)} {_agreeing(value, currency, lang)}"


def units(text: str, lang: str) -> str:
    """Verbalise measurements: 5 km, 20 °C."""
    def spoken(m: re.Match) -> str:
        count = WORDS[lang]["one"] if m[1] == "1" else _decimal(m[1], lang)
        return f" {count} {_agreeing(m[1], UNITS[lang][m[2]], lang)} "
    return _unit_pattern(lang).sub(spoken, text)


@lru_cache
def _unit_pattern(lang: str) -> re.Pattern:
    return re.compile(rf"(?<![\d.])(\d+(?:\.\d+)?)\s?({_any_of(UNITS[lang])})(?![\w'/²³])")


def ordinals(text: str, lang: str) -> str:
    """Verbalise ordinals: 21st, 3º, 2e, 2-й, der 3. Platz."""
    if lang == "de":
        # Only after an article or preposition: elsewhere the period may end the sentence.
        return re.sub(rf"\b({'|'.join(_GERMAN_ENDINGS)})\s+(\d{{1,3}})\.(?=\s+[^\W\d])",
                      lambda m: f"{m[1]} {_german_ordinal(m[2], m[1])} ", text)
    return re.sub(ORDINALS[lang], partial(_ordinal, lang=lang), text)


def _ordinal(match: re.Match, lang: str) -> str:
    form = {}
    if lang == "ru":
        form = RUSSIAN_ENDINGS.get("ые" if match[3] and match[2] == "е" else match[2], {})
    words = _words(int(match[1]), lang, to="ordinal", **form)
    if lang == "fr" and match[2]:
        words = words.replace("premier", "première")
    return f" {words} "


_GERMAN_ENDINGS = {"der": "", "die": "", "das": ""} | dict.fromkeys(
    ("am", "dem", "den", "des", "vom", "zum", "zur", "im", "beim", "bis", "ab", "seit", "jeden",
     "einem", "einen"), "n")


def _german_ordinal(digits: str, before: str | None) -> str:
    return _words(int(digits), "de", to="ordinal") + _GERMAN_ENDINGS.get(before or "", "r")


def dates(text: str, lang: str, month_first: bool) -> str:
    """Verbalise dates: 2024-03-15, 15/3/2024 (month_first: 3/15/2024), 15. März 2024, March 15;
    also four-digit numbers that can only be years from context."""
    months = DATES[lang]
    spoken = partial(_date, lang=lang)
    text = re.sub(r"\b(\d{4})-(\d{1,2})-(\d{1,2})\b",
                  lambda m: spoken(m[0], m[3], m[2], m[1]), text)
    day, month = (3, 1) if month_first else (1, 3)
    year = r"(?:\s*(?:г\.|года)(?!\w))?" if lang == "ru" else ""
    before = r"(?:\b(\w+)\s+)?" if lang == "de" else "()"
    text = re.sub(rf"{before}(?<![\d./-])(\d{{1,2}})([./-])(\d{{1,2}})\3(\d{{4}})(?![\d/-]){year}",
                  lambda m: spoken(m[0], m[day + 1], m[month + 1], m[5], before=m[1]), text)
    names = "|".join(m for names in months for m in names.split("|"))
    number_of = {n: str(i + 1) for i, names in enumerate(months) for n in names.split("|")}
    dot, of = (r"\." if lang == "de" else ""), (r"(?:de\s+)?" if lang == "es" else "")
    text = re.sub(rf"{before}\b(\d{{1,2}}){dot}\s+{of}({names})(?:,?\s+{of}(\d{{4}}){year})?(?!\w)",
                  lambda m: spoken(m[0], m[2], number_of[m[3]], m[4], before=m[1]), text)
    if lang == "en":
        text = re.sub(rf"\b({names})\.?\s+(\d{{1,2}})(?:st|nd|rd|th)?"
                      r"(?:(,?)\s+(\d{4}))?(?![\w:])",
                      lambda m: spoken(m[0], m[2], number_of[m[1]], m[4], comma=m[3] or ""), text)
    return re.sub(YEARS[lang][0], partial(_lone_year, lang=lang), text) if lang in YEARS else text


def _date(written: str, day: str, month: str, year: str | None, *, lang: str,
          before: str | None = None, comma: str = "") -> str:
    if int(month) > 12 >= int(day):
        day, month = month, day
    if not (1 <= int(month) <= 12 and 1 <= int(day) <= 31):
        return written
    name = DATES[lang][int(month) - 1].split("|")[0]
    first = {"es": "primero", "fr": "premier", "it": "primo"}.get(lang) if int(day) == 1 else None
    words = first or _words(int(day), lang)
    if lang == "en":
        words = f"{name} {_words(int(day), lang, to='ordinal')}{comma}"
    elif lang == "de":
        words = f"{before or ''} {_german_ordinal(day, before)} {name}"
    elif lang == "ru":
        words = f"{_words(int(day), lang, to='ordinal', case='g', gender='n')} {name}"
    else:
        words += f" de {name}" if lang == "es" else f" {name}"
    if year:
        words += (" de " if lang == "es" else " ") + _year(year, lang, "g")
        words += " года" if lang == "ru" else ""
    return f" {words} "


def _year(digits: str, lang: str, case: str) -> str:
    if lang == "ru":
        return _words(int(digits), lang, to="ordinal", case=case)
    return _words(int(digits), lang, to="year")


def _lone_year(match: re.Match, lang: str) -> str:
    before, digits, after = match[1] or "", match[2], match[3] or ""
    form = YEARS[lang][1].get(after.strip(), (after, ""))
    return f"{before}{_year(digits, lang, form[1])}{form[0]}"


def times(text: str, lang: str) -> str:
    """Verbalise times: 10:30, 10h30 in French, 10:30 Uhr in German."""
    if lang == "fr":
        text = re.sub(r"\b(\d{1,2})\s?h(?:\s?(\d{2}))?\b", lambda m: f"{m[1]}:{m[2] or '00'}", text)
    own = r"(?:\s*uhr\b)?" if lang == "de" else ""
    return re.sub(rf"\b(\d{{1,2}}):(\d{{2}})\b{own}", partial(_time, lang=lang), text)


def _time(match: re.Match, lang: str) -> str:
    hour, minute = int(match[1]), int(match[2])
    if hour > 23 or minute > 59:
        return f"{match[1]} {match[2]}"
    exact, early, joined = TIME[lang]
    form = exact if minute == 0 else early if minute < 10 else joined
    feminine = {"gender": "f"} if lang == "ru" else {}
    words = form.format(h=_words(hour, lang), m=_words(minute, lang, **feminine))
    for wrong, right in _AGREEMENT.get(lang, ()):
        words = re.sub(wrong, right, words)
    return f" {words} "


# Agreement of the unit with the number word before it.
_AGREEMENT = {
    "de": [(r"\beins uhr", "ein uhr")],
    "es": [(r"^uno\b", "una"), (r"^veintiuno\b", "veintiuna")],
    "fr": [(r"^un heures", "une heure"), (r"\bun heures", "une heures")],
    "it": [(r"^uno\b", "una")],
    "ru": [(r"\b(один) часов", r"\1 час"), (r"\b(два|три|четыре) часов", r"\1 часа"),
           (r"\b(одна) минут", r"\1 минута"), (r"\b(две|три|четыре) минут", r"\1 минуты")],
}
