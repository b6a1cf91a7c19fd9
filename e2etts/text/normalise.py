"""Written text to lower-case words as they are read aloud."""

import re
import unicodedata
from functools import lru_cache

from e2etts.errors import UserError
from e2etts.text import numbers
from e2etts.text.spoken import ABBREVIATIONS, SYMBOLS

LANGUAGES = tuple(ABBREVIATIONS)
PUNCTUATION = ".,?!"
_CHARACTERS = str.maketrans({
    "’": "'", "‘": "'", "ʼ": "'", "`": "'", "´": "'", "…": ".", ";": ",", ":": ",", "—": ",",
    "–": ",", "‑": "-", "¿": None, "¡": None, "\u00ad": None, "\u200b": None, "\ufeff": None,
    "。": ".", "，": ",", "、": ",", "；": ",", "：": ",", "？": "?", "！": "!"})
_CHARACTERS_BUT_COLON = {k: v for k, v in _CHARACTERS.items() if chr(k) != ":"}
_HAN = "\u3400-\u9fff\uf900-\ufaff"


def language_of(tag: str) -> str:
    """The language whose text rules a tag such as "en", "en-GB" or "zh_CN" asks for.

    Raises UserError where there are none.
    """
    lang = re.split("[-_]", tag)[0].lower()
    if lang not in LANGUAGES:
        raise UserError(f"language '{tag}' has no text rules; known: {', '.join(LANGUAGES)}; "
                        "add it to e2etts/text/spoken.py")
    return lang


def normalise(text: str, lang: str) -> str:
    """Lower-case words as they are read aloud; of the punctuation only ``. , ? !`` stay.

    Numbers, ordinals, dates, times, amounts, common abbreviations and symbols are written out.
    lang: a tag of de, en, es, fr, it, ru or zh, with a region or without. Raises UserError for
    another language or an empty result.
    """
    base = language_of(lang)
    out = unicodedata.normalize("NFC", text).translate(_CHARACTERS_BUT_COLON)
    out = _mandarin(out) if base == "zh" else _written_out(out.lower(), base, lang)
    for symbol, spoken in SYMBOLS[base].items():
        out = out.replace(symbol, f" {spoken} ")
    out = "".join(c if c.isalpha() or unicodedata.combining(c) or c in "' .,?!" else " "
                  for c in unicodedata.normalize("NFC", out))
    out = re.sub(r"(?<![^\W_])'+|'+(?![^\W_])", "", out)
    out = re.sub(r"\s*([.,?!])[.,?!\s]*", r"\1 ", out)
    out = " ".join(out.split()).lstrip(".,?! ")
    if base == "zh":
        out = re.sub(rf"(?<=[{_HAN}]) (?=[{_HAN}])", "", out)
    if not any(c.isalpha() for c in out):
        raise UserError(f"'{text.strip()[:60]}': no words left after normalisation ({lang}); "
                        "correct the text or leave the utterance out")
    return out


def _written_out(text: str, lang: str, tag: str) -> str:
    if lang == "fr":  # the t of "parle-t-il" is a sound, not the letter's name
        text = re.sub(r"-t-(?=elles?\b|ils?\b|on\b)", " t'", text)
    text = numbers.dates(text, lang, month_first=tag.lower() in ("en", "en-us", "en_us"))
    text = numbers.with_decimal_points(text, lang)
    text = numbers.amounts(text, lang)
    text = numbers.ordinals(text, lang)
    for pattern, spoken in _ABBREVIATION_PATTERNS[lang]:
        text = pattern.sub(spoken, text)
    text = re.sub(r"\b(?:[^\W\d_]\.){2,}", lambda m: " ".join(m[0].replace(".", "")) + " ", text)
    text = numbers.times(text, lang)
    return numbers.cardinals(text.translate(_CHARACTERS), lang)


def _spoken_pattern(written: str) -> re.Pattern:
    end = "" if written[-1] in ". " else r"(?!\w)"
    return re.compile(rf"(?<!\w){re.escape(written)}{end}")


_ABBREVIATION_PATTERNS = {
    lang: [(_spoken_pattern(k), f" {v} ") for k, v in table.items()]
    for lang, table in ABBREVIATIONS.items()}


@lru_cache
def _wetext():
    from wetext import Normalizer  # half a second that other languages need not pay

    return Normalizer(lang="zh", operator="tn", full_to_half=True)


def _mandarin(text: str) -> str:
    """Numbers, dates, amounts and units by the grammars of WeTextProcessing; what digits they
    leave is read one by one."""
    out = _wetext().normalize(text).translate(_CHARACTERS).lower()
    return re.sub(r"\d", lambda m: "零一二三四五六七八九"[int(m[0])], out)


