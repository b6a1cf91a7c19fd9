"""Text normalisation: written text to lower-case spoken words."""

import re
import unicodedata
from functools import lru_cache

from e2etts.errors import UserError
from e2etts.text import numbers, roman
from e2etts.text.spoken import ABBREVIATIONS, SYMBOLS, WORDS

LANGUAGES = tuple(ABBREVIATIONS)
PUNCTUATION = ".,?!"
_CHARACTERS = str.maketrans({
    "’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "…": ".", ";": ",", "—": ",", "‑": "-",
    "¿": None, "¡": None, "\u00ad": None, "\u200b": None, "\ufeff": None, "。": ".", "、": ",",
    "℃": "°C", "½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4"})
_BETWEEN_NUMBERS = str.maketrans({":": ",", "–": ","})  # applied after numbers are expanded
_WIDE = re.compile("[\uff01-\uff5e\ufb00-\ufb06]+")  # full-width forms, ligatures
_HAN = "\u3400-\u9fff\uf900-\ufaff"


def language_of(tag: str) -> str:
    """The language of a tag such as "en", "en-GB" or "zh_CN".

    Raises UserError if the language has no normalisation rules.
    """
    lang = re.split("[-_]", tag)[0].lower()
    if lang not in LANGUAGES:
        raise UserError(f"language '{tag}' has no text rules; known: {', '.join(LANGUAGES)}; "
                        "add it to e2etts/text/spoken.py")
    return lang


def normalise(text: str, lang: str) -> str:
    """Convert written text to lower-case spoken words; keeps only the punctuation ``. , ? !``.

    Expands numbers, ordinals, dates, times, currency amounts, common abbreviations and symbols.
    lang: a tag of de, en, es, fr, it, ru or zh, with or without a region. Raises UserError for
    another language or an empty result.
    """
    base = language_of(lang)
    out = _WIDE.sub(lambda m: unicodedata.normalize("NFKC", m[0]), text)
    out = unicodedata.normalize("NFC", out).translate(_CHARACTERS)
    if base == "en":  # Elm St., but St. James
        out = re.sub(r"(?<=[a-z] )St\.(?!\s+[A-Z])", "Street", out)
    if base == "zh":
        out = _mandarin(out)
    else:
        out = _written_out(roman.with_digits(out, base).lower(), base, lang)
    for symbol, spoken in SYMBOLS[base].items():
        out = out.replace(symbol, f" {spoken} ")
    out = "".join(c if _spoken(c) else " " for c in unicodedata.normalize("NFC", out))
    out = re.sub(r"(?<![^\W_])'+|'+(?![^\W_])", "", out)
    out = re.sub(r"\s*([.,?!])[.,?!\s]*", r"\1 ", out)
    out = " ".join(out.split()).lstrip(".,?! ")
    if base == "zh":
        out = re.sub(rf"(?<=[{_HAN}]) (?=[{_HAN}])", "", out)
    if not any(c.isalpha() for c in out):
        raise UserError(f"'{text.strip()[:60]}': no words left after normalisation ({lang}); "
                        "correct the text or leave the utterance out")
    return out


def _spoken(c: str) -> bool:
    return c in "' .,?!" or c.isalpha() and c not in "ªº" or bool(unicodedata.combining(c))


def _written_out(text: str, lang: str, tag: str) -> str:
    if lang == "fr":  # the t of "parle-t-il" is a sound, not the letter's name
        text = re.sub(r"-t-(?=elles?\b|ils?\b|on\b)", " t'", text)
    text = text.replace("−", f" {WORDS[lang]['minus']} ")
    counted = any(map(str.isdigit, text))
    if counted:
        text = _ELIDED.sub(r"\g<0>" + _JOINER, text)
        text = numbers.signs(text, lang)
        text = numbers.dates(text, lang, month_first=tag.lower() in ("en", "en-us", "en_us"))
        text = numbers.with_decimal_points(text, lang)
        text = numbers.amounts(text, lang)
        text = numbers.units(text, lang)
        text = numbers.ordinals(text, lang)
    for pattern, spoken in _ABBREVIATION_PATTERNS[lang]:
        text = pattern.sub(spoken, text)
    text = re.sub(r"\b(?:[^\W\d_]\.){2,}", lambda m: " ".join(m[0].replace(".", "")) + " ", text)
    if counted:
        text = numbers.times(text, lang)
        text = numbers.cardinals(text, lang)
        text = re.sub(_JOINER + r"\s*", "", text)
    return text.translate(_BETWEEN_NUMBERS)


_ELIDED = re.compile(r"(?<=[^\W\d_])'(?=\d)")  # l'8 marzo is l'otto, one word
_JOINER = "\u2060"


def _spoken_pattern(written: str) -> re.Pattern:
    end = r"(?!\w)" if written[-1].isalpha() else ""
    if written.endswith("#"):
        written, end = written[:-1], r"(?=\s?\d)"
    return re.compile(rf"(?<!\w){re.escape(written)}{end}")


_ABBREVIATION_PATTERNS = {
    lang: [(_spoken_pattern(k), f" {v} ") for k, v in table.items()]
    for lang, table in ABBREVIATIONS.items()}


@lru_cache
def _wetext():
    from wetext import Normalizer  # slow import (0.5 s), needed for Mandarin only

    return Normalizer(lang="zh", operator="tn", full_to_half=True)


def _mandarin(text: str) -> str:
    """Expand numbers, dates, amounts and units with the grammars of WeTextProcessing; remaining
    digits are read one by one."""
    text = re.sub(r"[￥¥]\s?([\d.,]+[万亿]?)元?", r"\1元", text.replace("〇", "零"))
    text = numbers.with_decimal_points(text, "en")  # 1,234
    out = _wetext().normalize(text).translate(_BETWEEN_NUMBERS).lower()
    return re.sub(r"\d", lambda m: "零一二三四五六七八九"[int(m[0])], out)
