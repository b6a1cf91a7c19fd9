"""Roman numerals. Only capitals distinguish them from words: expand them before lower-casing."""

import re
from functools import partial

_ONES = {n: i for i, n in enumerate(["", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"])}
_NUMERAL = r"(?<![\w.'-])(?=[IVX]{2})(X{0,3})(IX|IV|V?I{0,3})"
_ALONE = re.compile(_NUMERAL + r"(?![\w'-])(\s+век[аеу]?\b)?")
_FRENCH_ORDINAL = re.compile(_NUMERAL + r"(?=(?:e|ème)s?\b)")
_OF_CENTURIES = {"века": "го", "веке": "м", "веку": "му"}


def with_digits(text: str, lang: str) -> str:
    """Convert II to XXXIX to digits, marked as ordinals where ``lang`` reads ordinals; French XIXe,
    Ier."""
    if lang == "fr":
        text = _FRENCH_ORDINAL.sub(lambda m: str(_value(m)), re.sub(r"\bIer\b", "1er", text))
    return _ALONE.sub(partial(_written, lang=lang), text)


def _value(match: re.Match) -> int:
    return 10 * len(match[1]) + _ONES[match[2]]


def _written(match: re.Match, lang: str) -> str:
    value, century = _value(match), match[3] or ""
    if lang == "ru":
        return f"{value}-{_OF_CENTURIES.get(century.strip(), 'й')}{century}"
    ordinal = lang == "it" or lang == "es" and value <= 10  # Felipe segundo, siglo diecinueve
    return f"{value}{'º' if ordinal else ''}{century}"
